//! The chunks of a shard: their summaries side by side, so that looking through all of them is cheap.

use super::chunk::Chunk;
use super::classes::{class_of, classes_above};
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

/// After so many blocks of a chunk have ended they are made free before more of its memory is used.
const MANY: u32 = 1024;

/// All chunks of a shard.
pub(super) struct Roster {
    first: Option<&'static Group>,
    /// Where the last search ended.
    current: Option<&'static Summary>,
    open: Option<Open>,
    /// Which classes of runs there may be, fresh ones and worn ones: any that there are, and maybe more.
    fresh: u64,
    worn: u64,
}

/// What is left of the run that the last block was taken from: the next one comes from there, without any
/// search. No bit says that it is free.
#[derive(Clone, Copy)]
struct Open {
    chunk: &'static Chunk,
    rest: Run,
    is_worn: bool,
    /// How many blocks of the chunk have ended since.
    ended: u32,
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

    /// Takes `length` granules: out of a fresh run if there is any. Their chunk and start.
    #[inline]
    pub(super) fn take(&mut self, length: u32, directory: &Directory) -> Option<(&'static Chunk, usize)> {
        match self.open {
            Some(open) if open.rest.length >= length && self.is_best(open, length) => {}
            _ => self.open_next(length, directory)?,
        }
        let Open { chunk, rest, .. } = self.open.as_mut()?;
        let start = rest.start;
        *rest = Run { start: start + length as usize, length: rest.length - length };
        Some((chunk, start))
    }

    /// Opens a run that has room for `length` granules.
    fn open_next(&mut self, length: u32, directory: &Directory) -> Option<()> {
        let (chunk, rest) = self.search(length, directory)?;
        let is_worn = chunk.take(rest);
        self.open = Some(Open { chunk, rest, is_worn, ended: 0 });
        Some(())
    }

    /// A fresh run, if need be among blocks that have ended: chunk by chunk, as each may have one. A worn run
    /// if there is none.
    fn search(&mut self, length: u32, directory: &Directory) -> Option<(&'static Chunk, Run)> {
        if let Some(Open { chunk, .. }) = self.close().filter(|open| open.ended >= MANY) {
            self.settle(chunk);
        }
        loop {
            if let Some(found) = self.find(length, false, directory) {
                return Some(found);
            }
            match self.summaries().find(|summary| summary.ended.load(Ordering::Relaxed) > 0) {
                Some(ended) => self.settle(chunk_of(ended, directory)?),
                None => return self.find(length, true, directory),
            }
        }
    }

    /// Makes what is worn fresh where no core can have anything left of it: the cross-core step of this number
    /// has finished.
    pub(super) fn renew(&mut self, step: u64, directory: &Directory) {
        if self.worn == 0 && self.open.is_none_or(|open| !open.is_worn) {
            return;
        }
        self.close();
        for chunk in self.chunks(directory).filter(|chunk| chunk.can_renew(step)) {
            chunk.renew();
            self.note(chunk);
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

    /// Whether a block should come out of this run: it is fresh, or nothing else is; and not many blocks have
    /// ended near it, whose memory is there already and warm.
    fn is_best(&self, open: Open, length: u32) -> bool {
        (!open.is_worn || self.fresh & classes_above(length) == 0) && open.ended < MANY
    }

    /// Makes what is left of the open run free, if there is one.
    fn close(&mut self) -> Option<Open> {
        let open = self.open.take()?;
        if open.rest.length > 0 {
            open.chunk.put_back(open.rest, open.is_worn);
            self.note(open.chunk);
        }
        Some(open)
    }

    /// Ends the live block that starts at a granule. Whether its chunk is empty now.
    #[inline]
    pub(super) fn end_block(&mut self, chunk: &Chunk, start: usize) -> bool {
        let is_empty = chunk.live() == 1;
        if !self.give_back(chunk, start) {
            chunk.end_block(start);
            let ended = &chunk.summary().ended;
            ended.store(ended.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        if !is_empty || chunk.summary().ended.load(Ordering::Relaxed) < WORTH_A_RESET {
            return is_empty;
        }
        self.open.take_if(|open| ptr::eq(open.chunk, chunk));
        chunk.reset();
        self.note(chunk);
        true
    }

    /// Ends the block that was allocated last by making the open run longer: what comes and goes like a stack
    /// stays where it is, in warm caches. Not if cores may have fetched from it.
    fn give_back(&mut self, chunk: &Chunk, start: usize) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| ptr::eq(open.chunk, chunk)) else { return false };
        let rest = &mut open.rest;
        let is_last = start < rest.start && chunk.end_of(start) == rest.start;
        if !is_last || chunk.was_executed(&(start..rest.start)) {
            open.ended += 1;
            return false;
        }
        chunk.end_open_block(start);
        *rest = Run { start, length: rest.length + (rest.start - start) as u32 };
        true
    }

    fn find(&mut self, length: u32, is_worn: bool, directory: &Directory) -> Option<(&'static Chunk, Run)> {
        // A summary may promise runs that are gone; a search that finds none corrects it.
        while let Some(summary) = self.find_summary(length, is_worn) {
            self.current = Some(summary);
            let chunk = chunk_of(summary, directory)?;
            if let Some(run) = chunk.find_run(length, is_worn) {
                return Some((chunk, run));
            }
        }
        self.find_tight(length, is_worn, directory)
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
    fn find_tight(&self, length: u32, is_worn: bool, directory: &Directory) -> Option<(&'static Chunk, Run)> {
        let bit = 1 << class_of(length);
        let may_have = |summary: &&Summary| summary.classes(is_worn).load(Ordering::Relaxed) & bit != 0;
        self.summaries().filter(may_have).find_map(|summary| {
            let chunk = chunk_of(summary, directory)?;
            chunk.find_tight_run(length, is_worn).map(|run| (chunk, run))
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
        self.open.take_if(|open| ptr::eq(open.chunk, chunk));
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
