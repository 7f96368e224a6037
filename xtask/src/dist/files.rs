//! Making and replacing files.

use std::path::Path;
use std::process::Command;

use crate::process::capture;
use crate::result::Result;
use crate::toolchain::Toolchain;

/// Makes a static library of one object.
pub fn archive(toolchain: &Toolchain, object: &Path, library: &Path) -> Result<()> {
    remove(library)?; // Members of an older archive would stay in it.
    let mut archiver = Command::new(toolchain.llvm_tool("llvm-ar")?);
    capture(archiver.arg("crs").arg(library).arg(object)).map(drop)
}

/// The name without a number, which `-lexecmem` looks for.
pub fn link_name(library: &str, name: &Path) -> Result<()> {
    std::os::unix::fs::symlink(library, name)
        .map_err(|error| format!("{} can't be linked: {error}", name.display()))
}

/// Removes a file, if there is one.
pub fn remove(file: &Path) -> Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{} can't be replaced: {error}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Copies a file over another one.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).map(drop).map_err(|error| format!("{} can't be copied: {error}", from.display()))
}
