//! Where things are in this project.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::result::Result;

/// The project's folder, and the one that builds write to.
pub struct Project {
    root: PathBuf,
    target: PathBuf,
}

impl Project {
    /// From what cargo tells the programs that it runs.
    pub fn find() -> Result<Project> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let root = package.as_deref().and_then(Path::parent).map(Path::to_owned);
        let root = root.ok_or("please run this as `cargo xtask`")?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(chosen) => std::path::absolute(chosen).map_err(|error| error.to_string())?,
            None => root.join("target"),
        };
        Ok(Project { root, target })
    }

    /// A file of the project.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file that a build writes.
    pub fn built(&self, path: &str) -> PathBuf {
        self.target.join(path)
    }

    /// cargo, working on this project.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).args(arguments);
        cargo
    }
}

/// Writes a file and the folders that it needs.
pub fn write(path: &Path, content: &(impl AsRef<[u8]> + ?Sized)) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    std::fs::write(path, content).map_err(|error| format!("{} can't be written: {error}", path.display()))
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| format!("{} can't be read: {error}", path.display()))
}

/// Makes a folder and those above it.
pub fn make_folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| format!("{} can't be made: {error}", path.display()))
}
