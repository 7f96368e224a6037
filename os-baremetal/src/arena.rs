//! The virtual addresses that the library may use: which pages of them are taken.

use crate::tables::PAGE_SIZE;
use core::ops::Range;

/// A range of virtual addresses, with a bit for each page that is taken.
pub(crate) struct Arena {
    start: usize,
    pages: usize,
    taken: &'static mut [u64],
    /// All pages below are taken.
    lowest_free: usize,
}

const BITS: usize = u64::BITS as usize;

/// Words of the bitmap for so many pages.
pub(crate) const fn words(pages: usize) -> usize {
    pages.div_ceil(BITS)
}

/// The words that have the bits of some pages, and which bits of them these are.
fn words_of(pages: Range<usize>) -> impl DoubleEndedIterator<Item = (usize, u64)> {
    (pages.start / BITS..pages.end.div_ceil(BITS)).map(move |index| {
        let before = pages.start.saturating_sub(index * BITS);
        let behind = ((index + 1) * BITS).saturating_sub(pages.end);
        (index, u64::MAX << before & u64::MAX >> behind)
    })
}

impl Arena {
    /// Addresses from `start` on. All are free. `taken` has [`words`]`(pages)` words.
    pub(crate) fn new(start: usize, pages: usize, taken: &'static mut [u64]) -> Self {
        taken.fill(0);
        Self { start, pages, taken, lowest_free: 0 }
    }

    /// Takes `count` pages in a row: those nearest to the address `near` if there is a wish, else the lowest,
    /// so that few page tables are needed. Their address.
    pub(crate) fn take(&mut self, count: usize, near: Option<usize>) -> Option<usize> {
        let first = match near {
            Some(address) => self.nearest(count, address)?,
            None => self.first_run(count, self.lowest_free)?,
        };
        self.mark(first..first + count, true);
        if first == self.lowest_free {
            self.lowest_free = first + count;
        }
        Some(self.start + first * PAGE_SIZE)
    }

    /// Frees `count` pages from an address on.
    pub(crate) fn give_back(&mut self, address: usize, count: usize) {
        let first = (address - self.start) / PAGE_SIZE;
        self.mark(first..first + count, false);
        self.lowest_free = self.lowest_free.min(first);
    }

    /// The first of `count` free pages, as near to an address as there is room.
    fn nearest(&self, count: usize, address: usize) -> Option<usize> {
        let wish = (address.saturating_sub(self.start) / PAGE_SIZE).min(self.pages.checked_sub(count)?);
        let behind = self.first_run(count, wish);
        if behind == Some(wish) {
            return behind;
        }
        let before = self.last_run(count, wish + count);
        [before, behind].into_iter().flatten().min_by_key(|first| first.abs_diff(wish))
    }

    /// The first of `count` free pages, as low as there are some from page `from` on.
    fn first_run(&self, count: usize, mut from: usize) -> Option<usize> {
        loop {
            let first = self.first_page(from..self.pages, false)?;
            if count > self.pages - first {
                return None;
            }
            match self.first_page(first..first + count, true) {
                Some(obstacle) => from = obstacle,
                None => return Some(first),
            }
        }
    }

    /// The first of `count` free pages, as high as there are some below page `end`.
    fn last_run(&self, count: usize, mut end: usize) -> Option<usize> {
        loop {
            end = self.last_page(0..end, false)? + 1;
            let first = end.checked_sub(count)?;
            match self.last_page(first..end, true) {
                Some(obstacle) => end = obstacle,
                None => return Some(first),
            }
        }
    }

    /// The first of some pages that is taken, or is not.
    fn first_page(&self, pages: Range<usize>, taken: bool) -> Option<usize> {
        words_of(pages).find_map(|(index, bits)| {
            let matching = self.word(index, taken) & bits;
            (matching != 0).then(|| index * BITS + matching.trailing_zeros() as usize)
        })
    }

    /// The last of some pages that is taken, or is not.
    fn last_page(&self, pages: Range<usize>, taken: bool) -> Option<usize> {
        words_of(pages).rev().find_map(|(index, bits)| {
            let matching = self.word(index, taken) & bits;
            (matching != 0).then(|| index * BITS + matching.ilog2() as usize)
        })
    }

    /// A bit for each page that is taken, or is not.
    fn word(&self, index: usize, taken: bool) -> u64 {
        let word = self.taken.get(index).copied().unwrap_or(u64::MAX);
        if taken { word } else { !word }
    }

    fn mark(&mut self, pages: Range<usize>, taken: bool) {
        for (index, bits) in words_of(pages) {
            if let Some(word) = self.taken.get_mut(index) {
                *word = if taken { *word | bits } else { *word & !bits };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    const START: usize = 0x10_0000_0000;

    fn arena(pages: usize) -> Arena {
        Arena::new(START, pages, Box::leak(vec![u64::MAX; words(pages)].into_boxed_slice()))
    }

    fn page(address: Option<usize>) -> Option<usize> {
        address.map(|address| (address - START) / 4096)
    }

    #[test]
    fn the_lowest_addresses_with_room_are_taken() {
        let mut arena = arena(130);
        assert_eq!(page(arena.take(2, None)), Some(0));
        assert_eq!(page(arena.take(127, None)), Some(2));
        arena.give_back(START, 2);
        arena.give_back(START + 64 * 4096, 3);
        assert_eq!(page(arena.take(3, None)), Some(64));
        assert_eq!(page(arena.take(1, None)), Some(0));
        assert_eq!(page(arena.take(1, None)), Some(1));
        assert_eq!(page(arena.take(1, None)), Some(129));
        assert_eq!(arena.take(1, None), None);
    }

    #[test]
    fn a_run_spans_words_and_never_ends_behind_the_arena() {
        let mut arena = arena(100);
        assert_eq!(page(arena.take(60, None)), Some(0));
        assert_eq!(page(arena.take(40, None)), Some(60));
        arena.give_back(START + 60 * 4096, 40);
        assert_eq!(arena.take(41, None), None);
        assert_eq!(page(arena.take(40, None)), Some(60));
    }

    #[test]
    fn pages_are_as_near_to_a_wish_as_there_is_room() {
        let mut arena = arena(100);
        let at = |page: usize| Some(START + page * 4096);
        assert_eq!(page(arena.take(1, at(50))), Some(50));
        assert_eq!(page(arena.take(4, at(50))), Some(51));
        assert_eq!(page(arena.take(4, at(50))), Some(46));
        assert_eq!(page(arena.take(1, Some(1))), Some(0));
        assert_eq!(page(arena.take(3, Some(usize::MAX))), Some(97));
        assert_eq!(arena.take(101, at(0)), None);
    }

    /// A choice that looks at every place there is.
    fn nearest_of_all(taken: &[bool], count: usize, wish: usize) -> Option<usize> {
        let places = 0..(taken.len() + 1).saturating_sub(count);
        let free = places.filter(|first| !taken[*first..first + count].contains(&true));
        free.min_by_key(|first| first.abs_diff(wish.min(taken.len().saturating_sub(count))))
    }

    #[test]
    fn every_choice_is_the_one_that_a_look_at_all_places_makes() {
        const PAGES: usize = 200;
        let mut arena = arena(PAGES);
        let mut taken = [false; PAGES];
        let mut live = Vec::new();
        let mut random = 1u64;
        for _ in 0..if cfg!(miri) { 300 } else { 20_000 } {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let [count, wish, choice] = [40, 48, 56].map(|shift| (random >> shift) as usize & 0xff);
            let count = 1 + count % if choice % 8 == 0 { 90 } else { 5 };
            let (wish, near) = match choice % 3 {
                0 => (0, None),
                _ => (wish, Some(START + wish * 4096 + 17)),
            };
            let expected = nearest_of_all(&taken, count, wish);
            assert_eq!(page(arena.take(count, near)), expected);
            if let Some(first) = expected {
                taken[first..first + count].fill(true);
                live.push((first, count));
            }
            if expected.is_none() || live.len() > 40 {
                let (first, count) = live.swap_remove(choice % live.len());
                arena.give_back(START + first * 4096, count);
                taken[first..first + count].fill(false);
            }
        }
    }
}
