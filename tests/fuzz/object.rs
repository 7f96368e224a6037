//! The loader of objects, up to the bytes that it would put into memory, of each architecture and format: the input is
//! a file. Loading ends with an error or with an image, and never panics.
#![no_main]
#![allow(dead_code, unused_imports, reason = "what puts the bytes into memory and calls them is not used")]

macro_rules! loader {
    ($($name:ident $path:literal)*) => {
        $(#[path = $path] mod $name;)*
    };
}
loader! {
    architecture "../../integrations/object/src/architecture.rs"
    builtins "../../integrations/object/src/builtins.rs"
    error "../../integrations/object/src/error.rs"
    exit "../../integrations/object/src/exit.rs"
    function "../../integrations/object/src/function.rs"
    image "../../integrations/object/src/image.rs"
    import "../../integrations/object/src/import.rs"
    layout "../../integrations/object/src/layout.rs"
    library "../../integrations/object/src/library.rs"
    link "../../integrations/object/src/link.rs"
    linker "../../integrations/object/src/linker.rs"
    loaded "../../integrations/object/src/loaded.rs"
    memory "../../integrations/object/src/memory.rs"
    message "../../integrations/object/src/message.rs"
    object_file "../../integrations/object/src/object_file.rs"
    parse "../../integrations/object/src/parse/mod.rs"
    patch "../../integrations/object/src/tests/patch.rs"
    process "../../integrations/object/src/process.rs"
    relocate "../../integrations/object/src/relocate/mod.rs"
    remedy "../../integrations/object/src/remedy.rs"
    select "../../integrations/object/src/select/mod.rs"
    startup "../../integrations/object/src/startup.rs"
    unwind "../../integrations/object/src/unwind/mod.rs"
}
use architecture::Architecture;
use error::{Error, Misfit};
use function::{Function, FunctionType};
use image::Segment;
use import::Import;
use linker::Linker;
use loaded::Object;
use process::process_symbol;

libfuzzer_sys::fuzz_target!(|file: &[u8]| {
    if let Err(error) = patch::prepare(file) {
        assert!(!error.to_string().is_empty());
    }
});
