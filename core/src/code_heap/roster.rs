//! The chunks of a shard: their summaries side by side, so that looking through all of them is cheap.

use super::chunk::Chunk;
use super::classes::classes_above;
use super::directory::Directory;
use super::runs::{Run, Summary};
use crate::memory::UNIT;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

const IN_GROUP: usize = (UNIT - size_of::<AtomicPtr<Group>>()) / size_of::<Summary>();

/// A reset walks through all the tables of a chunk. Until so many blocks have ended, those that come and go
/// alone in an empty chunk are cheaper without.
const WORTH_A_RESET: u32 = 64;

/// One unit of memory full of summaries. Zeroed memory is an empty one.
#[repr(C)]
pub(super) struct Group {
    summaries: [Summary; IN_GROUP],
    next: AtomicPtr<Group>,
}

const _: () = assert!(size_of::<Group>() <= UNIT);

/// All chunks of a shard.
pub(super) struct Roster {
    first: Option<&'static Group>,
    /// Where the last search ended.
    current: Option<&'static Summary>,
    /// What is left of the run that the last block was taken from: the next one comes from there, without
    /// any search. It is not in its chunk's index.
    open: Option<(&'static Chunk, Run)>,
    /// Which classes of runs there may be, fresh ones and worn ones: any that there are, and maybe more.
    fresh: u64,
    worn: u64,
}

impl Roster {
    pub(super) const fn new() -> Self {
        Self { first: None, current: None, open: None, fresh: 0, worn: 0 }
    }

    fn summaries(&self) -> impl Iterator<Item = &'static Summary> + use<> {
        let mut group = self.first;
        core::iter::from_fn(move || {
            let this = group?;
            // SAFETY: groups are made of memory that lives for ever.
            group = unsafe { this.next.load(Ordering::Relaxed).as_ref() };
            Some(&this.summaries)
        })
        .flatten()
    }

    /// All chunks.
    pub(super) fn chunks<'a>(
        &self,
        directory: &'a Directory,
    ) -> impl Iterator<Item = &'static Chunk> + use<'a> {
        self.summaries().filter_map(|summary| chunk_of(summary, directory))
    }

    /// A place for one more chunk's summary.
    pub(super) fn vacancy(&self) -> Option<&'static Summary> {
        self.summaries().find(|summary| summary.chunk.load(Ordering::Relaxed) == 0)
    }

    /// Makes room for more chunks, with a unit of zeroed memory that stays.
    pub(super) fn extend(&mut self, memory: ptr::NonNull<u8>) {
        // SAFETY: a unit of zeroed memory, ours for ever, is an empty group.
        let group = unsafe { memory.cast::<Group>().as_ref() };
        let rest = self.first.map_or(ptr::null_mut(), |first| ptr::from_ref(first).cast_mut());
        group.next.store(rest, Ordering::Relaxed);
        self.first = Some(group);
    }

    /// Notes the classes that a chunk has now.
    #[inline]
    fn note(&mut self, chunk: &Chunk) {
        let summary = chunk.summary();
        self.fresh |= summary.classes(false).load(Ordering::Relaxed);
        self.worn |= summary.classes(true).load(Ordering::Relaxed);
    }

    /// Takes a run of `length` granules: out of a fresh one if there is any. Its chunk and start.
    #[inline]
    pub(super) fn take(&mut self, length: u32, directory: &Directory) -> Option<(&'static Chunk, usize)> {
        let (chunk, run) = match self.open {
            Some((chunk, run)) if run.length >= length && self.is_best(chunk, run, length) => (chunk, run),
            _ => self.search(length, directory)?,
        };
        self.open = chunk.take_front(run, length).map(|rest| (chunk, rest));
        Some((chunk, run.start))
    }

    /// A run, if need be among blocks that have ended: chunk by chunk, as each may have one.
    fn search(&mut self, length: u32, directory: &Directory) -> Option<(&'static Chunk, Run)> {
        self.close();
        loop {
            if let Some(found) = self.find(length, directory) {
                return Some(found);
            }
            let ended = self.summaries().find(|summary| summary.ended.load(Ordering::Relaxed) > 0)?;
            self.settle(chunk_of(ended, directory)?);
        }
    }

    fn settle(&mut self, chunk: &Chunk) {
        chunk.settle();
        self.note(chunk);
    }

    /// Makes the granules of all blocks that have ended free, and closes the open run.
    pub(super) fn settle_all(&mut self, directory: &Directory) {
        self.close();
        for chunk in self.chunks(directory) {
            self.settle(chunk);
        }
    }

    /// Whether a block should come out of this run: it is fresh, or nothing else is.
    fn is_best(&self, chunk: &Chunk, run: Run, length: u32) -> bool {
        !chunk.is_worn(run) || self.fresh & classes_above(length) == 0
    }

    /// Enters the open run into its chunk's index.
    pub(super) fn close(&mut self) {
        if let Some((chunk, run)) = self.open.take() {
            chunk.note_class(run, chunk.is_worn(run));
            self.note(chunk);
        }
    }

    /// Ends the live block that starts at a granule. Whether its chunk is empty now.
    #[inline]
    pub(super) fn end_block(&mut self, chunk: &Chunk, start: usize) -> bool {
        let is_empty = chunk.end_block(start) == 0;
        let ended = &chunk.summary().ended;
        let count = ended.load(Ordering::Relaxed) + 1;
        if !is_empty || count < WORTH_A_RESET {
            ended.store(count, Ordering::Relaxed);
            return is_empty;
        }
        self.open.take_if(|(open, _)| core::ptr::eq(*open, chunk));
        chunk.reset();
        self.note(chunk);
        true
    }

    fn find(&mut self, length: u32, directory: &Directory) -> Option<(&'static Chunk, Run)> {
        for is_worn in [false, true] {
            // A summary may promise runs that are gone; a search that finds none corrects it.
            while let Some(summary) = self.find_summary(length, is_worn) {
                self.current = Some(summary);
                let chunk = chunk_of(summary, directory)?;
                if let Some(run) = chunk.find_run(length, is_worn) {
                    return Some((chunk, run));
                }
            }
        }
        self.find_tight(length, directory)
    }

    fn find_summary(&mut self, length: u32, is_worn: bool) -> Option<&'static Summary> {
        if let Some(current) = self.current.filter(|current| current.has(length, is_worn)) {
            return Some(current);
        }
        let known = if is_worn { self.worn } else { self.fresh };
        if known & classes_above(length) == 0 {
            return None;
        }
        let found = self.summaries().find(|summary| summary.has(length, is_worn));
        if found.is_none() {
            let known = if is_worn { &mut self.worn } else { &mut self.fresh };
            *known &= !classes_above(length);
        }
        found
    }

    /// A run of the class that the length itself belongs to, before more memory is asked for.
    #[cold]
    fn find_tight(&self, length: u32, directory: &Directory) -> Option<(&'static Chunk, Run)> {
        self.chunks(directory).find_map(|chunk| {
            let run = chunk.find_tight_run(length, false).or_else(|| chunk.find_tight_run(length, true));
            run.map(|run| (chunk, run))
        })
    }

    /// Adds an empty chunk, if there is a vacancy.
    pub(super) fn add(&mut self, chunk: &'static Chunk) {
        if let Some(summary) = self.vacancy() {
            summary.chunk.store(chunk.number + 1, Ordering::Relaxed);
            chunk.set_summary(summary);
            chunk.reset();
            self.note(chunk);
        }
    }

    /// Takes a chunk out.
    pub(super) fn remove(&mut self, chunk: &Chunk) {
        self.open.take_if(|(open, _)| core::ptr::eq(*open, chunk));
        chunk.forget_all_runs();
        chunk.summary().chunk.store(0, Ordering::Relaxed);
    }

    /// Takes all chunks out.
    pub(super) fn clear(&mut self, directory: &Directory) {
        for chunk in self.chunks(directory) {
            self.remove(chunk);
        }
    }
}

fn chunk_of(summary: &Summary, directory: &Directory) -> Option<&'static Chunk> {
    directory.get(summary.chunk.load(Ordering::Relaxed).checked_sub(1)?)
}
