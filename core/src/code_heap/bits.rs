//! Arrays of bits that one thread at a time changes and others may read meanwhile.

use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bits that live for ever. An index behind the end names a bit that is never set.
pub(super) type Bits = &'static [AtomicU64];

/// The bits from `first` to `last` of a word; what is above 63 counts as 63.
pub(super) fn mask(first: usize, last: usize) -> u64 {
    u64::MAX >> (63 - last.min(63)) & u64::MAX << first.min(63)
}

/// The word of this number.
#[inline]
pub(super) fn word(bits: Bits, index: usize) -> u64 {
    bits.get(index).map_or(0, |word| word.load(Ordering::Acquire))
}

#[inline]
pub(super) fn is_set(bits: Bits, index: usize) -> bool {
    word(bits, index / 64) >> (index % 64) & 1 != 0
}

/// Sets a bit. What was stored before is seen by whoever sees the bit.
pub(super) fn set(bits: Bits, index: usize) {
    change(bits, index / 64, |word| word | 1 << (index % 64));
}

pub(super) fn clear(bits: Bits, index: usize) {
    change(bits, index / 64, |word| word & !(1 << (index % 64)));
}

fn change(bits: Bits, index: usize, change: impl FnOnce(u64) -> u64) {
    if let Some(word) = bits.get(index) {
        word.store(change(word.load(Ordering::Relaxed)), Ordering::Release);
    }
}

/// The words that a range which is not empty lies in, each with the mask of its part.
fn words(range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    let last = range.end.wrapping_sub(1);
    (range.start / 64..last / 64 + 1).map(move |index| {
        let start = index * 64;
        (index, mask(range.start.saturating_sub(start), last - start))
    })
}

/// Whether any bit of a range is set.
pub(super) fn any_set(bits: Bits, range: Range<usize>) -> bool {
    words(range).any(|(index, mask)| word(bits, index) & mask != 0)
}

pub(super) fn set_all(bits: Bits, range: Range<usize>) {
    words(range).for_each(|(index, mask)| change(bits, index, |word| word | mask));
}

pub(super) fn clear_all(bits: Bits, range: Range<usize>) {
    words(range).for_each(|(index, mask)| change(bits, index, |word| word & !mask));
}

/// The first set bit from `from` up to `end`.
pub(super) fn first_set(bits: Bits, from: usize, end: usize) -> Option<usize> {
    let mut found = word(bits, from / 64) & mask(from % 64, 63);
    for index in from / 64..end.div_ceil(64) {
        if found != 0 {
            return Some(index * 64 + found.trailing_zeros() as usize).filter(|found| *found < end);
        }
        found = word(bits, index + 1);
    }
    None
}

/// The last set bit up to `index`, in its word and the `words` before that.
#[inline]
pub(super) fn last_set(bits: Bits, index: usize, words: usize) -> Option<usize> {
    // The bits behind `index` are shifted out.
    let found = word(bits, index / 64) << (63 - index % 64);
    if found != 0 {
        return Some(index - found.leading_zeros() as usize);
    }
    let oldest = (index / 64).saturating_sub(words);
    (oldest..index / 64).rev().find_map(|at| {
        let found = word(bits, at);
        (found != 0).then(|| at * 64 + 63 - found.leading_zeros() as usize)
    })
}

/// The numbers of all set bits.
pub(super) fn set_bits(bits: Bits) -> impl Iterator<Item = usize> {
    (0..bits.len()).flat_map(move |index| {
        let mut rest = word(bits, index);
        core::iter::from_fn(move || {
            let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
            rest &= rest - 1;
            Some(index * 64 + bit)
        })
    })
}

/// How many bits from `start` on are set, up to the end of its word.
pub(super) fn ones_after(bits: Bits, start: usize) -> usize {
    (word(bits, start / 64) >> (start % 64)).trailing_ones() as usize
}

/// How many bits up to `last` are set, down to the start of its word.
pub(super) fn ones_before(bits: Bits, last: usize) -> usize {
    (word(bits, last / 64) << (63 - last % 64)).leading_ones() as usize
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;

    fn bits(words: &[u64]) -> Bits {
        Box::leak(words.iter().map(|word| AtomicU64::new(*word)).collect())
    }

    #[test]
    fn ranges_touch_their_bits_and_no_others() {
        for range in [0..1, 3..64, 63..65, 64..128, 5..190, 191..192] {
            let all = bits(&[0, 0, 0]);
            set_all(all, range.clone());
            for index in 0..192 {
                assert_eq!(is_set(all, index), range.contains(&index), "{range:?} {index}");
                assert_eq!(any_set(all, index..index + 1), range.contains(&index));
            }
            assert!(any_set(all, 0..192));
            clear_all(all, range);
            assert!(!any_set(all, 0..192));
        }
    }

    #[test]
    fn searches_find_the_nearest_bit_within_their_bounds() {
        let all = bits(&[1 << 63, 0, 0b1010]);
        assert_eq!(first_set(all, 0, 192), Some(63));
        assert_eq!(first_set(all, 64, 192), Some(129));
        assert_eq!(first_set(all, 64, 129), None);
        assert_eq!(last_set(all, 128, 2), Some(63));
        assert_eq!(last_set(all, 128, 1), None);
        assert_eq!(last_set(all, 130, 2), Some(129));
        assert_eq!(last_set(all, 62, 9), None);
    }

    #[test]
    fn ones_are_counted_within_a_word() {
        let all = bits(&[u64::MAX << 60, u64::MAX >> 4]);
        assert_eq!((ones_after(all, 60), ones_after(all, 64), ones_after(all, 59)), (4, 60, 0));
        assert_eq!((ones_before(all, 63), ones_before(all, 64 + 59), ones_before(all, 64 + 60)), (4, 60, 0));
    }
}
