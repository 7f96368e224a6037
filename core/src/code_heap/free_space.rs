//! The free blocks of one shard: a record for each, in lists by length, and neighbours found in O(1).
//!
//! Free blocks that touch are always merged. So at most one free block has a granule in any pair of
//! granules, and the chunk's `free` table needs one entry for each pair: the index of the record of the
//! free block that begins or ends there. An entry may be out of date; the record that it names says whether
//! it is that block's.

use super::bins::{Bins, Link};
use super::chunk::Chunk;
use super::directory::Directory;
use crate::error::Error;
use crate::near::Reach;
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::span::Span;
use core::ptr;
use core::sync::atomic::Ordering;

/// How many blocks of a class that may be too short are looked at before there is said to be none.
const TRIES: usize = 16;

#[derive(Clone, Copy)]
struct Record {
    chunk: u16,
    state: State,
    head: u16,
    /// Granules - 1.
    last: u16,
    next: Link,
    previous: Link,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
enum State {
    /// The record is of no block; what follows is the next such record.
    Unused = 0,
    /// No core has ever fetched from the block.
    Fresh = 1,
    /// Some of it was published before. Such blocks are used last: publishing there costs a cross-core step.
    Executed = 2,
}

impl Record {
    fn length(&self) -> u32 {
        u32::from(self.last) + 1
    }

    fn end(&self) -> u32 {
        u32::from(self.head) + self.length()
    }
}

/// All free blocks of a shard.
pub(super) struct FreeSpace {
    records: *mut Record,
    capacity: u32,
    /// Records that were ever used.
    used: u32,
    /// Head of the list of unused records.
    unused: Link,
    fresh: Bins,
    executed: Bins,
}

// SAFETY: the records are memory of this value alone.
unsafe impl Send for FreeSpace {}

/// Granules that were taken out of the free space.
pub(super) struct Taken {
    pub(super) chunk: &'static Chunk,
    pub(super) granule: u32,
    /// Whether the whole chunk was free.
    pub(super) was_empty: bool,
}

impl FreeSpace {
    pub(super) const fn new() -> Self {
        Self {
            records: ptr::null_mut(),
            capacity: 0,
            used: 0,
            unused: 0,
            fresh: Bins::new(),
            executed: Bins::new(),
        }
    }

    /// Bytes that the records take.
    pub(super) fn bytes(&self) -> usize {
        self.capacity as usize * size_of::<Record>()
    }

    /// Sees to it that so many free blocks can be recorded: what follows can't fail for want of memory.
    #[inline]
    pub(super) fn reserve(&mut self, blocks: u32, platform: impl Platform) -> Result<(), Error> {
        if blocks <= self.capacity { Ok(()) } else { self.grow(blocks, platform) }
    }

    fn grow(&mut self, blocks: u32, platform: impl Platform) -> Result<(), Error> {
        let bytes = (blocks.max(self.capacity.saturating_mul(2)) as usize * size_of::<Record>())
            .next_multiple_of(platform.page_size());
        let fresh = platform.map(bytes, Memory::Private(Protection::RW), None)?.address;
        let target = ptr::with_exposed_provenance_mut::<Record>(fresh);
        let (old, old_bytes) = (self.records, self.bytes().next_multiple_of(platform.page_size()));
        if !old.is_null() {
            // SAFETY: the first `used` records are initialised; the new memory has room for more.
            unsafe { ptr::copy_nonoverlapping(old, target, self.used as usize) };
        }
        self.records = target;
        self.capacity = (bytes / size_of::<Record>()).min(u32::MAX as usize) as u32;
        if !old.is_null() {
            // SAFETY: the old memory was mapped here, and nobody looks at it any more. If it can't be
            // unmapped it is lost, and nothing else is.
            let _ = unsafe { platform.unmap(Span::from_parts(old.addr(), old_bytes)) };
        }
        Ok(())
    }

    fn get(&self, link: Link) -> Option<&Record> {
        let index = link.checked_sub(1).filter(|index| *index < self.used)?;
        // SAFETY: records below `used` are initialised.
        Some(unsafe { &*self.records.wrapping_add(index as usize) })
    }

    fn get_mut(&mut self, link: Link) -> Option<&mut Record> {
        let index = link.checked_sub(1).filter(|index| *index < self.used)?;
        // SAFETY: records below `used` are initialised; `&mut self` makes the access exclusive.
        Some(unsafe { &mut *self.records.wrapping_add(index as usize) })
    }

    /// Takes `length` granules out of the first free block that is long enough.
    #[inline]
    pub(super) fn take(&mut self, length: u32, directory: &Directory) -> Option<Taken> {
        let link = (self.fresh.find(length))
            .or_else(|| self.executed.find(length))
            .or_else(|| self.find_in_own_class(length, &self.fresh))
            .or_else(|| self.find_in_own_class(length, &self.executed))?;
        let record = *self.get(link)?;
        let chunk = directory.get(record.chunk)?;
        let was_empty = record.length() == chunk.granules();
        let rest = record.length() - length;
        if rest == 0 {
            self.unlink(link);
            self.give(link);
        } else {
            self.resize(link, chunk, u32::from(record.head) + length, rest, record.state);
        }
        Some(Taken { chunk, granule: record.head.into(), was_empty })
    }

    fn find_in_own_class(&self, length: u32, bins: &Bins) -> Option<Link> {
        let mut link = bins.first_of_class(length);
        for _ in 0..TRIES {
            let record = self.get(link)?;
            if record.length() >= length {
                return Some(link);
            }
            link = record.next;
        }
        None
    }

    /// Takes `length` granules all of whose bytes are within reach. Looks at every free block.
    pub(super) fn take_near(&mut self, length: u32, reach: Reach, directory: &Directory) -> Option<Taken> {
        for link in 1..=self.used {
            let Some(record) = self.get(link).copied().filter(|record| record.state != State::Unused) else {
                continue;
            };
            let chunk = directory.get(record.chunk)?;
            let Some(granule) = place_within(&record, length, reach, chunk) else { continue };
            let was_empty = record.length() == chunk.granules();
            self.unlink(link);
            let (front, back) = (granule - u32::from(record.head), record.end() - granule - length);
            if front > 0 {
                self.link(link, chunk, record.head.into(), front, record.state);
            } else {
                self.give(link);
            }
            if back > 0 {
                let link = self.unused_record()?;
                self.link(link, chunk, granule + length, back, record.state);
            }
            return Some(Taken { chunk, granule, was_empty });
        }
        None
    }

    /// Adds granules that are free now, merged with their free neighbours. Whether the whole chunk is free.
    /// `was_executed`: a core may have fetched from them.
    pub(super) fn add(&mut self, chunk: &Chunk, head: u32, length: u32, was_executed: bool) -> bool {
        let mut state = if was_executed { State::Executed } else { State::Fresh };
        let (mut start, mut end) = (head, head + length);
        let before = self.neighbour(chunk, head.wrapping_sub(1), |record| record.end() == head);
        let after = self.neighbour(chunk, end, |record| u32::from(record.head) == end);
        for (link, record) in [before, after].into_iter().flatten() {
            start = start.min(record.head.into());
            end = end.max(record.end());
            if record.state == State::Executed {
                state = State::Executed;
            }
            self.unlink(link);
        }
        let kept = match (before, after) {
            (Some((kept, _)), Some((other, _))) => {
                self.give(other);
                Some(kept)
            }
            (Some((kept, _)), None) | (None, Some((kept, _))) => Some(kept),
            (None, None) => self.unused_record(),
        };
        if let Some(link) = kept {
            self.link(link, chunk, start, end - start, state);
        }
        end - start == chunk.granules()
    }

    /// Takes a chunk out that is free as a whole; any such chunk, if none is named.
    pub(super) fn take_empty(
        &mut self,
        wanted: Option<&Chunk>,
        directory: &Directory,
    ) -> Option<&'static Chunk> {
        let all = |chunk: &Chunk, record: &Record| record.length() == chunk.granules();
        let link = match wanted {
            Some(chunk) => self.neighbour(chunk, 0, |record| all(chunk, record))?.0,
            None => (1..=self.used).find(|link| {
                let record = self.get(*link).filter(|record| record.state != State::Unused);
                record
                    .is_some_and(|record| directory.get(record.chunk).is_some_and(|chunk| all(chunk, record)))
            })?,
        };
        let chunk = directory.get(self.get(link)?.chunk)?;
        self.unlink(link);
        self.give(link);
        Some(chunk)
    }

    /// Forgets all free blocks.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.unused = 0;
        (self.fresh, self.executed) = (Bins::new(), Bins::new());
    }

    /// The free block that begins or ends at a granule, as `is_that` tells.
    fn neighbour(
        &self,
        chunk: &Chunk,
        granule: u32,
        is_that: impl FnOnce(&Record) -> bool,
    ) -> Option<(Link, Record)> {
        let link = chunk.tables.free.get(granule as usize / 2)?.load(Ordering::Relaxed);
        let record = self.get(link)?;
        let is_live = record.state != State::Unused && record.chunk == chunk.number;
        (is_live && is_that(record)).then_some((link, *record))
    }

    /// Gives the block of a linked record other bounds.
    fn resize(&mut self, link: Link, chunk: &Chunk, head: u32, length: u32, state: State) {
        let Some(record) = self.get_mut(link) else { return };
        if Bins::same_list(record.length(), length) {
            (record.head, record.last) = (head as u16, (length - 1) as u16);
            note_ends(chunk, head, length, link);
        } else {
            self.unlink(link);
            self.link(link, chunk, head, length, state);
        }
    }

    /// Makes a record that of a block, and puts it in front of the list of its length.
    fn link(&mut self, link: Link, chunk: &Chunk, head: u32, length: u32, state: State) {
        let next = self.bins(state).set_first(length, link);
        if let Some(next) = self.get_mut(next) {
            next.previous = link;
        }
        if let Some(record) = self.get_mut(link) {
            let (head, last) = (head as u16, (length - 1) as u16);
            *record = Record { chunk: chunk.number, state, head, last, next, previous: 0 };
        }
        note_ends(chunk, head, length, link);
    }

    /// Takes a record out of its list.
    fn unlink(&mut self, link: Link) {
        let Some(record) = self.get(link).copied() else { return };
        if let Some(next) = self.get_mut(record.next) {
            next.previous = record.previous;
        }
        match self.get_mut(record.previous) {
            Some(previous) => previous.next = record.next,
            None => {
                self.bins(record.state).set_first(record.length(), record.next);
            }
        }
    }

    fn bins(&mut self, state: State) -> &mut Bins {
        if state == State::Executed { &mut self.executed } else { &mut self.fresh }
    }

    fn unused_record(&mut self) -> Option<Link> {
        if let Some(record) = self.get(self.unused) {
            let next = record.next;
            return Some(core::mem::replace(&mut self.unused, next));
        }
        let index = (self.used < self.capacity).then_some(self.used)?;
        self.used += 1;
        let unused = Record { chunk: 0, state: State::Unused, head: 0, last: 0, next: 0, previous: 0 };
        // SAFETY: the memory has room for `capacity` records.
        unsafe { self.records.wrapping_add(index as usize).write(unused) };
        Some(index + 1)
    }

    fn give(&mut self, link: Link) {
        let next = core::mem::replace(&mut self.unused, link);
        if let Some(record) = self.get_mut(link) {
            (record.state, record.next) = (State::Unused, next);
        }
    }
}

/// Notes at both ends of a free block which record it has.
fn note_ends(chunk: &Chunk, head: u32, length: u32, link: Link) {
    for granule in [head, head + length - 1] {
        if let Some(entry) = chunk.tables.free.get(granule as usize / 2) {
            entry.store(link, Ordering::Relaxed);
        }
    }
}

/// The first granule from which `length` granules of a free block are within reach.
fn place_within(record: &Record, length: u32, reach: Reach, chunk: &Chunk) -> Option<u32> {
    let (head, end) = (usize::from(record.head), record.end() as usize);
    let within = reach.clip(chunk.address_of(head)..chunk.address_of(end));
    if within.is_empty() {
        return None;
    }
    let first = chunk.granule_of(within.start);
    let first = if chunk.address_of(first) < within.start { first + 1 } else { first };
    let last = chunk.address_of(first + length as usize);
    (last <= within.end).then_some(first as u32)
}
