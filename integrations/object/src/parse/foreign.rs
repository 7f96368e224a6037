//! What a file is that is neither ELF nor Mach-O. Its error names that, so that nobody looks for damage in it.

/// The first bytes of an archive.
pub const ARCHIVE: &[u8] = b"!<arch>\n";

/// The first bytes of a file, and what it is then.
const FORMATS: &[(&[u8], &str)] = &[
    (ARCHIVE, "an archive of objects, as ar makes it"),
    (b"!<thin>\n", "a list of objects, as ar makes it"),
    (b"BC\xc0\xde", "intermediate code of LLVM, as clang -flto makes it"),
    (b"\xde\xc0\x17\x0b", "intermediate code of LLVM, as clang -flto makes it"),
    (b"\xce\xfa\xed\xfe", "a 32-bit Mach-O file"),
    (b"\xfe\xed\xfa", "a big-endian Mach-O file"),
    (b"\xca\xfe\xba\xbe", "a universal Mach-O file (lipo -thin takes an object out)"),
    (b"\xca\xfe\xba\xbf", "a universal Mach-O file (lipo -thin takes an object out)"),
    (b"\x64\x86", "an object for Windows (COFF)"),
    (b"\x64\xaa", "an object for Windows (COFF)"),
    (b"\x4c\x01", "an object for Windows (COFF)"),
    (b"\x00\x00\xff\xff", "an object for Windows (COFF)"),
    (b"MZ", "a program or library for Windows"),
    (b"\0asm", "WebAssembly"),
    (b"\x1f\x8b", "a compressed file"),
    (b"\xfd7zXZ", "a compressed file"),
    (b"\x28\xb5\x2f\xfd", "a compressed file"),
];

/// What a file is, by its first bytes.
pub fn name(file: &[u8]) -> &'static str {
    let format = FORMATS.iter().find(|(start, _)| file.starts_with(start));
    match format {
        Some((_, name)) => name,
        None if file.is_empty() => "an empty file",
        None if is_text(file) => "text",
        None => "of a format that isn't known",
    }
}

/// Judged by the beginning: a binary file has bytes there that no text has.
fn is_text(file: &[u8]) -> bool {
    file.iter().take(256).all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}
