//! The libraries for Linux.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::files::{archive, link_name, remove};
use super::folder::Dist;
use super::names::Names;
use crate::process::{capture, find_program};
use crate::project::Project;
use crate::result::Result;
use crate::toolchain::Toolchain;

/// The name that linkers look for.
pub const LINK_NAME: &str = "libexecmem.so";

/// What programs that were linked with the shared library ask for. Its number is that of
/// `rt_abi_version`: it changes when old programs would no longer run.
const SHARED_NAME: &str = "libexecmem.so.1";

/// Builds both libraries into a dist folder.
pub fn build(
    project: &Project,
    toolchain: &Toolchain,
    target: &str,
    dist: &Dist,
    names: &Names,
) -> Result<()> {
    let object = project.built(&format!("{target}/c-library/execmem.o"));
    let package = names.package("execmem-os-linux");
    let listed = names.listed(project)?;
    link_object(toolchain, &rust_library(project, target, package)?, &object, &listed)?;
    hide_all_but(toolchain, &object, &listed)?;
    names.rename(toolchain, &object, "")?;
    archive(toolchain, &object, &dist.static_library())?;
    link_shared(toolchain, target, &object, dist)
}

/// Lets cargo build a package, the adapter in it, as a static library.
fn rust_library(project: &Project, target: &str, package: &str) -> Result<PathBuf> {
    let mut cargo = project.cargo(&["rustc", "--quiet", "--package", package, "--lib"]);
    cargo.args(["--profile", "c-library", "--features", "c-library"]);
    cargo.args(["--crate-type", "staticlib", "--target", target]);
    capture(&mut cargo)?;
    Ok(project.built(&format!("{target}/c-library/lib{}.a", package.replace('-', "_"))))
}

/// One relocatable object with the listed functions and what they use.
fn link_object(toolchain: &Toolchain, library: &Path, object: &Path, listed: &[String]) -> Result<()> {
    let mut linker = toolchain.elf_linker();
    linker.args(["--relocatable", "--gc-sections"]);
    linker.args(listed.iter().map(|name| format!("--undefined={name}")));
    capture(linker.arg("-o").arg(object).arg(library)).map(drop)
}

fn hide_all_but(toolchain: &Toolchain, object: &Path, listed: &[String]) -> Result<()> {
    let mut objcopy = Command::new(toolchain.llvm_tool("llvm-objcopy")?);
    objcopy.arg("--strip-debug");
    objcopy.args(listed.iter().map(|name| format!("--keep-global-symbol={name}")));
    capture(objcopy.arg(object)).map(drop)
}

/// Links the shared library, or leaves it out where this machine can't.
///
/// glibc keeps a part of itself in a static library and in start files, so its own C compiler has to
/// link. With musl the names that libc defines are left to the program that loads us, whose libc has
/// them all: no musl need be here.
fn link_shared(toolchain: &Toolchain, target: &str, object: &Path, dist: &Dist) -> Result<()> {
    let library = dist.lib().join(SHARED_NAME);
    remove(&library)?;
    remove(&dist.shared_library())?;
    let mut linker = if target.ends_with("-musl") {
        let mut linker = toolchain.elf_linker();
        linker.args(["-z", "relro", "-z", "now", "-z", "nodelete", "-soname", SHARED_NAME]);
        linker
    } else {
        let name = c_compiler(target, &toolchain.host);
        if find_program(&name).is_none() {
            println!("left out the shared library for {target}: its C compiler `{name}` is missing");
            return Ok(());
        }
        let mut compiler = Command::new(name);
        compiler.args(["-Wl,-z,defs", "-Wl,-z,relro", "-Wl,-z,now"]);
        compiler.arg(format!("-Wl,-z,nodelete,-soname,{SHARED_NAME}"));
        compiler
    };
    capture(linker.args(["-shared", "-o"]).arg(&library).arg(object))?;
    link_name(SHARED_NAME, &dist.shared_library())
}

/// The name of the C compiler for a target, as Debian's cross compilers have it.
fn c_compiler(target: &str, host: &str) -> String {
    if target == host {
        "cc".to_owned()
    } else {
        target.replace("-unknown", "").replace("riscv64gc", "riscv64") + "-gcc"
    }
}
