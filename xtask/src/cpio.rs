//! Writing cpio archives in the "newc" format (cpio(5)), as kernels get them from boot loaders.

/// Modes of entries.
pub const DIRECTORY: u32 = 0o040755;
/// A regular file.
pub const REGULAR: u32 = 0o100644;
/// A regular file that is a program.
pub const PROGRAM: u32 = 0o100755;
/// A named pipe.
pub const FIFO: u32 = 0o010644;

/// An archive of these entries: name, mode, contents.
pub fn archive(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    let end: (&str, u32, &[u8]) = ("TRAILER!!!", 0, b"");
    for (number, (name, mode, contents)) in entries.iter().chain(&[end]).enumerate() {
        let fields = [
            number as u32 + 1,
            *mode,
            0,
            0,
            1,
            0,
            contents.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        archive.extend_from_slice(b"070701");
        fields.iter().for_each(|field| archive.extend_from_slice(format!("{field:08x}").as_bytes()));
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        pad(&mut archive);
        archive.extend_from_slice(contents);
        pad(&mut archive);
    }
    archive
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_layout_of_the_format() {
        let archive = archive(&[("a", REGULAR, b"12345")]);
        assert_eq!(&archive[..14], b"07070100000001");
        assert_eq!(&archive[54..62], b"00000005", "the size");
        assert_eq!(&archive[110..121], b"a\x0012345\0\0\x000");
        assert_eq!(archive.len(), 120 + 124);
    }
}
