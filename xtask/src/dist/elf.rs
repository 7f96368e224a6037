//! One relocatable object of the kind that Linux and bare machines have.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::capture;
use crate::project::Project;
use crate::result::Result;
use crate::toolchain::Toolchain;

/// An adapter as one object, with all that it uses. No names but these are global in it.
pub fn one_object(
    project: &Project,
    toolchain: &Toolchain,
    target: &str,
    package: &str,
    names: &[String],
) -> Result<PathBuf> {
    let object = project.built(&format!("{target}/c-library/execmem.o"));
    link_object(toolchain, &rust_library(project, target, package)?, names, &object)?;
    hide_all_others(toolchain, names, &object)?;
    Ok(object)
}

/// Lets cargo build the adapter as a static library.
fn rust_library(project: &Project, target: &str, package: &str) -> Result<PathBuf> {
    let mut cargo = project.cargo(&["rustc", "--quiet", "--package", package, "--lib"]);
    cargo.args(["--profile", "c-library", "--features", "c-library"]);
    cargo.args(["--crate-type", "staticlib", "--target", target]);
    capture(&mut cargo)?;
    Ok(project.built(&format!("{target}/c-library/lib{}.a", package.replace('-', "_"))))
}

/// One relocatable object with the functions of these names and what they use.
fn link_object(toolchain: &Toolchain, library: &Path, names: &[String], object: &Path) -> Result<()> {
    let mut linker = toolchain.elf_linker();
    linker.args(["--relocatable", "--gc-sections"]);
    linker.args(names.iter().map(|name| format!("--undefined={name}")));
    capture(linker.arg("-o").arg(object).arg(library)).map(drop)
}

fn hide_all_others(toolchain: &Toolchain, names: &[String], object: &Path) -> Result<()> {
    let mut objcopy = Command::new(toolchain.llvm_tool("llvm-objcopy")?);
    objcopy.arg("--strip-debug");
    objcopy.args(names.iter().map(|name| format!("--keep-global-symbol={name}")));
    capture(objcopy.arg(object)).map(drop)
}
