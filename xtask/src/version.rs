//! Version numbers, as far as a tool's age matters here.

use std::fmt;

/// Major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// From the first line of `qemu-aarch64 --version`: `qemu-aarch64 version 7.2.17 (Debian ...)`.
    pub fn of_qemu(printed: &str) -> Option<Version> {
        let (_, version) = printed.lines().next()?.split_once(" version ")?;
        Version::leading(version)
    }

    /// From the version of a Debian package, `1:10.0.2+ds-2~bpo12+1`, whose epoch says nothing.
    pub fn of_package(version: &str) -> Option<Version> {
        let upstream = version.split_once(':').map_or(version, |(_epoch, upstream)| upstream);
        Version::leading(upstream)
    }

    fn leading(text: &str) -> Option<Version> {
        let mut numbers = text.split(|character: char| !character.is_ascii_digit());
        Some(Version(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_prints_its_version_in_its_first_line() {
        let old = "qemu-aarch64 version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u15)\nCopyright (c) 2003";
        assert_eq!(Version::of_qemu(old), Some(Version(7, 2)));
        let new = "qemu-aarch64 version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\n";
        assert_eq!(Version::of_qemu(new), Some(Version(10, 0)));
        assert_eq!(Version::of_qemu("qemu-aarch64: not found"), None);
        assert_eq!(Version::of_qemu(""), None);
    }

    #[test]
    fn a_package_version_is_read_without_its_epoch() {
        assert_eq!(Version::of_package("1:7.2+dfsg-7+deb12u15"), Some(Version(7, 2)));
        assert_eq!(Version::of_package("10.0.2+ds-2~bpo12+1"), Some(Version(10, 0)));
        assert_eq!(Version::of_package("(none)"), None);
    }

    #[test]
    fn ten_is_newer_than_eight() {
        assert!(Version(10, 0) > Version(8, 1) && Version(8, 0) < Version(8, 1));
    }
}
