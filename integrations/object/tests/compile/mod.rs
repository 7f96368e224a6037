//! Objects that a test has the machine's compilers make.

use execmem_object::{Error, Object, process_symbol};
use std::path::Path;
use std::process::Command;

/// Loads an object that sees this process's symbols.
pub fn load(object: &[u8]) -> Result<Object, Error> {
    Object::load_with(object, process_symbol)
}

/// Runs a compiler, which writes the file `object`, and gives the file's bytes.
pub fn compile(object: &str, compiler: &mut Command) -> Vec<u8> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(object);
    let output = compiler.arg("-o").arg(&path).output();
    let output = output.unwrap_or_else(|error| {
        panic!("these tests compile C and Rust: {:?} can't be started: {error}", compiler.get_program())
    });
    assert!(output.status.success(), "{compiler:?}: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(path).unwrap()
}

/// Compiles a file of C.
pub fn cc(object: &str, source: &Path, flags: &[&str]) -> Vec<u8> {
    compile(object, Command::new("cc").arg("-c").args(flags).arg(source))
}

/// Compiles a few lines of C.
pub fn lines(name: &str, flags: &[&str], source: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("c");
    std::fs::write(&path, source).unwrap();
    cc(&format!("{name}.o"), &path, flags)
}
