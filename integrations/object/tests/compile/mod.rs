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

/// Compiles a few lines of C++.
#[allow(dead_code, reason = "not every test that has this module needs it")]
pub fn lines_of_cpp(name: &str, flags: &[&str], source: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).with_extension("cpp");
    std::fs::write(&path, source).unwrap();
    compile(&format!("{name}.o"), Command::new("c++").arg("-c").args(flags).arg(path))
}

/// Makes an archive of objects that were compiled under these names.
#[allow(dead_code, reason = "not every test that has this module needs it")]
pub fn archive(name: &str, form: &str, members: &[&str]) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(name);
    let _ = std::fs::remove_file(&path);
    let members = members.iter().map(|member| format!("{member}.o"));
    let status = Command::new("ar").current_dir(folder).arg(form).arg(name).args(members).status();
    assert!(status.is_ok_and(|status| status.success()), "ar {form} {name}");
    std::fs::read(path).unwrap()
}
