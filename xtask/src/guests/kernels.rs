//! Debian's kernels: which of them, and how they come here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machines::Architecture::{self, Aarch64, Riscv64, X86_64};
use crate::apt::Apt;
use crate::process::capture;
use crate::project::Project;
use crate::result::Result;

/// A kernel, and the machine that it runs on.
pub struct Kernel {
    /// A word to tell it by.
    pub name: &'static str,
    /// The release of Debian that it belongs to.
    suite: &'static str,
    /// The package that depends on its newest version there.
    package: &'static str,
    pub architecture: Architecture,
    /// QEMU's name of the processor.
    pub processor: &'static str,
    pub processors: u32,
    /// Whether it is tested wherever all parts are: one of each architecture.
    pub is_in_short_form: bool,
}

const fn kernel(
    name: &'static str,
    suite: &'static str,
    package: &'static str,
    architecture: Architecture,
) -> Kernel {
    let (processor, processors) = match architecture {
        X86_64 => ("max", 2),
        // It has no IDC and no DIC: both loops of a flush run.
        Aarch64 => ("cortex-a72", 2),
        Riscv64 => ("rv64", 4),
    };
    Kernel { name, suite, package, architecture, processor, processors, is_in_short_form: false }
}

/// Each release has the newest kernel of its series: 5.10, 6.1 and 6.12. What came in between is missing in the older
/// ones, so that what the library does without it runs for real: MADV_POPULATE_READ (5.14), MFD_EXEC and PR_SET_MDWE
/// (6.3), PROCMAP_QUERY (6.11).
pub static KERNELS: [Kernel; 8] = [
    Kernel { is_in_short_form: true, ..kernel("x86_64-5.10", "bullseye", "linux-image-amd64", X86_64) },
    kernel("x86_64-6.1", "bookworm", "linux-image-amd64", X86_64),
    kernel("x86_64-6.12", "trixie", "linux-image-amd64", X86_64),
    kernel("aarch64-5.10", "bullseye", "linux-image-arm64", Aarch64),
    kernel("aarch64-6.1", "bookworm", "linux-image-arm64", Aarch64),
    kernel("aarch64-6.12", "trixie", "linux-image-arm64", Aarch64),
    Kernel {
        is_in_short_form: true,
        // Cortex-A72 has no pages of 16 KiB. QEMU's `max` has, and executes stale code there at offsets of 4096 and more.
        processor: "neoverse-n1",
        ..kernel("aarch64-16k-6.12", "trixie", "linux-image-arm64-16k", Aarch64)
    },
    Kernel { is_in_short_form: true, ..kernel("riscv64-6.12", "trixie", "linux-image-riscv64", Riscv64) },
];

impl Kernel {
    /// The kernel's image. It is kept between runs; without its folder it is fetched anew.
    pub fn image(&self, project: &Project) -> Result<PathBuf> {
        let folder = project.built(&format!("guests/kernels/{}", self.name));
        let image = folder.join("vmlinuz");
        if !image.exists() {
            let work = folder.join("work");
            self.fetch(&work, &image).map_err(|reason| format!("{} can't be had: {reason}", self.package))?;
            fs::remove_dir_all(&work).map_err(|error| format!("{}: {error}", work.display()))?;
        }
        Ok(image)
    }

    /// Downloads the package with an apt of its own, which knows nothing but the suite: what this machine has installed
    /// and where it installs from stays as it is.
    fn fetch(&self, work: &Path, image: &Path) -> Result<()> {
        let apt = Apt::configure(work, self.suite, self.architecture.debian())?;
        capture(apt.command("apt-get").arg("update"))?;
        let depends = capture(apt.command("apt-cache").args(["depends", self.package]))?;
        let package = first_dependency(&depends)
            .ok_or_else(|| format!("{} depends on no kernel in {}", self.package, self.suite))?;
        capture(apt.command("apt-get").args(["download", package]).current_dir(work))?;
        unpack(&only_file(work, "linux-image-")?, work)?;
        let unpacked = only_file(&work.join("boot"), "vmlinu")?;
        fs::rename(&unpacked, image).map_err(|error| format!("{}: {error}", unpacked.display()))?;
        println!("set-up: fetched {package} of {} for {}", self.suite, self.architecture.debian());
        Ok(())
    }
}

/// The kernel in what `apt-cache depends` prints.
fn first_dependency(depends: &str) -> Option<&str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
}

fn only_file(folder: &Path, start: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_wanted =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    let found: Vec<PathBuf> = paths.filter(is_wanted).collect();
    match &found[..] {
        [one] => Ok(one.clone()),
        _ => Err(format!("{} has {} files {start}*, not one", folder.display(), found.len())),
    }
}

/// Takes the kernel out of a package, and leaves its modules, which are ten times as large.
fn unpack(package: &Path, folder: &Path) -> Result<()> {
    let mut reader = Command::new("dpkg-deb");
    let reader = reader.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut reader = reader.spawn().map_err(|error| format!("dpkg-deb: {error}"))?;
    let archive = reader.stdout.take().ok_or("the output is piped")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--file=-", "--directory"]).arg(folder).stdin(archive);
    tar.args(["--wildcards", "./boot/vmlinu*"]);
    capture(&mut tar)?;
    let status = reader.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("dpkg-deb failed ({status})")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_found_among_what_its_package_depends_on() {
        let depends = "linux-image-arm64\n  Depends: linux-image-6.1.0-30-arm64\n    linux-image-unsigned\n";
        assert_eq!(first_dependency(depends), Some("linux-image-6.1.0-30-arm64"));
        assert_eq!(first_dependency("linux-image-arm64\n"), None);
    }

    #[test]
    fn the_short_form_has_each_architecture_once() {
        for architecture in [X86_64, Aarch64, Riscv64] {
            let short = KERNELS.iter().filter(|kernel| kernel.is_in_short_form);
            assert_eq!(short.filter(|kernel| kernel.architecture == architecture).count(), 1);
        }
    }
}
