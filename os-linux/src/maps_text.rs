//! The text of `/proc/self/maps`. Pure, so that it can be tested with any.

use execmem_core::Protection;
use execmem_core::platform::Mapping;

/// Reads `start-end perms …` lines byte by byte: file names may be long and hold any bytes.
pub(crate) struct Parser {
    field: Field,
    mapping: Mapping,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Start,
    End,
    Permissions,
    Rest,
}

impl Parser {
    const EMPTY: Mapping = Mapping { start: 0, end: 0, protection: Protection::NONE };

    pub(crate) fn new() -> Self {
        Self { field: Field::Start, mapping: Self::EMPTY }
    }

    /// Takes the next byte. Gives a mapping when its permissions are complete.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Mapping> {
        match (self.field, byte) {
            (_, b'\n') => *self = Self::new(),
            (Field::Start, b'-') => self.field = Field::End,
            (Field::Start, digit) => self.mapping.start = append(self.mapping.start, digit),
            (Field::End, b' ') => self.field = Field::Permissions,
            (Field::End, digit) => self.mapping.end = append(self.mapping.end, digit),
            (Field::Permissions, b'r') => self.mapping.protection |= Protection::READ,
            (Field::Permissions, b'w') => self.mapping.protection |= Protection::WRITE,
            (Field::Permissions, b'x') => self.mapping.protection |= Protection::EXEC,
            (Field::Permissions, b' ') => {
                self.field = Field::Rest;
                return Some(self.mapping);
            }
            _ => {}
        }
        None
    }
}

fn append(number: usize, digit: u8) -> usize {
    number << 4 | (digit as char).to_digit(16).unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> ([Mapping; 4], usize) {
        let mut parser = Parser::new();
        let mut all = [Parser::EMPTY; 4];
        let mut count = 0;
        for mapping in text.iter().filter_map(|byte| parser.push(*byte)) {
            all[count] = mapping;
            count += 1;
        }
        (all, count)
    }

    #[test]
    fn lines_of_maps_are_read_whatever_the_file_name() {
        let text = b"55d0c8a00000-55d0c8a21000 r-xp 00002000 fe:00 1234   /usr/bin/\xff\xfe - rwxp\n\
            7f0000000000-7f0000001000 rw-s 00000000 00:01 5\n\
            7f0000002000-7f0000003000 ---p 00000000 00:00 0 \n\
            ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0  [vsyscall]\n";
        let (all, count) = parse(text);
        assert_eq!(count, 4);
        let expected = [
            (0x55d0_c8a0_0000, 0x55d0_c8a2_1000, Protection::RX),
            (0x7f00_0000_0000, 0x7f00_0000_1000, Protection::RW),
            (0x7f00_0000_2000, 0x7f00_0000_3000, Protection::NONE),
            (0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000, Protection::EXEC),
        ];
        for (mapping, (start, end, protection)) in all.iter().zip(expected) {
            assert_eq!((mapping.start, mapping.end, mapping.protection), (start, end, protection));
        }
    }
}
