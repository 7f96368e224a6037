//! A valid range of addresses, and its pages: pure arithmetic.

use crate::error::{Error, Result};
use core::ops::Range;

/// A non-empty range of bytes whose end is at most `i64::MAX`: contract, section 1.4, checked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: usize,
    length: usize,
}

impl Span {
    /// `[address, address + size)`, both in bytes. An address or size below 1, or an end past
    /// `i64::MAX`, is an invalid argument.
    pub const fn new(address: i64, size: i64) -> Result<Self> {
        if address <= 0 || size <= 0 || address.checked_add(size).is_none() {
            return Err(Error::InvalidArgument);
        }
        Ok(Self { start: address as usize, length: size as usize })
    }

    /// As [`new`](Self::new), but an empty range is `None` at an address that is owned, or right behind one;
    /// elsewhere it is *not owned*.
    pub(crate) fn unless_empty(
        address: i64,
        size: i64,
        is_owned: impl Fn(i64) -> bool,
    ) -> Result<Option<Self>> {
        if size != 0 {
            return Self::new(address, size).map(Some);
        }
        Self::new(address, 1)?;
        if is_owned(address) || is_owned(address - 1) { Ok(None) } else { Err(Error::NotOwned) }
    }

    /// `[address + offset, address + offset + size)`, with an offset of at least 0.
    pub const fn at_offset(address: i64, offset: i64, size: i64) -> Result<Self> {
        if address <= 0 || offset < 0 {
            return Err(Error::InvalidArgument);
        }
        match address.checked_add(offset) {
            Some(start) => Self::new(start, size),
            None => Err(Error::InvalidArgument),
        }
    }

    /// From a range that is known to be valid.
    pub(crate) const fn from_parts(start: usize, length: usize) -> Self {
        Self { start, length }
    }

    /// The first byte's address.
    pub const fn start(self) -> usize {
        self.start
    }

    /// Length in bytes, at least 1.
    pub const fn length(self) -> usize {
        self.length
    }

    /// The address behind the last byte.
    pub const fn end(self) -> usize {
        self.start + self.length
    }

    /// With so many bytes more before and behind it.
    pub(crate) const fn widened(self, bytes: usize) -> Self {
        Self { start: self.start - bytes, length: self.length + 2 * bytes }
    }

    /// As a standard range.
    pub const fn range(self) -> Range<usize> {
        self.start..self.end()
    }

    /// Exactly the pages that the span touches. `page_size` is a power of two.
    pub const fn pages(self, page_size: usize) -> Self {
        let start = self.start & !(page_size - 1);
        Self { start, length: round_up(self.end() - start, page_size) }
    }

    /// Whether `inner` lies wholly inside.
    pub const fn contains(self, inner: Self) -> bool {
        self.start <= inner.start && inner.end() <= self.end()
    }
}

/// `size` rounded up to whole pages. Neither can overflow: a size is at most `i64::MAX`.
pub const fn round_up(size: usize, page_size: usize) -> usize {
    (size + page_size - 1) & !(page_size - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_refuses_what_rule_4_refuses() {
        for (address, size) in [(0, 1), (-1, 1), (1, 0), (1, -1), (i64::MAX, 1), (2, i64::MAX - 1)] {
            assert_eq!(Span::new(address, size), Err(Error::InvalidArgument), "{address} {size}");
        }
        assert!(Span::new(1, i64::MAX - 1).is_ok());
        assert_eq!(Span::at_offset(i64::MAX, 1, 1), Err(Error::InvalidArgument));
        assert_eq!(Span::at_offset(1, -1, 1), Err(Error::InvalidArgument));
    }

    #[test]
    fn the_largest_span_rounds_up_without_overflow() {
        let last = Span::new(1, i64::MAX - 1).unwrap().pages(1 << 16);
        assert_eq!(last.range(), 0..1 << 63);
    }
}
