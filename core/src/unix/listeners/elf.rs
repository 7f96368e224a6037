//! The smallest object file that tells a debugger of a function: its name, where it is, how long.
//!
//! Its `.text` has an address and no bytes: those are in the process. The symbol's value counts from there (ELF gABI,
//! "Symbol Table", relocatable files).

use crate::span::Span;

const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else {
    243
};

/// RISC-V: compressed instructions, doubles in registers.
const FLAGS: u32 = if cfg!(target_arch = "riscv64") { 5 } else { 0 };

const HEADER: usize = 64;
const SECTION: usize = 64;
const SYMBOL: usize = 24;
/// None, `.text`, `.symtab`, `.strtab`.
const SECTIONS: usize = 4;
const SYMBOLS_AT: usize = HEADER + SECTIONS * SECTION;
const STRINGS_AT: usize = SYMBOLS_AT + 2 * SYMBOL;
const SECTION_NAMES: &[u8] = b"\0.text\0.symtab\0.strtab\0";
const NAME_AT: usize = STRINGS_AT + SECTION_NAMES.len();

/// Bytes of the file for a name.
pub(super) fn length(name: &[u8]) -> usize {
    NAME_AT + name.len() + 1
}

/// The name that a file was made for.
pub(super) fn name_in(image: &[u8]) -> &[u8] {
    image.get(NAME_AT..image.len() - 1).unwrap_or_default()
}

/// Writes the file to zeroed memory of that length. Bytes that would end a line, or upset a terminal, become `?`.
pub(super) fn write(code: Span, name: &[u8], image: &mut [u8]) {
    let length = code.length() as u64;
    let strings = (image.len() - STRINGS_AT) as u64;
    let mut file = Writer { image, at: 0 };
    // 64 bits, little-endian, version 1.
    file.bytes(b"\x7fELF\x02\x01\x01").skip_to(16);
    // Relocatable.
    file.half(1).half(MACHINE).word(1).long(0).long(0).long(HEADER as u64).word(FLAGS);
    file.half(HEADER as u16).half(0).half(0).half(SECTION as u16).half(SECTIONS as u16).half(3);
    file.skip_to(HEADER + SECTION);
    // Memory without bytes in the file, allocated and executable.
    file.section(1, 8, 6, code.start() as u64, [0, length], [0, 0], [16, 0]);
    // Strings are those of section 3; symbol 1 is the first that isn't local.
    let symbols = 2 * SYMBOL as u64;
    file.section(7, 2, 0, 0, [SYMBOLS_AT as u64, symbols], [3, 1], [8, SYMBOL as u64]);
    file.section(15, 3, 0, 0, [STRINGS_AT as u64, strings], [0, 0], [1, 0]);
    file.skip_to(SYMBOLS_AT + SYMBOL);
    // A global function of section 1.
    file.word(SECTION_NAMES.len() as u32).bytes(&[1 << 4 | 2, 0]).half(1).long(0).long(length);
    file.bytes(SECTION_NAMES);
    for byte in name {
        file.bytes(&[if byte.is_ascii_control() { b'?' } else { *byte }]);
    }
}

struct Writer<'a> {
    image: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.at + bytes.len();
        if let Some(place) = self.image.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
        self
    }

    fn skip_to(&mut self, at: usize) {
        self.at = at;
    }

    fn half(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn word(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    fn long(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a section header, in their order")]
    fn section(
        &mut self,
        name: u32,
        kind: u32,
        flags: u64,
        address: u64,
        place: [u64; 2],
        links: [u32; 2],
        shape: [u64; 2],
    ) {
        self.word(name).word(kind).long(flags).long(address).long(place[0]).long(place[1]);
        self.word(links[0]).word(links[1]).long(shape[0]).long(shape[1]);
    }
}
