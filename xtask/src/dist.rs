//! `cargo xtask dist`: the C libraries, laid out as a package of them would be installed.
//!
//! Both libraries are made of the same one object. Rust's own static library brings hundreds of
//! global symbols along, which would clash with those of another Rust program, so it is linked
//! into a single relocatable object first, and all but the `rt_*` symbols in that are made local.

use std::path::{Path, PathBuf};
use std::process::Command;

use execmem_core::abi::SYMBOL_NAMES;

use crate::Result;
use crate::macos;
use crate::process::{capture, find_program};
use crate::project::{Project, make_folder, write};
use crate::toolchain::Toolchain;

/// What programs that were linked with the shared library ask for. Its number is that of
/// `rt_abi_version`: it changes when old programs would no longer run.
const SHARED_NAME: &str = "libexecmem.so.1";

/// A folder with `include`, `lib` and `lib/pkgconfig`, for one target.
pub struct Dist {
    root: PathBuf,
    shared_name: &'static str,
}

impl Dist {
    /// Builds both libraries for `target` and lays them out.
    pub fn build(project: &Project, toolchain: &Toolchain, target: &str) -> Result<Dist> {
        toolchain.require_target(target)?;
        let is_mac = macos::is_target(target);
        let shared_name = if is_mac { macos::SHARED_NAME } else { "libexecmem.so" };
        let dist = Dist { root: project.built(&format!("dist/{target}")), shared_name };
        make_folder(&dist.include())?;
        make_folder(&dist.lib())?;
        if is_mac {
            macos::build(project, toolchain, target, &dist)?;
        } else {
            build_for_linux(project, toolchain, target, &dist)?;
        }
        copy(&project.file("include/execmem.h"), &dist.include().join("execmem.h"))?;
        write(&dist.pkg_config_folder().join("execmem.pc"), &pkg_config())?;
        Ok(dist)
    }

    /// The folder that holds all the others.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the header.
    pub fn include(&self) -> PathBuf {
        self.root.join("include")
    }

    /// The folder of the libraries.
    pub fn lib(&self) -> PathBuf {
        self.root.join("lib")
    }

    /// The static library.
    pub fn static_library(&self) -> PathBuf {
        self.lib().join("libexecmem.a")
    }

    /// The shared library, under the name that linkers look for.
    pub fn shared_library(&self) -> PathBuf {
        self.lib().join(self.shared_name)
    }

    /// The folder that pkg-config has to be told about.
    pub fn pkg_config_folder(&self) -> PathBuf {
        self.lib().join("pkgconfig")
    }
}

fn build_for_linux(project: &Project, toolchain: &Toolchain, target: &str, dist: &Dist) -> Result<()> {
    let object = project.built(&format!("{target}/c-library/execmem.o"));
    link_object(toolchain, &rust_library(project, target)?, &object)?;
    hide_all_but_listed(toolchain, &object)?;
    archive(toolchain, &object, &dist.static_library())?;
    link_shared(toolchain, target, &object, dist)
}

/// Lets cargo build the adapter as a static library.
fn rust_library(project: &Project, target: &str) -> Result<PathBuf> {
    let mut cargo = project.cargo(&["rustc", "--quiet", "--package", "execmem-os-linux", "--lib"]);
    cargo.args(["--profile", "c-library", "--features", "c-library"]);
    cargo.args(["--crate-type", "staticlib", "--target", target]);
    capture(&mut cargo)?;
    Ok(project.built(&format!("{target}/c-library/libexecmem_os_linux.a")))
}

/// One relocatable object with the listed functions and what they use.
fn link_object(toolchain: &Toolchain, library: &Path, object: &Path) -> Result<()> {
    let mut linker = toolchain.elf_linker();
    linker.args(["--relocatable", "--gc-sections"]);
    linker.args(SYMBOL_NAMES.iter().map(|name| format!("--undefined={name}")));
    capture(linker.arg("-o").arg(object).arg(library)).map(drop)
}

fn hide_all_but_listed(toolchain: &Toolchain, object: &Path) -> Result<()> {
    let mut objcopy = Command::new(toolchain.llvm_tool("llvm-objcopy")?);
    objcopy.arg("--strip-debug");
    objcopy.args(SYMBOL_NAMES.iter().map(|name| format!("--keep-global-symbol={name}")));
    capture(objcopy.arg(object)).map(drop)
}

/// Makes a static library of one object.
pub fn archive(toolchain: &Toolchain, object: &Path, library: &Path) -> Result<()> {
    remove(library)?; // Members of an older archive would stay in it.
    let mut archiver = Command::new(toolchain.llvm_tool("llvm-ar")?);
    capture(archiver.arg("crs").arg(library).arg(object)).map(drop)
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
        linker.args(["-z", "relro", "-z", "now", "-soname", SHARED_NAME]);
        linker
    } else {
        let name = c_compiler(target, &toolchain.host);
        if find_program(&name).is_none() {
            println!("left out the shared library for {target}: its C compiler `{name}` is missing");
            return Ok(());
        }
        let mut compiler = Command::new(name);
        compiler.args(["-Wl,-z,defs", "-Wl,-z,relro", "-Wl,-z,now"]);
        compiler.arg(format!("-Wl,-soname,{SHARED_NAME}"));
        compiler
    };
    capture(linker.args(["-shared", "-o"]).arg(&library).arg(object))?;
    link_name(SHARED_NAME, &dist.shared_library())
}

/// The name of the C compiler for a target, as Debian's cross compilers have it.
fn c_compiler(target: &str, host: &str) -> String {
    if target == host { "cc".to_owned() } else { target.replace("-unknown", "") + "-gcc" }
}

/// The name without a number, which `-lexecmem` looks for.
fn link_name(library: &str, name: &Path) -> Result<()> {
    std::os::unix::fs::symlink(library, name)
        .map_err(|error| format!("{} can't be linked: {error}", name.display()))
}

fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{} can't be replaced: {error}", file.display()))
        }
        _ => Ok(()),
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).map_err(|error| format!("{} can't be copied: {error}", from.display()))
}

/// The folder can be moved anywhere: its paths start from where this file lies.
fn pkg_config() -> String {
    let version = env!("CARGO_PKG_VERSION");
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
Libs.private: -lc
"
    )
}
