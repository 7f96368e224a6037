//! Debian's packages of libraries, for any architecture.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::machines::Machine;
use crate::apt::Apt;
use crate::process::capture;
use crate::project::{Project, make_folder};
use crate::result::Result;

/// The packages that the libraries' archives and headers are in.
const PACKAGES: [&str; 7] = [
    "zlib1g-dev",
    "liblz4-dev",
    "libzstd-dev",
    "libbz2-dev",
    "liblua5.4-dev",
    "libgmp-dev",
    "libsqlite3-dev",
];

/// A folder with the unpacked packages. It is kept between runs; without it they are fetched anew.
pub fn unpacked(project: &Project, machine: &Machine) -> Result<PathBuf> {
    let folder = project.built(&format!("objects/packages/{}", machine.name));
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    let work = folder.join("work");
    fetch(machine, &work, &folder)
        .map_err(|reason| format!("the libraries' packages can't be had: {reason}"))?;
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::remove_dir_all(&work).map_err(failed)?;
    std::fs::write(folder.join("complete"), "").map_err(failed)?;
    println!("set-up: fetched libraries of {} for {}", machine.suite, machine.debian);
    Ok(folder)
}

fn fetch(machine: &Machine, work: &Path, folder: &Path) -> Result<()> {
    make_folder(work)?;
    let apt = Apt::configure(work, machine.suite, machine.debian)?;
    capture(apt.command("apt-get").arg("update"))?;
    capture(apt.command("apt-get").arg("download").args(PACKAGES).current_dir(work))?;
    let entries = std::fs::read_dir(work).map_err(|error| format!("{}: {error}", work.display()))?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_some_and(|end| end == "deb") {
            capture(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(folder))?;
        }
    }
    Ok(())
}
