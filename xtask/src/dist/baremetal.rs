//! The library for kernels: an archive that needs nothing but what the kernel gives it, and a header for that.

use execmem_core::abi::SYMBOL_NAMES;

use super::elf::one_object;
use super::files::{archive, copy};
use super::folder::Dist;
use crate::header;
use crate::project::{Project, read};
use crate::result::Result;
use crate::toolchain::Toolchain;

/// Builds the library into a dist folder.
pub fn build(project: &Project, toolchain: &Toolchain, target: &str, dist: &Dist) -> Result<()> {
    let names = symbols(project)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let object = one_object(project, toolchain, target, "execmem-os-baremetal", &names)?;
    archive(toolchain, &object, &dist.static_library())?;
    copy(&project.file(header::BARE_MACHINE), &dist.include().join("execmem_baremetal.h"))
}

/// What it defines: the listed symbols, and what the header for kernels declares.
pub fn symbols(project: &Project) -> Result<Vec<String>> {
    let own = header::functions(&read(&project.file(header::BARE_MACHINE))?);
    Ok(SYMBOL_NAMES.iter().map(|name| (*name).to_owned()).chain(own).collect())
}
