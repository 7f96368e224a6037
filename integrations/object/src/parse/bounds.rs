//! Bounds of what a file may ask for, by its size. So a small damaged or hostile file gets an error before anything
//! large is allocated.
//!
//! - No byte of the file is loaded twice, whether it is a section's or a relocation's ([`Bounds::claim`]).
//! - Names may share bytes, as in the string tables that compilers write. Their sum is bounded ([`Bounds::name`]).
//!
//! What has no bytes in the file is bounded by the layout.

use crate::error::Error;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How many times the file's size all names together may have. In compilers' objects they are shorter than the file.
const NAMES_LIMIT: u64 = 4;

/// What of a file is used so far.
pub struct Bounds {
    /// From the start of each part that is loaded to its end. No two overlap.
    claimed: BTreeMap<u64, u64>,
    /// The bytes that further names may have.
    names_left: u64,
}

impl Bounds {
    /// Nothing is used yet.
    pub fn new(file: &[u8]) -> Self {
        Self { claimed: BTreeMap::new(), names_left: (file.len() as u64).saturating_mul(NAMES_LIMIT) }
    }

    /// Notes that a part of the file is loaded. Each byte may be only once.
    pub fn claim(&mut self, start: u64, size: u64) -> Result<(), Error> {
        let end = start.saturating_add(size);
        if size == 0 {
            return Ok(());
        }
        // No two parts overlap. So if one overlaps this one, the last that starts before this one's end does.
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
        // Never a copy of the name: each symbol of a section may take the section's name, and would copy it again.
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
