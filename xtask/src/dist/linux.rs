//! The libraries for Linux.

use std::path::Path;
use std::process::Command;

use super::elf::one_object;
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
    let package = names.package("execmem-os-linux");
    let object = one_object(project, toolchain, target, package, &names.listed(project)?)?;
    names.rename(toolchain, &object, "")?;
    archive(toolchain, &object, &dist.static_library())?;
    link_shared(toolchain, target, &object, dist)
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
