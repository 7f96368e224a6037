//! Reading numbers of an entry.

/// The bytes that are not read yet.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// The next bytes, or `None` at the entry's end.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    /// A byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// Text up to a zero.
    pub fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(length);
        self.byte()?;
        text
    }

    /// A number of the form ULEB128, at most ten bytes long. The form SLEB128 has the same length.
    pub fn leb(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for group in 0..10 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * group).min(63);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A pointer in an encoding; `None` if that isn't known.
    pub fn pointer(&mut self, encoding: u8) -> Option<()> {
        self.take(width(encoding)?).map(|_| ())
    }
}

/// The bytes that a pointer of an encoding has. Absolute and relative to its place are known, and fixed widths: so
/// compilers write them.
pub fn width(encoding: u8) -> Option<usize> {
    match encoding & 0x7f {
        0x00 | 0x10 | 0x04 | 0x14 | 0x0c | 0x1c => Some(8),
        0x03 | 0x13 | 0x0b | 0x1b => Some(4),
        _ => None,
    }
}
