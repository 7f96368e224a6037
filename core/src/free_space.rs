//! Free space: which granules are free, and where a run of them is that is long enough.
//!
//! A bit for each granule says that it is free. How long a run is can be read off its word, unless it goes on in the
//! next ones: then its length is noted beside the word in which it starts, and its start beside the word in which it
//! ends. A word needs one note of each kind, since only one run can leave it and only one can come into it.
//!
//! ```text
//!                word 0            word 1            word 2
//!   free     ....11....111111  1111111111111111  1111....11......
//!                    |                                ^
//!   lengths          26                               |
//!   origins                                           10   (`-` elsewhere: nobody looks)
//! ```
//!
//! Runs are found by class: lengths below 8 granules have a class each; above, each power of two is cut into four.
//! A search takes a run of a class all of whose runs are long enough, at a cost that doesn't grow with their number
//! ("good fit", as in M. Masmano and others, "TLSF: a new dynamic memory allocator for real-time systems", 2004).
//! In place of TLSF's lists there is a bit for each class and word: a run of this class may start in this word. It
//! may outlive the run; a search that finds none removes it.
//!
//! Coalescing is deferred: what is given back is only marked, and joined with its neighbours and the free runs when
//! the owner asks for it. Most of it has neighbours by then, and only marking it touches one cache line.

use crate::bits::Bits;
use crate::memory::Arrays;
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use core::ops::Range;

/// The most granules.
pub(crate) const LONGEST: usize = 1 << 16;

/// There are so few classes that a word has a bit for each.
const CLASSES: usize = class_of(LONGEST) + 1;
const _: () = assert!(CLASSES <= 64);

/// How many words of a class that may be too short are looked at before there is said to be none.
const TRIES: usize = 8;

/// The class of a length, at least 1 and at most [`LONGEST`].
const fn class_of(length: usize) -> usize {
    if length < 8 {
        return length;
    }
    let log = length.ilog2();
    (log as usize - 1) * 4 + (length >> (log - 2) & 3)
}

/// The shortest length of a class.
const fn shortest_of(class: usize) -> usize {
    if class < 8 { class } else { (4 + class % 4) << (class / 4 - 1) }
}

/// The classes all of whose runs have at least `length` granules, as bits.
pub(crate) fn classes_above(length: usize) -> u64 {
    let longest_below = match length {
        0..8 => length,
        _ => length + (1 << (length.ilog2() - 2)) - 1,
    };
    u64::MAX.checked_shl(class_of(longest_below) as u32).unwrap_or(0)
}

/// The free granules. One thread at a time uses it.
#[derive(Default)]
pub(crate) struct FreeSpace {
    free: Bits,
    /// Starts of what was given back and is not coalesced yet.
    deferred: Bits,
    lengths: &'static [AtomicU16],
    origins: &'static [AtomicU16],
    /// A line of bits for each class, one bit for each word of granules.
    index: Bits,
    /// Bits of a line.
    line: usize,
    /// Classes that have runs, and maybe others.
    classes: AtomicU64,
    /// How often something was deferred since it was coalesced last.
    deferrals: AtomicU32,
}

impl FreeSpace {
    /// Of so many granules, none of which is free.
    pub(crate) fn lay_out(arrays: &mut Arrays, granules: usize) -> Self {
        let words = granules.div_ceil(64);
        let line = words.next_multiple_of(64);
        Self {
            free: Bits(arrays.next(words)),
            deferred: Bits(arrays.next(words)),
            index: Bits(arrays.next(CLASSES * line / 64)),
            lengths: arrays.next(words),
            origins: arrays.next(words),
            line,
            ..Self::default()
        }
    }

    #[inline]
    pub(crate) fn classes(&self) -> u64 {
        self.classes.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn deferrals(&self) -> u32 {
        self.deferrals.load(Ordering::Relaxed)
    }

    /// Notes that what starts at a granule is used no more, up to where something else starts: the next
    /// [`coalesce`](Self::coalesce) makes it free.
    #[inline]
    pub(crate) fn defer(&self, start: usize) {
        self.deferred.set(start);
        self.deferrals.store(self.deferrals() + 1, Ordering::Relaxed);
    }

    /// Makes all that was deferred free. How long it is need not be remembered: it ends where something else starts, a
    /// free run, another deferral, or one of `used`, or with the `granules` that there are.
    #[cold]
    pub(crate) fn coalesce(&self, used: Bits, granules: usize) {
        let ends = |word| used.word(word) | self.free.word(word) | self.deferred.word(word);
        let mut gathered = 0..0;
        for start in self.deferred.set_bits() {
            let (mut word, behind) = (start / 64, (u64::MAX << (start % 64)) << 1);
            let mut found = ends(word) & behind;
            while found == 0 && (word + 1) * 64 < granules {
                word += 1;
                found = ends(word);
            }
            let end = if found == 0 { granules } else { word * 64 + found.trailing_zeros() as usize };
            if gathered.end != start && !gathered.is_empty() {
                self.release(gathered.clone());
            }
            gathered = if gathered.end == start { gathered.start } else { start }..end;
        }
        if !gathered.is_empty() {
            self.release(gathered);
        }
        self.deferred.reset();
        self.deferrals.store(0, Ordering::Relaxed);
    }

    /// Nothing is free any more.
    pub(crate) fn clear(&self) {
        for bits in [self.free, self.deferred, self.index] {
            bits.reset();
        }
        self.classes.store(0, Ordering::Relaxed);
        self.deferrals.store(0, Ordering::Relaxed);
    }

    /// Makes everything free, one run.
    pub(crate) fn reset(&self, granules: usize) {
        self.clear();
        self.release(0..granules);
    }

    /// Makes granules free, joined with the runs beside them.
    pub(crate) fn release(&self, granules: Range<usize>) {
        let start = self.start_of_run_ending_at(granules.start);
        let end = match self.free.is_set(granules.end) {
            true => self.run_from(granules.end).end,
            false => granules.end,
        };
        self.free.set_all(granules);
        self.enter(start..end);
    }

    /// Takes a whole run.
    #[inline]
    pub(crate) fn take(&self, run: Range<usize>) {
        self.free.clear_all(run);
    }

    /// A free run of at least `length` granules, of the shortest class that has one.
    #[inline]
    pub(crate) fn find(&self, length: usize) -> Option<Range<usize>> {
        loop {
            let fitting = self.classes() & classes_above(length);
            let class = (fitting != 0).then(|| fitting.trailing_zeros() as usize)?;
            let line = self.line_of(class);
            while let Some(entry) = self.index.first_set(line.start, line.end) {
                if let Some(run) = self.fitting_run(entry - line.start, length) {
                    return Some(run);
                }
                self.index.clear(entry);
            }
            self.classes.store(self.classes() & !(1 << class), Ordering::Relaxed);
        }
    }

    /// A free run of at least `length` granules of the class of that length, some of whose runs are too short.
    pub(crate) fn find_in_class(&self, length: usize) -> Option<Range<usize>> {
        let class = class_of(length);
        if self.classes() >> class & 1 == 0 {
            return None;
        }
        let line = self.line_of(class);
        let entry_from = |from| self.index.first_set(from, line.end);
        let entries = core::iter::successors(entry_from(line.start), |entry| entry_from(entry + 1));
        // A word where nothing of the class is left is not looked at again.
        let is_left = |entry: &usize| {
            let is_left = self.fitting_run(entry - line.start, shortest_of(class)).is_some();
            if !is_left {
                self.index.clear(*entry);
            }
            is_left
        };
        let mut entries = entries.filter(is_left).take(TRIES);
        entries.find_map(|entry| self.fitting_run(entry - line.start, length))
    }

    fn line_of(&self, class: usize) -> Range<usize> {
        class * self.line..(class + 1) * self.line
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<usize>> {
        self.free.runs()
    }

    /// The first run of at least `length` granules that starts in a word.
    #[inline]
    fn fitting_run(&self, word: usize, length: usize) -> Option<Range<usize>> {
        let free = self.starting_in(word);
        // What follows leaves a one where `length` ones follow each other.
        let mut fitting = if length <= 64 { free } else { 0 };
        let mut ones = 1;
        while ones < length.min(64) {
            let step = ones.min(length - ones);
            fitting &= fitting >> step;
            ones += step;
        }
        let leaving = free.leading_ones();
        if leaving > 0 && note(self.lengths, word) + 1 >= length {
            fitting |= 1 << (64 - leaving);
        }
        (fitting != 0).then(|| self.run_from(word * 64 + fitting.trailing_zeros() as usize))
    }

    /// The free granules of a word, without those of a run that comes from the word before.
    fn starting_in(&self, word: usize) -> u64 {
        let free = self.free.word(word);
        let comes_in = word.checked_sub(1).is_some_and(|before| self.free.word(before) >> 63 != 0);
        // Adding one carries through the ones at the low end.
        if comes_in { free & free.wrapping_add(1) } else { free }
    }

    /// The run that starts at a free granule behind one that is not free.
    fn run_from(&self, start: usize) -> Range<usize> {
        let end = start + self.free.ones_after(start);
        match end.is_multiple_of(64) {
            true => start..start + note(self.lengths, start / 64) + 1,
            false => start..end,
        }
    }

    /// Where the run starts that ends in front of a granule; that granule if there is none.
    fn start_of_run_ending_at(&self, end: usize) -> usize {
        let Some(last) = end.checked_sub(1) else { return end };
        let ones = self.free.ones_before(last);
        if ones > last % 64 { note(self.origins, last / 64) } else { end - ones }
    }

    /// Notes a run whose bits are set and whose neighbours are used.
    #[inline]
    fn enter(&self, run: Range<usize>) {
        let (first, last) = (run.start / 64, (run.end - 1) / 64);
        if first != last || run.end.is_multiple_of(64) {
            store(self.lengths, first, run.len() - 1);
        }
        if first != last || run.start.is_multiple_of(64) {
            store(self.origins, last, run.start);
        }
        let class = class_of(run.len());
        self.index.set(class * self.line + first);
        self.classes.store(self.classes() | 1 << class, Ordering::Relaxed);
    }
}

fn note(notes: &[AtomicU16], word: usize) -> usize {
    notes.get(word).map_or(0, |note| note.load(Ordering::Relaxed).into())
}

/// Lengths are noted less 1, and starts are below 65,536: both fit.
fn store(notes: &[AtomicU16], word: usize, value: usize) {
    if let Some(note) = notes.get(word) {
        note.store(value as u16, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::boxed::Box;
    use std::vec;
    use std::vec::Vec;

    fn space(granules: usize) -> FreeSpace {
        let mut arrays = Arrays::measuring();
        FreeSpace::lay_out(&mut arrays, granules);
        FreeSpace::lay_out(&mut Arrays::leaked(arrays.used()), granules)
    }

    #[test]
    fn classes_follow_each_other_and_a_search_passes_few_runs_over() {
        for length in (2..=LONGEST).step_by(if cfg!(miri) { 61 } else { 1 }) {
            assert!(class_of(length) - class_of(length - 1) <= 1, "{length}");
            let shortest = shortest_of(class_of(length));
            assert!(shortest <= length && class_of(shortest) == class_of(length), "{length}");
            assert!(class_of(shortest - 1) < class_of(length), "{length}");
            let lowest = classes_above(length).trailing_zeros() as usize;
            assert!(class_of(length - 1) < lowest, "{length}");
            assert!(class_of(length + length / 4) >= lowest, "{length}");
        }
        assert_eq!((class_of(1), class_of(LONGEST)), (1, CLASSES - 1));
    }

    #[test]
    fn every_run_of_a_class_is_found_however_many_were_taken_before() {
        let space = space(LONGEST);
        for start in (0..LONGEST).step_by(16) {
            space.release(start..start + 15);
        }
        for number in 0..LONGEST / 16 {
            assert_eq!(space.find(15), None);
            let run = space.find_in_class(15).unwrap_or_else(|| panic!("{number} were found"));
            assert_eq!(run.len(), 15);
            space.take(run);
        }
        assert_eq!(space.find_in_class(15), None);
    }

    /// Takes and gives back at random beside a list of which granules are free.
    fn compare(granules: usize, rounds: usize, longest: usize) {
        let space = space(granules);
        let starts = Bits(Box::leak((0..granules.div_ceil(64)).map(|_| AtomicU64::new(0)).collect()));
        let mut free = vec![true; granules];
        space.release(0..granules);
        let mut used: Vec<Range<usize>> = Vec::new();
        let mut random = 1u64;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as usize % bound
        };
        let runs = |free: &[bool]| {
            let firsts = (0..granules).filter(|at| free[*at] && (*at == 0 || !free[at - 1]));
            firsts
                .map(|start| start..(start..granules).find(|at| !free[*at]).unwrap_or(granules))
                .collect::<Vec<_>>()
        };
        for round in 0..rounds {
            let length = below(longest) + 1;
            if below(5) < 3 {
                let all = runs(&free);
                let found = space.find(length).or_else(|| space.find_in_class(length));
                if let Some(run) = found {
                    assert!(run.len() >= length && all.contains(&run), "round {round}: {run:?}");
                    space.take(run.clone());
                    if run.len() > length {
                        space.release(run.start + length..run.end);
                    }
                    free[run.start..run.start + length].fill(false);
                    starts.set(run.start);
                    used.push(run.start..run.start + length);
                } else {
                    let fits = |run: &Range<usize>| 1 << class_of(run.len()) & classes_above(length) != 0;
                    assert!(!all.iter().any(fits), "round {round}: {length} in {all:?}");
                }
            } else if !used.is_empty() {
                let start = used.swap_remove(below(used.len())).start;
                starts.clear(start);
                space.defer(start);
            }
            if below(8) == 0 {
                space.coalesce(starts, granules);
                free.fill(true);
                used.iter().for_each(|run| free[run.clone()].fill(false));
                assert_eq!(space.runs().collect::<Vec<_>>(), runs(&free), "round {round}");
            }
        }
    }

    #[test]
    fn runs_are_found_taken_and_joined_as_a_list_would_have_it() {
        let rounds = if cfg!(miri) { 30 } else { 4_000 };
        for (granules, longest) in [(64, 9), (130, 70), (1024, 12), (1024, 300)] {
            compare(granules, rounds, longest);
        }
    }

    #[test]
    fn the_longest_run_is_one_run() {
        let space = space(LONGEST);
        space.release(0..LONGEST);
        assert_eq!(space.find(1), Some(0..LONGEST));
        assert_eq!(space.find(LONGEST), Some(0..LONGEST));
        space.clear();
        assert_eq!((space.find(1), space.runs().next()), (None, None));
    }
}
