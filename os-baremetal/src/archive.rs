//! Finding files in a cpio archive in the "newc" format (cpio(5)). Pure, so that it is tested on any host.

use core::fmt;
use execmem_core::Error;

/// The name of the entry that closes an archive.
const TRAILER: &str = "TRAILER!!!";
/// Bytes in front of an entry's name: the magic number, and 13 numbers of eight hexadecimal digits.
const HEADER: usize = 6 + 13 * 8;
/// The field of a mode that says what kind of file it is, and two of its values.
const KIND: u32 = 0o170000;
const REGULAR: u32 = 0o100000;

/// A file, directory or link.
struct Entry<'a> {
    name: &'a str,
    contents: &'a [u8],
    mode: u32,
    links: u32,
    /// What entries for the same file have in common: inode and device.
    file: [u32; 3],
}

/// The entries up to the trailer, or to one that can't be read.
struct Entries<'a> {
    archive: &'a [u8],
    /// Where the next entry begins.
    offset: usize,
}

impl<'a> Entries<'a> {
    fn of(archive: &'a [u8]) -> Self {
        Self { archive, offset: 0 }
    }

    /// What is behind the entries that were read.
    fn rest(&self) -> &'a [u8] {
        self.archive.get(self.offset..).unwrap_or_default()
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let rest = self.rest();
        if !is_newc(rest) {
            return None;
        }
        let mut numbers = [0; 13];
        for (number, digits) in numbers.iter_mut().zip(rest.get(6..HEADER)?.chunks_exact(8)) {
            for digit in digits {
                *number = *number << 4 | char::from(*digit).to_digit(16)?;
            }
        }
        let [inode, mode, _, _, links, _, length, major, minor, _, _, name_length, _] = numbers;
        let name_end = HEADER + name_length as usize;
        let (0, name) = rest.get(HEADER..name_end)?.split_last()? else { return None };
        let name = core::str::from_utf8(name).ok().filter(|name| *name != TRAILER)?;
        let start = name_end.next_multiple_of(4);
        let contents = rest.get(start..start + length as usize)?;
        self.offset += (start + contents.len()).next_multiple_of(4);
        Some(Entry { name, contents, mode, links, file: [inode, major, minor] })
    }
}

/// An archive whose entry at this place can't be read. Everything behind it is lost, so none of it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedArchive<'a> {
    /// Where the entry begins: bytes from the archive's start.
    pub offset: usize,
    /// The entry's name, if that can be read.
    pub entry: Option<&'a str>,
    /// The name of the entry in front of it, if there is one.
    pub previous: Option<&'a str>,
}

impl fmt::Display for DamagedArchive<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "damaged archive: the entry at byte {}", self.offset)?;
        if let Some(name) = self.entry {
            write!(formatter, ", {name},")?;
        }
        if let Some(name) = self.previous {
            write!(formatter, " behind {name}")?;
        }
        formatter.write_str(" can't be read")
    }
}

impl core::error::Error for DamagedArchive<'_> {}

/// Whether the archive can be read up to its trailer.
pub(crate) fn check(archive: &[u8]) -> Result<(), DamagedArchive<'_>> {
    let mut entries = Entries::of(archive);
    let previous = entries.by_ref().last().map(|entry| entry.name);
    let rest = entries.rest();
    let name = rest.get(HEADER..).filter(|_| is_newc(rest)).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0);
    let entry = end.and_then(|end| core::str::from_utf8(name.get(..end)?).ok());
    if entry == Some(TRAILER) {
        return Ok(());
    }
    Err(DamagedArchive { offset: entries.offset.min(archive.len()), entry, previous })
}

fn is_newc(entry: &[u8]) -> bool {
    entry.starts_with(b"070701") || entry.starts_with(b"070702")
}

/// The contents of a regular file in an archive that was checked. Names are compared without the `/` or `./`
/// in front; of entries with the same name the last one counts, as if the archive was unpacked.
pub(crate) fn find<'a>(archive: &'a [u8], path: &[u8]) -> Result<&'a [u8], Error> {
    if path.is_empty() {
        return Err(Error::NotFound);
    }
    let path = relative(path);
    let entries = || Entries::of(archive);
    let Some(entry) = entries().filter(|entry| relative(entry.name.as_bytes()) == path).last() else {
        return Err(if path.is_empty() { Error::NotRegularFile } else { Error::NotFound });
    };
    if entry.mode & KIND != REGULAR {
        return Err(Error::NotRegularFile);
    }
    // Of the names of one file, only the last comes with its contents.
    match entry.contents {
        [] if entry.links > 1 => {
            let linked = entries().filter(|other| other.file == entry.file).last();
            Ok(linked.map_or(&[], |other| other.contents))
        }
        contents => Ok(contents),
    }
}

fn relative(mut path: &[u8]) -> &[u8] {
    loop {
        path = match path {
            [b'/', rest @ ..] | [b'.', b'/', rest @ ..] => rest,
            b"." => &[],
            _ => return path,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;
    use std::vec::Vec;

    const DIRECTORY: u32 = 0o040000;
    const SYMBOLIC_LINK: u32 = 0o120000;

    /// An entry as `cpio -H newc` writes it.
    fn entry(name: &str, mode: u32, links: u32, contents: &[u8]) -> Vec<u8> {
        // Names with links share one file; the others' numbers are as different as their lengths.
        let file = if links > 1 { 1 } else { 2 + name.len() as u32 };
        let fields =
            [file, mode, 0, 0, links, 0, contents.len() as u32, 8, 1, 0, 0, name.len() as u32 + 1, 0];
        let mut bytes = b"070701".to_vec();
        for field in fields {
            bytes.extend(format!("{field:08x}").bytes());
        }
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(contents);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn sample() -> Vec<u8> {
        let entries = [
            entry(".", DIRECTORY, 1, b""),
            entry("./bin/hello", REGULAR | 0o755, 1, b"first"),
            entry("bin", DIRECTORY, 1, b""),
            entry("one", REGULAR, 2, b""),
            entry("two", REGULAR, 2, b"linked"),
            entry("link", SYMBOLIC_LINK, 1, b"two"),
            entry("/bin/hello", REGULAR | 0o755, 1, b"second!"),
            entry("empty", REGULAR, 1, b""),
            entry("TRAILER!!!", 0, 1, b""),
        ];
        entries.concat()
    }

    #[test]
    fn a_file_is_found_by_its_name_and_the_last_of_that_name_counts() {
        let archive = sample();
        assert_eq!(check(&archive), Ok(()));
        for path in ["bin/hello", "/bin/hello", "./bin/hello", "/./bin/hello"] {
            assert_eq!(find(&archive, path.as_bytes()), Ok(&b"second!"[..]), "{path}");
        }
        assert_eq!(find(&archive, b"empty"), Ok(&b""[..]));
        assert_eq!(find(&archive, b"one"), Ok(&b"linked"[..]));
    }

    #[test]
    fn what_is_no_regular_file_is_told_apart_from_what_is_not_there() {
        let archive = sample();
        for path in [&b"bin"[..], b"/bin", b".", b"/", b"link"] {
            assert_eq!(find(&archive, path), Err(Error::NotRegularFile), "{path:?}");
        }
        for path in [&b""[..], b"hello", b"bin/", b"bin/hell", b"TRAILER!!!", b"\xff"] {
            assert_eq!(find(&archive, path), Err(Error::NotFound), "{path:?}");
        }
        assert_eq!(find(b"", b"bin/hello"), Err(Error::NotFound));
    }

    #[test]
    fn an_archive_that_ends_early_is_damaged_wherever_it_ends() {
        let archive = sample();
        // The trailer's padding may be missing.
        let trailer = archive.len() - entry("TRAILER!!!", 0, 1, b"").len() + HEADER + TRAILER.len() + 1;
        for length in 0..trailer {
            assert!(check(&archive[..length]).is_err(), "{length} of {}", archive.len());
        }
    }

    #[test]
    fn the_damaged_entry_is_named() {
        let mut archive = sample();
        let second = entry(".", DIRECTORY, 1, b"").len();
        let damage = |archive: &[u8]| check(archive).unwrap_err().to_string();

        let mut cut = archive.clone();
        cut.truncate(second + 124 + 2);
        let expected = "damaged archive: the entry at byte 112, ./bin/hello, behind . can't be read";
        assert_eq!(damage(&cut), expected);

        archive[second + 20] = b'?';
        assert_eq!(damage(&archive), expected);
        archive[second] = b'?';
        assert_eq!(damage(&archive), "damaged archive: the entry at byte 112 behind . can't be read");
        assert_eq!(damage(b""), "damaged archive: the entry at byte 0 can't be read");
    }

    #[test]
    fn no_single_damaged_byte_of_a_header_goes_unseen_or_panics() {
        let archive = sample();
        for at in 0..archive.len() {
            let mut damaged = archive.clone();
            damaged[at] = b'?';
            // A byte of a name or of contents makes another archive that is as good.
            let _ = check(&damaged);
            let _ = find(&damaged, b"bin/hello");
        }
        for field in 0..13 {
            let mut damaged = archive.clone();
            damaged[6 + 8 * field] = b'?';
            assert!(check(&damaged).is_err(), "field {field}");
        }
    }
}
