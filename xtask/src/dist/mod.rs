//! `cargo xtask dist`: the C libraries, laid out as a package of them would be installed.
//!
//! Both libraries are made of the same one object. Rust's own static library brings hundreds of
//! global symbols along, which would clash with those of another Rust program, so it is linked
//! into a single relocatable object first, and all but the `rt_*` symbols in that are made local.
//!
//! A bare machine has the static library alone, and a second header for what a kernel has to do.

mod baremetal;
mod cmake;
mod elf;
mod files;
mod folder;
mod linux;
pub mod macos;
mod names;

pub use baremetal::symbols as bare_symbols;
pub use folder::Dist;
pub use names::Names;

use crate::project::{Project, make_folder, write};
use crate::result::Result;
use crate::targets;
use crate::toolchain::Toolchain;

/// Builds the libraries for `target` and lays them out.
pub fn build(project: &Project, toolchain: &Toolchain, target: &str) -> Result<Dist> {
    build_with(project, toolchain, target, &Names::default())
}

/// The same with other names.
pub fn build_with(project: &Project, toolchain: &Toolchain, target: &str, names: &Names) -> Result<Dist> {
    toolchain.require_target(target)?;
    let (is_mac, is_bare) = (targets::is_mac(target), targets::is_bare(target));
    let shared_name = if is_mac { macos::SHARED_NAME } else { linux::LINK_NAME };
    let dist = Dist::new(project.built(&format!("dist/{target}{}", names.suffix())), shared_name);
    make_folder(&dist.include())?;
    make_folder(&dist.lib())?;
    match (is_mac, is_bare) {
        (true, _) => macos::build(project, toolchain, target, &dist, names)?,
        (_, true) => baremetal::build(project, toolchain, target, &dist, names)?,
        _ => linux::build(project, toolchain, target, &dist, names)?,
    }
    names.write_headers(project, &dist)?;
    write(&dist.pkg_config_folder().join("execmem.pc"), &pkg_config(is_bare))?;
    if !is_bare {
        cmake::write_package(&dist)?;
    }
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
