//! What a file may ask for stands in proportion to its size: a small damaged or hostile file gets an error
//! before anything large is allocated.
//!
//! - Bytes of the file are loaded at most once, and so are relocations ([`Bounds::claim`]).
//! - Names may share bytes, as compilers' string tables let them. Their sum is bounded ([`Bounds::name`]).
//! - What has no bytes in the file is bounded by [`ZEROED_LIMIT`]: zeroed data, and what alignment skips, which is
//!   less than a page for a section.

use super::error::Error;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The most memory that an object may have beyond the bytes of its file: zeroed data (`.bss`, common symbols)
/// and what alignment skips.
pub const ZEROED_LIMIT: u64 = 1 << 30;

/// How often all names together may have the file's bytes. Compilers' objects stay below one.
const NAMES_LIMIT: u64 = 4;

/// What of a file has been used.
pub struct Bounds {
    /// Start and end of the parts that are loaded. None overlap.
    claimed: BTreeMap<u64, u64>,
    /// Bytes that further names may have.
    names_left: u64,
}

impl Bounds {
    /// Nothing is used yet.
    pub fn new(file: &[u8]) -> Self {
        Self { claimed: BTreeMap::new(), names_left: (file.len() as u64).saturating_mul(NAMES_LIMIT) }
    }

    /// Notes that a part of the file is loaded, for the only time.
    pub fn claim(&mut self, start: u64, size: u64) -> Result<(), Error> {
        let end = start.saturating_add(size);
        if size == 0 {
            return Ok(());
        }
        // Since none overlap, the last that starts before the end is the last that ends, too.
        let before = self.claimed.range(..end).next_back();
        if before.is_some_and(|(_, before_end)| *before_end > start) {
            return Err(Error::Damaged(format!("the file's bytes from {start:#x} on are used twice")));
        }
        self.claimed.insert(start, end);
        Ok(())
    }

    /// A name, as text.
    pub fn name<'data>(&mut self, name: &'data [u8]) -> Result<Cow<'data, str>, Error> {
        let left = self.names_left.checked_sub(name.len() as u64);
        self.names_left = left.ok_or_else(|| Error::Damaged("its names are longer than the file".into()))?;
        // Not a copy in which such bytes are replaced: it could be copied again for every symbol of a section.
        Ok(Cow::Borrowed(str::from_utf8(name).unwrap_or("(a name that isn't UTF-8)")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_claimed_once_in_any_order() {
        let mut bounds = Bounds::new(&[]);
        for (start, size) in [(100, 50), (50, 50), (150, 10), (0, 20), (120, 0)] {
            assert_eq!(bounds.claim(start, size), Ok(()), "{start}");
        }
        for (start, size) in [(149, 1), (99, 2), (0, 1), (30, 100), (10, 1000), (155, u64::MAX)] {
            assert!(bounds.claim(start, size).is_err(), "{start}");
        }
        assert_eq!(bounds.claim(20, 30), Ok(()));
    }
}
