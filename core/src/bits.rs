//! Arrays of bits that one thread at a time changes and others may read meanwhile.

use crate::sync::{AtomicU64, Ordering};
use core::ops::Range;

/// Bits in memory that lives for ever. An index behind the end names a bit that is never set. Their words are every
/// `STEP`-th one of the memory: others have those between.
#[derive(Clone, Copy, Default)]
pub(crate) struct Bits<const STEP: usize = 1>(pub(crate) &'static [AtomicU64]);

/// The bits from `first` to `last` of a word; what is above 63 counts as 63.
fn mask(first: usize, last: usize) -> u64 {
    u64::MAX >> (63 - last.min(63)) & u64::MAX << first.min(63)
}

/// The words that a range lies in, each with the mask of its part.
fn words(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let last = range.end.saturating_sub(1);
    (range.start / 64..range.end.div_ceil(64)).map(move |index| {
        let start = index * 64;
        (index, mask(range.start.saturating_sub(start), last - start))
    })
}

impl<const STEP: usize> Bits<STEP> {
    /// The word of this number.
    #[inline]
    pub(crate) fn word(self, index: usize) -> u64 {
        self.0.get(index * STEP).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// How many words there are.
    fn words(self) -> usize {
        self.0.len().div_ceil(STEP)
    }

    fn change(self, index: usize, change: impl FnOnce(u64) -> u64) {
        if let Some(word) = self.0.get(index * STEP) {
            word.store(change(word.load(Ordering::Relaxed)), Ordering::Release);
        }
    }

    #[inline]
    pub(crate) fn is_set(self, index: usize) -> bool {
        self.word(index / 64) >> (index % 64) & 1 != 0
    }

    /// Sets a bit. What was stored before is seen by whoever sees the bit.
    #[inline]
    pub(crate) fn set(self, index: usize) {
        self.change(index / 64, |word| word | 1 << (index % 64));
    }

    #[inline]
    pub(crate) fn clear(self, index: usize) {
        self.change(index / 64, |word| word & !(1 << (index % 64)));
    }

    /// Whether any bit of a range is set.
    #[inline]
    pub(crate) fn any_set(self, range: Range<usize>) -> bool {
        words(range).any(|(index, mask)| self.word(index) & mask != 0)
    }

    #[inline]
    pub(crate) fn set_all(self, range: Range<usize>) {
        words(range).for_each(|(index, mask)| self.change(index, |word| word | mask));
    }

    #[inline]
    pub(crate) fn clear_all(self, range: Range<usize>) {
        words(range).for_each(|(index, mask)| self.change(index, |word| word & !mask));
    }

    /// Clears every bit.
    pub(crate) fn reset(self) {
        self.0.iter().step_by(STEP).for_each(|word| word.store(0, Ordering::Release));
    }

    /// The first set bit from `from` up to `end`.
    pub(crate) fn first_set(self, from: usize, end: usize) -> Option<usize> {
        let mut found = self.word(from / 64) & mask(from % 64, 63);
        for index in from / 64..end.div_ceil(64) {
            if found != 0 {
                return Some(index * 64 + found.trailing_zeros() as usize).filter(|found| *found < end);
            }
            found = self.word(index + 1);
        }
        None
    }

    /// The last set bit up to `index`, in its word and the `words` before that.
    #[inline]
    pub(crate) fn last_set(self, index: usize, words: usize) -> Option<usize> {
        // The bits behind `index` are shifted out.
        let found = self.word(index / 64) << (63 - index % 64);
        if found != 0 {
            return Some(index - found.leading_zeros() as usize);
        }
        let oldest = (index / 64).saturating_sub(words);
        (oldest..index / 64).rev().find_map(|at| {
            let found = self.word(at);
            (found != 0).then(|| at * 64 + 63 - found.leading_zeros() as usize)
        })
    }

    /// All runs of set bits.
    pub(crate) fn runs(self) -> impl Iterator<Item = Range<usize>> {
        let mut from = 0;
        core::iter::from_fn(move || {
            let start = self.first_set(from, self.words() * 64)?;
            from = start;
            loop {
                let ones = self.ones_after(from);
                from += ones;
                if ones == 0 || !from.is_multiple_of(64) {
                    return Some(start..from);
                }
            }
        })
    }

    /// The numbers of all set bits.
    pub(crate) fn set_bits(self) -> impl Iterator<Item = usize> {
        (0..self.words()).flat_map(move |index| {
            let mut rest = self.word(index);
            core::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(index * 64 + bit)
            })
        })
    }

    /// How many bits from `start` on are set, up to the end of its word.
    pub(crate) fn ones_after(self, start: usize) -> usize {
        (self.word(start / 64) >> (start % 64)).trailing_ones() as usize
    }

    /// How many bits up to `last` are set, down to the start of its word.
    pub(crate) fn ones_before(self, last: usize) -> usize {
        (self.word(last / 64) << (63 - last % 64)).leading_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;

    fn bits(words: &[u64]) -> Bits {
        Bits(Box::leak(words.iter().map(|word| AtomicU64::new(*word)).collect()))
    }

    #[test]
    fn ranges_touch_their_bits_and_no_others() {
        for range in [0..1, 3..64, 63..65, 64..128, 5..190, 191..192] {
            let all = bits(&[0, 0, 0]);
            all.set_all(range.clone());
            for index in 0..192 {
                assert_eq!(all.is_set(index), range.contains(&index), "{range:?} {index}");
                assert_eq!(all.any_set(index..index + 1), range.contains(&index));
            }
            assert!(all.any_set(0..192));
            assert!(all.runs().eq([range.clone()]));
            all.clear_all(range);
            assert!(!all.any_set(0..192));
            assert_eq!(all.runs().next(), None);
        }
    }

    #[test]
    fn searches_find_the_nearest_bit_within_their_bounds() {
        let all = bits(&[1 << 63, 0, 0b1010]);
        assert_eq!(all.first_set(0, 192), Some(63));
        assert_eq!(all.first_set(64, 192), Some(129));
        assert_eq!(all.first_set(64, 129), None);
        assert_eq!(all.last_set(128, 2), Some(63));
        assert_eq!(all.last_set(128, 1), None);
        assert_eq!(all.last_set(130, 2), Some(129));
        assert_eq!(all.last_set(62, 9), None);
    }

    #[test]
    fn ones_are_counted_within_a_word() {
        let all = bits(&[u64::MAX << 60, u64::MAX >> 4]);
        assert_eq!((all.ones_after(60), all.ones_after(64), all.ones_after(59)), (4, 60, 0));
        assert_eq!((all.ones_before(63), all.ones_before(64 + 59), all.ones_before(64 + 60)), (4, 60, 0));
    }
}
