//! Writing cpio archives in the "newc" format (cpio(5)), as kernels get them from boot loaders.

/// Modes of entries.
pub const DIRECTORY: u32 = 0o040755;
/// A regular file.
pub const REGULAR: u32 = 0o100644;
/// A named pipe.
pub const FIFO: u32 = 0o010644;

/// An archive of these entries: name, mode, contents.
pub fn archive(entries: &[(&str, u32, &str)]) -> String {
    let mut archive = String::new();
    for (number, (name, mode, contents)) in entries.iter().chain(&[("TRAILER!!!", 0, "")]).enumerate() {
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
        archive.push_str("070701");
        fields.iter().for_each(|field| archive.push_str(&format!("{field:08x}")));
        archive.push_str(name);
        archive.push('\0');
        pad(&mut archive);
        archive.push_str(contents);
        pad(&mut archive);
    }
    archive
}

fn pad(archive: &mut String) {
    while !archive.len().is_multiple_of(4) {
        archive.push('\0');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_layout_of_the_format() {
        let archive = archive(&[("a", REGULAR, "12345")]);
        assert_eq!(&archive[..14], "07070100000001");
        assert_eq!(&archive[54..62], "00000005", "the size");
        assert_eq!(&archive[110..121], "a\0".to_owned() + "12345\0\0\0" + "0");
        assert_eq!(archive.len(), 120 + 124);
    }
}
