//! The virtual addresses that the library may use: which pages of them are taken.

use core::ops::Range;

/// A range of virtual addresses, with a bit for each page that is taken.
pub(crate) struct Arena {
    start: usize,
    page_size: usize,
    pages: usize,
    taken: &'static mut [u64],
    /// All pages below are taken.
    lowest_free: usize,
}

/// Words of the bitmap for so many pages.
pub(crate) const fn words(pages: usize) -> usize {
    pages.div_ceil(u64::BITS as usize)
}

impl Arena {
    /// Addresses from `start` on. All are free. `taken` has [`words`]`(pages)` words.
    pub(crate) fn new(start: usize, page_size: usize, pages: usize, taken: &'static mut [u64]) -> Self {
        taken.fill(0);
        Self { start, page_size, pages, taken, lowest_free: 0 }
    }

    /// Takes `count` pages in a row: those nearest to the address `near` if there is a wish, else the lowest,
    /// so that few page tables are needed. Their address.
    pub(crate) fn take(&mut self, count: usize, near: Option<usize>) -> Option<usize> {
        let first = match near {
            Some(address) => self.nearest(count, address)?,
            None => self.free_runs().find(|run| run.len() >= count)?.start,
        };
        self.mark(first, count, true);
        self.lowest_free = self.next_page(self.lowest_free, false);
        Some(self.start + first * self.page_size)
    }

    /// Frees `count` pages from an address on.
    pub(crate) fn give_back(&mut self, address: usize, count: usize) {
        let first = (address - self.start) / self.page_size;
        self.mark(first, count, false);
        self.lowest_free = self.lowest_free.min(first);
    }

    /// The first of `count` free pages, as near to an address as there is room.
    fn nearest(&self, count: usize, address: usize) -> Option<usize> {
        let wish = address.saturating_sub(self.start) / self.page_size;
        self.free_runs()
            .filter(|run| run.len() >= count)
            .map(|run| wish.clamp(run.start, run.end - count))
            .min_by_key(|first| first.abs_diff(wish))
    }

    /// Runs of free pages, as page numbers.
    fn free_runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        let mut at = self.lowest_free;
        core::iter::from_fn(move || {
            let start = self.next_page(at, false);
            if start >= self.pages {
                return None;
            }
            at = self.next_page(start, true);
            Some(start..at)
        })
    }

    /// The first page from `page` on that is taken, or is not; the number of pages if there is none.
    fn next_page(&self, page: usize, taken: bool) -> usize {
        let bits = u64::BITS as usize;
        let mut at = page;
        while at < self.pages {
            let word = self.taken[at / bits];
            let matching = (if taken { word } else { !word }) >> (at % bits);
            if matching != 0 {
                return (at + matching.trailing_zeros() as usize).min(self.pages);
            }
            at = (at / bits + 1) * bits;
        }
        self.pages
    }

    fn mark(&mut self, first: usize, count: usize, taken: bool) {
        let bits = u64::BITS as usize;
        for page in first..first + count {
            let bit = 1 << (page % bits);
            match taken {
                true => self.taken[page / bits] |= bit,
                false => self.taken[page / bits] &= !bit,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec;

    const START: usize = 0x10_0000_0000;

    fn arena(pages: usize) -> Arena {
        Arena::new(START, 4096, pages, Box::leak(vec![u64::MAX; words(pages)].into_boxed_slice()))
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
    }
}
