//! `cargo xtask dist`: the C libraries, laid out as a package of them would be installed.
//!
//! Both libraries are made of the same one object. Rust's own static library brings hundreds of
//! global symbols along, which would clash with those of another Rust program, so it is linked
//! into a single relocatable object first, and all but the `rt_*` symbols in that are made local.
//!
//! A bare machine has the static library alone, and a second header for what a kernel has to do.

mod baremetal;
mod elf;
mod files;
mod folder;
mod linux;
pub mod macos;

pub use baremetal::symbols as bare_symbols;
pub use folder::Dist;

use crate::project::{Project, make_folder, write};
use crate::result::Result;
use crate::targets;
use crate::toolchain::Toolchain;

/// Builds the libraries for `target` and lays them out.
pub fn build(project: &Project, toolchain: &Toolchain, target: &str) -> Result<Dist> {
    toolchain.require_target(target)?;
    let (is_mac, is_bare) = (targets::is_mac(target), targets::is_bare(target));
    let shared_name = if is_mac { macos::SHARED_NAME } else { linux::LINK_NAME };
    let dist = Dist::new(project.built(&format!("dist/{target}")), shared_name);
    make_folder(&dist.include())?;
    make_folder(&dist.lib())?;
    match (is_mac, is_bare) {
        (true, _) => macos::build(project, toolchain, target, &dist)?,
        (_, true) => baremetal::build(project, toolchain, target, &dist)?,
        _ => linux::build(project, toolchain, target, &dist)?,
    }
    files::copy(&project.file("include/execmem.h"), &dist.include().join("execmem.h"))?;
    write(&dist.pkg_config_folder().join("execmem.pc"), &pkg_config(is_bare))?;
    Ok(dist)
}

/// The folder can be moved anywhere: its paths start from where this file lies.
fn pkg_config(is_bare: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let needed = if is_bare { "" } else { "Libs.private: -lc\n" };
    format!(
        "\
prefix=${{pcfiledir}}/../..
includedir=${{prefix}}/include
libdir=${{prefix}}/lib

Name: execmem
Description: Executable memory and mapped files for language runtimes, JIT compilers and kernels
Version: {version}
Cflags: -I${{includedir}}
Libs: -L${{libdir}} -lexecmem
{needed}"
    )
}
