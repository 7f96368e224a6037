//! The library for kernels: an archive that needs nothing but what the kernel gives it, and a header for that.

use execmem_core::abi::SYMBOL_NAMES;

use super::elf::one_object;
use super::files::{archive, copy};
use super::folder::Dist;
use super::names::Names;
use crate::header;
use crate::project::{Project, read};
use crate::result::Result;
use crate::toolchain::Toolchain;

/// Builds the library into a dist folder.
pub fn build(
    project: &Project,
    toolchain: &Toolchain,
    target: &str,
    dist: &Dist,
    names: &Names,
) -> Result<()> {
    if *names != Names::default() {
        return Err("libraries for kernels have the symbols by their own names, and all of them".into());
    }
    let object = one_object(project, toolchain, target, "execmem-os-baremetal", &symbols(project)?)?;
    archive(toolchain, &object, &dist.static_library())?;
    copy(&project.file(header::BARE_MACHINE), &dist.include().join("execmem_baremetal.h"))
}

/// What it defines: the listed symbols, and what the header for kernels declares.
pub fn symbols(project: &Project) -> Result<Vec<String>> {
    let own = header::functions(&read(&project.file(header::BARE_MACHINE))?);
    Ok(SYMBOL_NAMES.iter().map(|name| (*name).to_owned()).chain(own).collect())
}
