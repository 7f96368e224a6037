//! What a compiler made for macOS, linked by the loader of the example run_object into memory of the macOS
//! library, and called there.

use super::{Machine, Scenario};
use crate::library::Library;
use std::sync::OnceLock;

// The example's own source. Its `execmem` is `tests/darwin/facade` here.
#[path = "../../../../examples/run_object/loader/mod.rs"]
#[allow(dead_code, reason = "the example uses more of it")]
mod loader;

use loader::error::Error;
use loader::image::Image;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "an object that rustc made for macOS is linked and runs wherever there is code memory",
        applies: |rules| rules.allows_jit(),
        run: runs,
    },
    Scenario {
        name: "where there is none an object is refused, not run",
        applies: |rules| !rules.allows_jit(),
        run: refused,
    },
];

macro_rules! objects {
    ($processor:literal) => {
        (
            include_bytes!(concat!("../../../../examples/objects/sample-macos-", $processor, ".o")),
            [
                include_bytes!(concat!("../../../objects/samples/macos-", $processor, "-rustc-O.o"))
                    .as_slice(),
                include_bytes!(concat!("../../../objects/samples/macos-", $processor, "-rustc-O1.o")),
            ],
        )
    };
}

#[cfg(target_arch = "aarch64")]
const OBJECTS: (&[u8], [&[u8]; 2]) = objects!("aarch64");
#[cfg(target_arch = "x86_64")]
const OBJECTS: (&[u8], [&[u8]; 2]) = objects!("x86_64");

/// Functions of `tests/objects/samples/features.rs`, their arguments and results.
const CALLS: [(&str, &[i64], i64); 10] = [
    ("shapes", &[7], 19_617),
    ("calls", &[], 1),
    ("calls", &[], 2),
    ("prime", &[4], 11),
    ("prime", &[6], -1),
    ("prime", &[-1], -1),
    ("word", &[2], 1103),
    ("word", &[5], 1906),
    ("word", &[6], -1),
    ("imported", &[], 112),
];

static LIBRARY: OnceLock<Library> = OnceLock::new();

fn install(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    LIBRARY.get_or_init(|| library);
    execmem::install(|name| LIBRARY.get().and_then(|library| library.address(name).ok()).unwrap_or(0));
    Ok(())
}

fn call(image: &Image, name: &str, arguments: &[i64]) -> Result<i64, Error> {
    let function = image.function(name)?;
    // SAFETY: the objects were made of sources that say so.
    unsafe { image.call(function, arguments) }
}

fn runs(machine: &Machine) -> Result<(), String> {
    install(machine)?;
    let (sample, features) = OBJECTS;
    let image = Image::load(sample).map_err(|error| error.to_string())?;
    check_eq!(call(&image, "sample", &[10]), Ok(2036));
    for object in features {
        let image = Image::load(object).map_err(|error| error.to_string())?;
        for (name, arguments, result) in CALLS {
            check_eq!(call(&image, name, arguments), Ok(result));
        }
        let protections: Vec<_> = image.groups().iter().map(|group| group.protection.letters()).collect();
        check_eq!(protections, ["r-x", "r--", "rw-"]);
    }
    Ok(())
}

fn refused(machine: &Machine) -> Result<(), String> {
    install(machine)?;
    check_eq!(Image::load(OBJECTS.0).err(), Some(Error::Memory(execmem::Error::Refused)));
    Ok(())
}
