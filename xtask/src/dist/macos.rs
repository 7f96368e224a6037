//! The libraries for macOS.
//!
//! Off a Mac they are linked against a list of symbols instead of Apple's SDK: `os-macos/sdk`. A symbol
//! that isn't in the list doesn't link.

use std::path::PathBuf;
use std::process::Command;

use object::read::archive::ArchiveFile;

use super::files::archive;
use super::folder::Dist;
use super::names::Names;
use crate::process::capture;
use crate::project::Project;
use crate::result::Result;
use crate::symbols;
use crate::targets::is_mac;
use crate::toolchain::Toolchain;

/// The shared library's file.
pub const SHARED_NAME: &str = "libexecmem.dylib";

/// Programs find the library through their own list of paths.
pub const INSTALL_NAME: &str = "@rpath/libexecmem.dylib";

/// The first system of Apple silicon. Before 13 fixups are the kind that the loader of the tests knows.
pub const OLDEST_SYSTEM: &str = "11.0";

/// Builds both libraries into a dist folder.
pub fn build(
    project: &Project,
    toolchain: &Toolchain,
    target: &str,
    dist: &Dist,
    names: &Names,
) -> Result<()> {
    let object = one_object(project, target, names.package("execmem-os-macos"), "c-library")?;
    names.rename(toolchain, &object, "_")?;
    names.hide(toolchain, &object, "_")?;
    archive(toolchain, &object, &dist.static_library())?;
    let mut linker = linker(project, toolchain, target);
    linker.args(linker_options(toolchain, &["-install_name", INSTALL_NAME]));
    for name in names.exported(project)? {
        linker.args(linker_options(toolchain, &["-exported_symbol", &format!("_{name}")]));
    }
    capture(linker.arg("-o").arg(dist.shared_library()).arg(object)).map(drop)
}

/// Lets cargo build a package, and takes from its static library the one object that holds it, with all
/// that it needs of other packages. What Rust puts beside it, libSystem has too.
pub fn one_object(project: &Project, target: &str, package: &str, feature: &str) -> Result<PathBuf> {
    let mut cargo = project.cargo(&["rustc", "--quiet", "--package", package, "--lib"]);
    cargo.args(["--profile", "c-library", "--features", feature, "--crate-type", "staticlib"]);
    cargo.args(["--target", target]).env("MACOSX_DEPLOYMENT_TARGET", OLDEST_SYSTEM);
    capture(&mut cargo)?;
    let name = package.replace('-', "_");
    let library = project.built(&format!("{target}/c-library/lib{name}.a"));
    let unreadable = |error: object::Error| format!("{}: {error}", library.display());
    let data = symbols::contents(&library)?;
    let archive = ArchiveFile::parse(&*data).map_err(unreadable)?;
    let mut own = Vec::new();
    for member in archive.members() {
        let member = member.map_err(unreadable)?;
        if member.name().starts_with(format!("{name}-").as_bytes()) {
            own.push(member.data(&*data).map_err(unreadable)?);
        }
    }
    let [object] = own[..] else {
        return Err(format!("{} has {} objects of its own, not one", library.display(), own.len()));
    };
    let file = library.with_extension("o");
    std::fs::write(&file, object).map_err(|error| format!("{} can't be written: {error}", file.display()))?;
    Ok(file)
}

/// What links a shared library: Apple's own tools on a Mac, else the linker that comes with Rust.
pub fn linker(project: &Project, toolchain: &Toolchain, target: &str) -> Command {
    let architecture = if target.starts_with("aarch64") { "arm64" } else { "x86_64" };
    if is_mac(&toolchain.host) {
        let mut compiler = Command::new("cc");
        compiler.args(["-dynamiclib", "-arch", architecture]);
        compiler.arg(format!("-mmacosx-version-min={OLDEST_SYSTEM}"));
        return compiler;
    }
    let mut linker = toolchain.mach_o_linker();
    linker.args(["-dylib", "-arch", architecture, "-lSystem", "-syslibroot"]);
    linker.arg(project.file("os-macos/sdk"));
    linker.args(["-platform_version", "macos", OLDEST_SYSTEM, OLDEST_SYSTEM]);
    linker
}

/// Options for the linker itself, also where a compiler stands in front of it.
fn linker_options(toolchain: &Toolchain, options: &[&str]) -> Vec<String> {
    match is_mac(&toolchain.host) {
        true => vec![format!("-Wl,{}", options.join(","))],
        false => options.iter().map(|option| String::from(*option)).collect(),
    }
}
