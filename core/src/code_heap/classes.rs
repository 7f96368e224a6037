//! Classes of free runs by length, and in which words of a chunk runs of each class start.
//!
//! Lengths below 8 granules have a class each; above, each power of two is cut into 4 classes. A search
//! looks at classes all of whose runs are long enough, so it takes the first run that it finds: "good fit"
//! at a cost that does not grow with the number of runs (the idea of M. Masmano and others: "TLSF: a new
//! dynamic memory allocator for real-time systems", 2004; with bits for positions in place of lists).

use super::bits::{Bits, clear, first_set, set};

/// A chunk has at most so many granules.
pub(super) const LONGEST: u32 = 1 << 16;

/// There are so few that a word has a bit for each.
pub(super) const CLASSES: usize = class_of(LONGEST) as usize + 1;
const _: () = assert!(CLASSES <= 64);

/// The class of a length in granules, at least 1 and at most [`LONGEST`].
pub(super) const fn class_of(length: u32) -> u32 {
    if length < 8 {
        return length;
    }
    let log = length.ilog2();
    (log - 1) * 4 + (length >> (log - 2) & 3)
}

/// The classes all of whose runs have at least `length` granules, as bits.
pub(super) fn classes_above(length: u32) -> u64 {
    let longest_below = match length {
        0..8 => length,
        _ => length + (1 << (length.ilog2() - 2)) - 1,
    };
    u64::MAX.checked_shl(class_of(longest_below)).unwrap_or(0)
}

/// Where runs start, by class: for each class a line of bits, one for each word of granules. A bit may
/// outlive its run: whoever looks there and finds none removes it.
#[derive(Clone, Copy)]
pub(super) struct Index {
    /// The lines, one behind the other.
    pub(super) lines: Bits,
    /// Words in a line.
    pub(super) words: usize,
}

impl Index {
    /// Notes that a run of this class starts in this word.
    pub(super) fn insert(self, class: u32, word: usize) {
        set(self.lines, class as usize * self.words * 64 + word);
    }

    /// Notes that no run of this class starts in this word any more.
    pub(super) fn remove(self, class: u32, word: usize) {
        clear(self.lines, class as usize * self.words * 64 + word);
    }

    /// The first word in which a run of this class may start.
    pub(super) fn first(self, class: u32) -> Option<usize> {
        let start = class as usize * self.words * 64;
        first_set(self.lines, start, start + self.words * 64).map(|found| found - start)
    }

    /// All words in which a run of this class may start.
    pub(super) fn words_of(self, class: u32) -> impl Iterator<Item = usize> {
        let start = class as usize * self.words * 64;
        let end = start + self.words * 64;
        let mut at = start;
        core::iter::from_fn(move || {
            let found = first_set(self.lines, at, end)?;
            at = found + 1;
            Some(found - start)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that are near a class's bound.
    fn lengths() -> impl Iterator<Item = u32> {
        (1..300).chain((9..=16).flat_map(|log| {
            let power = 1u32 << log;
            [power - 1, power, power + 1, power + power / 4 - 1, power + power / 4, power + power / 2]
        }))
    }

    #[test]
    fn longer_runs_have_higher_classes_without_a_gap() {
        for length in lengths().filter(|length| (2..=LONGEST).contains(length)) {
            assert!(class_of(length) - class_of(length - 1) <= 1, "{length}");
        }
        assert_eq!(class_of(1), 1);
        assert_eq!(class_of(LONGEST) as usize, CLASSES - 1);
    }

    #[test]
    fn a_run_is_long_enough_wherever_it_is_looked_for_and_few_that_are_too_are_passed_over() {
        for length in lengths().filter(|length| *length <= LONGEST) {
            let lowest = classes_above(length).trailing_zeros();
            assert!(length == 1 || class_of(length - 1) < lowest, "{length}");
            assert!(class_of(length + length / 4) >= lowest, "{length}");
        }
    }
}
