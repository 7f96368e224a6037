//! Records of unwinding, in the format of `.eh_frame`: *Linux Standard Base Core 5.0*, section 10.6.1, and the encodings of
//! its section 10.5.1.
//!
//! An unwinder reads them without a limit, and keeps them by the addresses of their functions: libgcc ends a process that
//! takes back what was registered for the same addresses twice. So they are looked at first.

use crate::span::Span;
use core::ptr;

/// Bytes of a record's length, and of the word behind it.
const WORD: usize = 4;

/// Whether memory holds what an unwinder can be given for `code`: a common record first, at least one of a function, each
/// of which refers to what reads as a common one in front of it, and is about bytes of the code, and a length of zero behind the last,
/// which also ends the memory. Lengths of 64 bits are for files of gigabytes, and are not read.
///
/// # Safety
/// The memory can be read, and stays as it is meanwhile.
pub(super) unsafe fn are_of(records: Span, code: Span) -> bool {
    if !(records.start() | records.length()).is_multiple_of(WORD) {
        return false;
    }
    // SAFETY: the caller lends so many bytes.
    let bytes = unsafe {
        core::slice::from_raw_parts(ptr::with_exposed_provenance(records.start()), records.length())
    };
    all_are_of(bytes, records.start(), code).is_some()
}

fn all_are_of(bytes: &[u8], start: usize, code: Span) -> Option<()> {
    let mut functions = 0;
    let mut records = Reader { bytes, at: 0 };
    loop {
        let size = records.word()? as usize;
        let at = records.at;
        if size == 0 {
            return (functions > 0 && at == bytes.len()).then_some(());
        }
        if size < WORD || !size.is_multiple_of(WORD) || size > (bytes.len() - at).saturating_sub(WORD) {
            return None;
        }
        let mut record = Reader { bytes: bytes.get(..at + size)?, at };
        let back = record.word()? as usize;
        if back != 0 {
            // Counted from the word itself.
            let common = at.checked_sub(back).filter(|common| common.is_multiple_of(WORD))?;
            let (format, has_data) = format_of_addresses(bytes.get(common..at)?)?;
            let function = record.address(format, start)?;
            let length = record.address(format & FORMAT, start)?;
            if has_data {
                record.data()?;
            }
            if !code.contains(Span::new(function as i64, length as i64).ok()?) {
                return None;
            }
            functions += 1;
        }
        records.at += size;
    }
}

/// How a number is written, and what it is counted from (`DW_EH_PE_pcrel`: from where it stands).
const FORMAT: u8 = 0x0f;
const FROM_HERE: u8 = 0x10;
/// `DW_EH_PE_aligned`: behind padding.
const ALIGNED: u8 = 0x50;

/// How functions' addresses are written, by a common record and what follows it; and whether their records have data of
/// a length that stands there.
fn format_of_addresses(common: &[u8]) -> Option<(u8, bool)> {
    let mut reader = Reader { bytes: common, at: 0 };
    let size = reader.word()? as usize;
    reader.bytes = common.get(..WORD + size)?;
    let (0, version @ (1 | 3)) = (reader.word()?, reader.byte()?) else { return None };
    let letters = reader.at;
    while reader.byte()? != 0 {}
    let letters = common.get(letters..reader.at - 1)?;
    // Factors of addresses and of offsets, and the register of the return address.
    reader.leb128()?;
    reader.leb128()?;
    if version == 1 { reader.byte().map(drop) } else { reader.leb128().map(drop) }?;
    let Some((b'z', letters)) = letters.split_first() else {
        return letters.is_empty().then_some((0, false));
    };
    reader = reader.data()?;
    // libgcc ends at the first `R`, and at the first letter that it has no use for: then addresses are absolute.
    for (index, letter) in letters.iter().enumerate() {
        match letter {
            b'R' => return Some((reader.byte()?, true)),
            b'L' => reader.byte().map(drop)?,
            b'P' => {
                let personality = reader.byte()?;
                let is_aligned = personality & 0x70 == ALIGNED;
                reader.address(personality & FORMAT, 0).filter(|_| !is_aligned)?;
            }
            b'S' | b'B' if !letters.get(index..)?.contains(&b'R') => return Some((0, true)),
            _ => return None,
        }
    }
    Some((0, true))
}

/// Reads numbers one after the other. Behind the end there are none.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += N;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take().map(|[byte]| byte)
    }

    fn word(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    /// A number in groups of seven bits, the lowest first. (Of a signed one, the length is right.)
    fn leb128(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0u32);
        loop {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
            shift = shift.saturating_add(7);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
    }

    /// Data of a length that stands in front of it.
    fn data(&mut self) -> Option<Reader<'a>> {
        let length = usize::try_from(self.leb128()?).ok()?;
        let end = self.at.checked_add(length)?;
        Some(Reader { bytes: self.bytes.get(..end)?, at: self.at })
    }

    /// An address, in memory that starts at `start`.
    fn address(&mut self, format: u8, start: usize) -> Option<usize> {
        let from = match format & !FORMAT {
            0 => 0,
            FROM_HERE => start + self.at,
            _ => return None,
        };
        let number = match format & FORMAT {
            0x0 | 0x4 | 0xc => self.take().map(u64::from_ne_bytes)? as usize,
            0x2 => self.take().map(u16::from_ne_bytes)?.into(),
            0x3 => self.word()? as usize,
            0xa => self.take().map(i16::from_ne_bytes)? as usize,
            0xb => self.take().map(i32::from_ne_bytes)? as usize,
            _ => return None,
        };
        Some(from.wrapping_add(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: usize = 0x5000;

    /// Aligned as the words of records are.
    #[repr(align(8))]
    struct Records([u8; 64]);

    /// A common record, one of a function's, and the end.
    fn records(common: &[u8], function: &[u8]) -> Option<()> {
        let mut memory = Records([0; 64]);
        let (common_size, function_size) =
            ((4 + common.len()).next_multiple_of(4), (4 + function.len()).next_multiple_of(4));
        let mut put = |at: usize, bytes: &[u8]| memory.0[at..at + bytes.len()].copy_from_slice(bytes);
        let second = 4 + common_size;
        put(0, &(common_size as u32).to_ne_bytes());
        put(8, common);
        put(second, &(function_size as u32).to_ne_bytes());
        put(second + 4, &(second as u32 + 4).to_ne_bytes());
        put(second + 8, function);
        let length = second + 4 + function_size + 4;
        all_are_of(&memory.0[..length], 0x1000, Span::from_parts(CODE, 0x100))
    }

    fn absolute(start: usize, length: usize) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&start.to_ne_bytes());
        bytes[8..].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn functions_lie_in_the_code() {
        let plain = [1, 0, 1, 0x78, 16];
        for (start, length, fits) in [
            (CODE, 0x100, true),
            (CODE + 0xff, 1, true),
            (CODE, 0x101, false),
            (CODE - 1, 2, false),
            (CODE, 0, false),
            (CODE + 0x80, usize::MAX, false),
            (0, 8, false),
        ] {
            assert_eq!(records(&plain, &absolute(start, length)).is_some(), fits, "{start:x} {length:x}");
        }
    }

    #[test]
    fn addresses_are_read_in_the_formats_of_compilers() {
        // Version 3's register may have several bytes; letters say what follows.
        let personality = *b"\x03zPLR\0\x01\x78\x10\x0b\x00\x01\x02\x03\x04\x05\x06\x07\x08\x1b\x1b";
        // Behind a common record of 28 bytes the function's address stands at 0x1000 + 40.
        let place = 0x1000 + 4 + 4 + personality.len().next_multiple_of(4) + 8;
        // Its address, its length, and how much data follows.
        let mut function = [0; 9];
        function[..4].copy_from_slice(&((CODE - place) as i32).to_ne_bytes());
        function[4..8].copy_from_slice(&0x20i32.to_ne_bytes());
        assert!(records(&personality, &function).is_some());
        function[8] = 4;
        assert!(records(&personality, &function).is_none(), "more data than the record has");
        function[8] = 0;
        function[4..8].copy_from_slice(&0x101i32.to_ne_bytes());
        assert!(records(&personality, &function).is_none(), "beyond the code");

        for (bad, why) in [
            (&b"\x02\0\x01\x78\x10"[..], "a version that there is none of"),
            (b"\x01zR\0\x01\x78\x10\x01\x9b", "an address of an address"),
            (b"\x01zR\0\x01\x78\x10\x01\x3b", "counted from where no data is"),
            (b"\x01zQ\0\x01\x78\x10\x01\x00", "a letter that nobody knows"),
            (b"\x01eh\0\x01\x78\x10", "of an old compiler"),
            (b"\x01zR\0\x81\x81\x81\x81", "no end"),
            (b"\x01zRRR", "no end of letters"),
            (b"\x01zR\0\x01\x78\x10\x7f\x00", "more data than the record has"),
            (b"\x01zSR\0\x01\x78\x10\x01\x00", "unwinders read this one differently"),
            (b"\x01zPR\0\x01\x78\x10\x0a\x50\0\0\0\0\0\0\0\0\x00", "behind padding"),
        ] {
            assert!(records(bad, &absolute(CODE, 8)).is_none(), "{why}");
        }
    }

    #[test]
    fn records_that_lead_out_of_their_memory_are_not_read() {
        let word = |word: u32| word.to_ne_bytes();
        let all = |words: &[u32]| -> bool {
            let mut memory = Records([0; 64]);
            let bytes = memory.0.chunks_exact_mut(4);
            bytes.zip(words).for_each(|(place, number)| place.copy_from_slice(&word(*number)));
            let code = Span::from_parts(CODE, 0x100);
            all_are_of(&memory.0[..words.len() * 4], 0x1000, code).is_some()
        };
        // A common record of three words, a function's of five, the end.
        let plain = u32::from_ne_bytes([1, 0, 1, 0x78]);
        let zero = u32::from_ne_bytes([16, 0, 0, 0]);
        let [low, high] = [CODE as u32, 0];
        let [low, high] = if cfg!(target_endian = "little") { [low, high] } else { [high, low] };
        let good = [12, 0, plain, zero, 20, 20, low, high, 8, 0, 0];
        assert!(all(&good));
        for (index, bad, why) in [
            (10, 4, "no end"),
            (0, 16, "the next record is not where it should be"),
            (0, u32::MAX, "64 bits, or beyond the end"),
            (0, 0, "an end before the end"),
            (0, 11, "not in words"),
            (4, 24, "beyond the end"),
            (5, 24, "refers to what lies before all records"),
            (5, 4, "refers to itself"),
            (5, 16, "refers to the middle of a record"),
            (5, 0, "no function"),
        ] {
            let mut words = good;
            words[index] = bad;
            assert!(!all(&words), "{why}");
        }
        assert!(!all(&[0]) && !all(&good[..10]) && !all(&[]));
    }
}
