//! Which free blocks there are, by length: lists of records, and a bit for each list that isn't empty.
//!
//! Lengths below 16 granules have a list each; above, each power of two is cut into 16 classes. A search
//! looks at classes all of whose blocks are long enough, so it takes the first block that it finds:
//! "good fit" at a cost that doesn't grow with the number of blocks (M. Masmano and others: "TLSF: a new
//! dynamic memory allocator for real-time systems", 2004).

/// Lengths below have a class each.
const EXACT: u32 = 16;
const EXACT_BITS: u32 = EXACT.ilog2();
/// A chunk has at most so many granules.
pub(super) const LONGEST: u32 = 1 << 16;
const CLASSES: usize = class_of(LONGEST) as usize + 1;
const WORDS: usize = CLASSES.div_ceil(64);

/// The class of a length in granules, at least 1 and at most [`LONGEST`].
const fn class_of(length: u32) -> u32 {
    if length < EXACT {
        return length;
    }
    let log = length.ilog2();
    let part = (length >> (log - EXACT_BITS)) & (EXACT - 1);
    (log - EXACT_BITS + 1) * EXACT + part
}

/// The lowest class all of whose blocks have at least `length` granules.
fn class_above(length: u32) -> u32 {
    match length.checked_ilog2() {
        Some(log) if log >= EXACT_BITS => class_of(length + (1 << (log - EXACT_BITS)) - 1),
        _ => class_of(length),
    }
}

/// Index of a record + 1; 0: none.
pub(super) type Link = u32;

/// All lists.
pub(super) struct Bins {
    filled: [u64; WORDS],
    first: [Link; CLASSES],
}

impl Bins {
    pub(super) const fn new() -> Self {
        Self { filled: [0; WORDS], first: [0; CLASSES] }
    }

    /// The first record of a class whose blocks all have `length` granules or more.
    pub(super) fn find(&self, length: u32) -> Option<Link> {
        let class = class_above(length) as usize;
        let mut mask = u64::MAX << (class % 64);
        for (index, word) in self.filled.iter().enumerate().skip(class / 64) {
            let bits = word & mask;
            if bits != 0 {
                let found = index * 64 + bits.trailing_zeros() as usize;
                return self.first.get(found).copied();
            }
            mask = u64::MAX;
        }
        None
    }

    /// The first record of the class that `length` itself belongs to: some of its blocks may be too short.
    pub(super) fn first_of_class(&self, length: u32) -> Link {
        self.first.get(class_of(length) as usize).copied().unwrap_or_default()
    }

    /// Whether two lengths are kept in one list.
    pub(super) fn same_list(one: u32, other: u32) -> bool {
        class_of(one) == class_of(other)
    }

    /// Makes `link` the first of the list of blocks of this length (0: the list is empty). Returns what was.
    pub(super) fn set_first(&mut self, length: u32, link: Link) -> Link {
        let class = class_of(length) as usize;
        let (Some(first), Some(word)) = (self.first.get_mut(class), self.filled.get_mut(class / 64)) else {
            return 0;
        };
        let bit = 1 << (class % 64);
        *word = if link == 0 { *word & !bit } else { *word | bit };
        core::mem::replace(first, link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_in_order_of_length_without_a_gap() {
        for length in 2..=LONGEST {
            let step = class_of(length) - class_of(length - 1);
            assert!(step <= 1, "{length}");
        }
        assert_eq!(class_of(1), 1);
        assert_eq!(class_of(LONGEST) as usize, CLASSES - 1);
    }

    #[test]
    fn every_block_that_is_found_is_long_enough_and_at_most_an_eighth_longer_classes_are_skipped() {
        for length in 1..=LONGEST / 2 {
            let class = class_above(length);
            let shortest = (length..).find(|other| class_of(*other) == class).unwrap_or(0);
            assert!(shortest >= length && shortest <= length + length / 8, "{length}: {shortest}");
            assert!(class <= class_of(length) + 1);
        }
    }
}
