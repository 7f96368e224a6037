//! Installing packages where this machine is a Debian and we may.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::apt_sources::{self, Source};
use crate::process::capture;
use crate::result::Result;
use crate::version::Version;

/// Where the backports suite is written down when the machine does not know it yet.
const BACKPORTS_FILE: &str = "/etc/apt/sources.list.d/execmem-backports.sources";

const NOT_DEBIAN: &str = "this system is not a Debian";

/// Installs packages in the version that this Debian release offers.
pub fn install(packages: &[&str]) -> Result<()> {
    require_root_on_debian()?;
    apt_get(&["update"])?;
    apt_install(packages, None)
}

/// Installs packages in the version of this release, or from its backports where that is older
/// than `oldest`.
pub fn install_at_least(packages: &[&str], oldest: Version) -> Result<()> {
    let codename = require_root_on_debian()?;
    apt_get(&["update"])?;
    let first = packages.first().ok_or("no package was named")?;
    let backports = format!("{codename}-backports");
    if offered_version(first)? >= Some(oldest) {
        let installed = apt_install(packages, None);
        // Once apt knows the backports it offers what only they have, but takes what that needs from the release.
        if installed.is_ok() || !is_known(&backports)? {
            return installed;
        }
    }
    add_backports(&codename, &backports)?;
    apt_install(packages, Some(&backports))
}

/// The release's code name, or why nothing can be installed here.
fn require_root_on_debian() -> Result<String> {
    let codename = codename()?;
    let user = capture(Command::new("id").arg("-u"))?;
    if user.trim() == "0" { Ok(codename) } else { Err("only root can install packages".into()) }
}

fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    debian_codename(&release).ok_or_else(|| NOT_DEBIAN.to_owned())
}

fn debian_codename(os_release: &str) -> Option<String> {
    let value = |name: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    (value("ID")? == "debian").then(|| value("VERSION_CODENAME")).flatten()
}

/// The version that `apt-get install` would take now.
fn offered_version(package: &str) -> Result<Option<Version>> {
    let policy = capture(Command::new("apt-cache").args(["policy", package]))?;
    Ok(candidate(&policy).and_then(Version::of_package))
}

fn candidate(policy: &str) -> Option<&str> {
    policy.lines().find_map(|line| line.trim().strip_prefix("Candidate: "))
}

/// Tells apt about the backports suite, at the mirror that serves this machine's own release.
fn add_backports(codename: &str, backports: &str) -> Result<()> {
    if is_known(backports)? {
        return Ok(());
    }
    fs::write(BACKPORTS_FILE, release_source(codename)?.with_suite(backports).to_string())
        .map_err(|error| format!("{BACKPORTS_FILE} can't be written: {error}"))?;
    println!("set-up: added {backports} to apt's sources ({BACKPORTS_FILE})");
    apt_get(&["update"])
}

/// Whether apt has a source of the suite.
fn is_known(suite: &str) -> Result<bool> {
    Ok(configured_sources()?.iter().any(|source| source.has_suite(suite)))
}

/// Another suite, at the mirror that serves this machine's own release.
pub fn source_of(suite: &str) -> Result<Source> {
    Ok(release_source(&codename()?)?.with_suite(suite))
}

fn release_source(codename: &str) -> Result<Source> {
    let source = configured_sources()?.into_iter().find(|source| source.has_suite(codename));
    source.ok_or_else(|| format!("apt knows no source for {codename}"))
}

fn configured_sources() -> Result<Vec<Source>> {
    let mut files = vec!["/etc/apt/sources.list".into()];
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.filter_map(|entry| Some(entry.ok()?.path())));
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| file.exists()) {
        let read = || fs::read_to_string(file).map_err(|error| unreadable(file, &error));
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(apt_sources::parse_stanzas(&read()?)),
            Some("list") => sources.extend(apt_sources::parse_lines(&read()?)),
            // apt ignores all other names, and so do we.
            _ => {}
        }
    }
    Ok(sources)
}

fn unreadable(file: &Path, error: &std::io::Error) -> String {
    format!("{} can't be read: {error}", file.display())
}

fn apt_install(packages: &[&str], suite: Option<&str>) -> Result<()> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    if let Some(suite) = suite {
        arguments.extend(["--target-release", suite]);
    }
    arguments.extend(packages);
    apt_get(&arguments)?;
    let origin = suite.map(|suite| format!(" from {suite}")).unwrap_or_default();
    println!("set-up: installed {}{origin}", packages.join(", "));
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet").args(arguments);
    // Of all that apt prints, the reason stands in its last line.
    capture(&mut command).map(drop).map_err(|said| {
        let reason = said.lines().last().unwrap_or_default();
        format!("`apt-get {}` failed: {reason}", arguments.join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_name_is_read_from_a_debian_and_from_no_other_system() {
        let debian = "NAME=\"Debian GNU/Linux\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        assert_eq!(debian_codename(debian).as_deref(), Some("bookworm"));
        let quoted = "ID=\"debian\"\nVERSION_CODENAME=\"trixie\"\n";
        assert_eq!(debian_codename(quoted).as_deref(), Some("trixie"));
        let ubuntu = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=jammy\n";
        assert_eq!(debian_codename(ubuntu), None);
        assert_eq!(debian_codename(""), None);
    }

    #[test]
    fn the_candidate_of_a_package_is_found_in_its_policy() {
        let policy = "qemu-user:\n  Installed: (none)\n  Candidate: 1:7.2+dfsg-7+deb12u15\n";
        assert_eq!(candidate(policy), Some("1:7.2+dfsg-7+deb12u15"));
        assert_eq!(candidate(""), None);
    }
}
