//! A chunk's free runs: which granules are free, and how long a run is without counting.
//!
//! A bit for each granule says that it is free. A run that reaches the end of the word in which it starts
//! has its length noted for that word, and one that comes from the start of the word in which it ends has
//! its start noted there: of either kind a word can have one only. So freeing finds both neighbours, and a
//! search the length of what it found, in a few words that are near each other. No list is followed.
//!
//! Blocks are cut off the front of an open run, which has no bits: it is taken whole, and what is left is put
//! back. A block that ends is only marked, and made free with all others that have ended when no other run
//! serves: most of them have neighbours by then, or their chunk is empty and nothing needs merging.
//!
//! Runs that cores may have fetched from ("worn") are kept apart: publishing there costs a cross-core step,
//! so they are used last. A run that is merged of both kinds is worn. A step that has finished makes all runs
//! fresh that were free when it started.

use super::bits::{any_set, clear, clear_all, is_set, ones_after, ones_before, set, set_all, set_bits, word};
use super::chunk::{Chunk, Tables};
use super::classes::{class_of, classes_above};
use core::ops::Range;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// How many words of a class that may be too short are looked at before there is said to be none.
const TRIES: usize = 8;

/// What a search wants to know of a chunk before it looks at it: the classes of its runs, as bits, and maybe
/// of runs that are gone. The summaries of a shard's chunks lie side by side.
pub(super) struct Summary {
    /// The chunk, as number + 1; 0: none.
    pub(super) chunk: AtomicU16,
    /// Of runs that nobody fetched from.
    fresh: AtomicU64,
    worn: AtomicU64,
    /// Blocks that ended and whose granules are not free yet.
    pub(super) ended: AtomicU32,
}

impl Summary {
    pub(super) const fn new() -> Self {
        Self {
            chunk: AtomicU16::new(0),
            fresh: AtomicU64::new(0),
            worn: AtomicU64::new(0),
            ended: AtomicU32::new(0),
        }
    }

    pub(super) fn classes(&self, is_worn: bool) -> &AtomicU64 {
        if is_worn { &self.worn } else { &self.fresh }
    }

    /// Whether the chunk may have a run of so many granules.
    pub(super) fn has(&self, length: u32, is_worn: bool) -> bool {
        self.classes(is_worn).load(Ordering::Relaxed) & classes_above(length) != 0
    }
}

/// Free granules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) length: u32,
}

impl Run {
    pub(super) fn end(self) -> usize {
        self.start + self.length as usize
    }
}

impl Chunk {
    /// Makes a run of granules free, merged with its neighbours.
    fn free_run(&self, freed: Range<usize>) {
        let mut is_worn = self.was_executed(&freed);
        let mut whole = Run { start: freed.start, length: freed.len() as u32 };
        if let Some(before) = self.run_ending_at(freed.start) {
            is_worn |= self.unmark(before);
            whole = Run { start: before.start, length: before.length + whole.length };
        }
        if is_set(self.tables.free, freed.end) {
            let after = self.run_from(freed.end);
            is_worn |= self.unmark(after);
            whole.length += after.length;
        }
        set_all(self.tables.free, freed);
        self.note_bounds(whole);
        self.note_class(whole, is_worn);
    }

    /// Makes the granules of all ended blocks free. No run is open.
    #[cold]
    pub(super) fn settle(&self) {
        let mut gathered = 0..0;
        for start in set_bits(self.tables.ended) {
            let granules = self.extent(start);
            if gathered.end == granules.start {
                gathered.end = granules.end;
                continue;
            }
            let before = core::mem::replace(&mut gathered, granules);
            if !before.is_empty() {
                self.free_run(before);
            }
        }
        self.tables.ended.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        if !gathered.is_empty() {
            self.free_run(gathered);
        }
        self.summary().ended.store(0, Ordering::Relaxed);
    }

    /// Whether no core can still have anything of what is free here: a step that started later has finished.
    pub(super) fn can_renew(&self, step: u64) -> bool {
        self.summary().worn.load(Ordering::Relaxed) != 0 && self.renewing_step() <= step
    }

    /// Makes all worn runs fresh. No run is open.
    pub(super) fn renew(&self) {
        for (executed, free) in self.tables.executed.iter().zip(self.tables.free) {
            let used = executed.load(Ordering::Relaxed) & !free.load(Ordering::Relaxed);
            executed.store(used, Ordering::Relaxed);
        }
        self.tables.worn.lines.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.summary().worn.store(0, Ordering::Relaxed);
        for run in self.runs() {
            if self.unmark(run) {
                self.note_class(run, false);
            }
        }
    }

    /// Makes the whole chunk, in which no block is live, one free run.
    pub(super) fn reset(&self) {
        self.is_lent.store(false, Ordering::Relaxed);
        self.forget_all_runs();
        self.free_run(0..self.granules() as usize);
    }

    /// Takes a whole run. Whether it was worn.
    pub(super) fn take(&self, run: Run) -> bool {
        clear_all(self.tables.free, run.start..run.end());
        self.unmark(run)
    }

    /// Makes what is left of a run that was taken whole free again. Nothing around it was made free meanwhile.
    pub(super) fn put_back(&self, rest: Run, is_worn: bool) {
        let granules = rest.start..rest.end();
        let is_worn = is_worn && self.was_executed(&granules);
        set_all(self.tables.free, granules);
        self.note_bounds(rest);
        self.note_class(rest, is_worn);
    }

    /// Takes `length` granules at `start` out of a run.
    pub(super) fn take_middle(&self, run: Run, start: usize, length: u32) {
        let is_worn = self.take(run);
        for rest in [run.start..start, start + length as usize..run.end()] {
            if !rest.is_empty() {
                self.put_back(Run { start: rest.start, length: rest.len() as u32 }, is_worn);
            }
        }
    }

    /// A free run of at least `length` granules, of the shortest class that has one.
    #[inline]
    pub(super) fn find_run(&self, length: u32, is_worn: bool) -> Option<Run> {
        let summary = self.summary().classes(is_worn);
        let index = self.tables.index(is_worn);
        loop {
            let classes = summary.load(Ordering::Relaxed);
            let fitting = classes & classes_above(length);
            let class = (fitting != 0).then(|| fitting.trailing_zeros())?;
            // The index may name words where such runs were once: they are forgotten when it turns out.
            while let Some(word) = index.first(class) {
                if let Some(run) = self.fitting_run(word, length, is_worn) {
                    return Some(run);
                }
                index.remove(class, word);
            }
            summary.store(classes & !(1 << class), Ordering::Relaxed);
        }
    }

    /// A free run of at least `length` granules, of the class of that length: some of its runs are too short.
    pub(super) fn find_tight_run(&self, length: u32, is_worn: bool) -> Option<Run> {
        let words = self.tables.index(is_worn).words_of(class_of(length));
        words.take(TRIES).find_map(|word| self.fitting_run(word, length, is_worn))
    }

    /// A run of at least `length` granules that starts in a word.
    #[inline]
    fn fitting_run(&self, index: usize, length: u32, is_worn: bool) -> Option<Run> {
        let free = self.starting_in(index);
        // A bit stays where so many ones follow each other. What goes on in the next word is long enough too
        // if its length says so.
        let mut fitting = free;
        let (mut ones, wanted) = (1, length.min(64));
        while ones < wanted {
            let step = ones.min(wanted - ones);
            fitting &= fitting >> step;
            ones += step;
        }
        let tail = free.leading_ones();
        if tail > 0 && note(self.tables.lengths, index) + 1 >= length {
            fitting |= 1 << (64 - tail);
        }
        while fitting != 0 {
            let bit = fitting.trailing_zeros();
            let run = self.run_from(index * 64 + bit as usize);
            if run.length >= length && self.is_worn(run) == is_worn {
                return Some(run);
            }
            fitting &= u64::MAX.checked_shl(bit + run.length).unwrap_or(0);
        }
        None
    }

    /// The free granules of a word, without those of a run that comes from the word before.
    fn starting_in(&self, index: usize) -> u64 {
        let free = word(self.tables.free, index);
        let before = index.checked_sub(1).map_or(0, |before| word(self.tables.free, before) >> 63);
        free & !(before * (free ^ (free.wrapping_add(1) & free)))
    }

    pub(super) fn was_executed(&self, granules: &Range<usize>) -> bool {
        self.has_executed() && any_set(self.tables.executed, granules.clone())
    }

    /// All free runs, in address order.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        (0..self.granules().div_ceil(64) as usize).flat_map(|word| self.runs_in(word))
    }

    /// The free runs that start in a word.
    fn runs_in(&self, index: usize) -> impl Iterator<Item = Run> + '_ {
        let free = self.starting_in(index);
        let mut starts = free & !(free << 1);
        core::iter::from_fn(move || {
            let bit = (starts != 0).then(|| starts.trailing_zeros() as usize)?;
            starts &= starts - 1;
            Some(self.run_from(index * 64 + bit))
        })
    }

    /// The run that starts at a free granule behind one that is not free.
    fn run_from(&self, start: usize) -> Run {
        let ones = ones_after(self.tables.free, start);
        let length = match (start + ones).is_multiple_of(64) {
            true => note(self.tables.lengths, start / 64) + 1,
            false => ones as u32,
        };
        Run { start, length }
    }

    /// The run that ends in front of a granule.
    fn run_ending_at(&self, end: usize) -> Option<Run> {
        let last = end.checked_sub(1)?;
        let ones = ones_before(self.tables.free, last);
        if ones == 0 {
            return None;
        }
        let start = match ones > last % 64 {
            true => note(self.tables.origins, last / 64) as usize,
            false => end - ones,
        };
        Some(Run { start, length: (end - start) as u32 })
    }

    pub(super) fn is_worn(&self, run: Run) -> bool {
        self.has_executed() && is_set(self.tables.marks, run.start)
    }

    /// Notes the bounds of a run whose bits are set and whose neighbours are in use.
    #[inline]
    fn note_bounds(&self, run: Run) {
        let (first, last) = (run.start / 64, (run.end() - 1) / 64);
        if first != last || run.end().is_multiple_of(64) {
            store(self.tables.lengths, first, run.length - 1);
        }
        if first != last || run.start.is_multiple_of(64) {
            store(self.tables.origins, last, run.start as u32);
        }
    }

    /// Enters a run into the index.
    pub(super) fn note_class(&self, run: Run, is_worn: bool) {
        if is_worn {
            set(self.tables.marks, run.start);
        }
        let class = class_of(run.length);
        self.tables.index(is_worn).insert(class, run.start / 64);
        let classes = self.summary().classes(is_worn);
        classes.store(classes.load(Ordering::Relaxed) | 1 << class, Ordering::Relaxed);
    }

    /// A run is about to change. Whether it was worn.
    fn unmark(&self, run: Run) -> bool {
        let is_worn = self.is_worn(run);
        if is_worn {
            clear(self.tables.marks, run.start);
        }
        is_worn
    }

    /// No run is free any more: the chunk goes back to the system.
    pub(super) fn forget_all_runs(&self) {
        let Tables { free, marks, ended, fresh, worn, .. } = self.tables;
        for bits in [free, marks, ended, fresh.lines, worn.lines] {
            bits.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        for classes in [&self.summary().fresh, &self.summary().worn] {
            classes.store(0, Ordering::Relaxed);
        }
        self.summary().ended.store(0, Ordering::Relaxed);
    }
}

fn note(notes: &[AtomicU16], index: usize) -> u32 {
    notes.get(index).map_or(0, |note| note.load(Ordering::Relaxed).into())
}

/// Lengths are stored less 1, and starts are below 65,536: both fit.
fn store(notes: &[AtomicU16], index: usize, value: u32) {
    if let Some(note) = notes.get(index) {
        note.store(value as u16, Ordering::Relaxed);
    }
}
