//! All chunks of all heaps, by number, and the memory of their records.

use super::backing::PARTS;
use super::chunk::{Chunk, Tables};
use super::classes::{CLASSES, Index};
use crate::error::Error;
use crate::memory::{Pool, UNIT};
use crate::platform::{PageRequest, Platform};
use crate::span::Span;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Records are made room for in groups of so many.
const GROUP: usize = 64;
const GROUPS: usize = 256;

const LINE: usize = 64;

/// A chunk's number is below; a page word has 16 bits for it.
const MOST: usize = GROUP * GROUPS;
const _: () = assert!(MOST < u16::MAX as usize);

/// Chunks by number, found without a lock.
pub(super) struct Directory {
    groups: [AtomicPtr<Chunk>; GROUPS],
    /// For addresses of these stretches, a chunk that was looked up there before. Only a hint: whoever uses
    /// it asks the chunk whether it holds the address.
    recent: [AtomicPtr<Chunk>; RECENT],
}

const RECENT: usize = 64;

/// The stretches are as long as chunks usually are.
fn stretch(address: usize) -> usize {
    address >> 22 & (RECENT - 1)
}

/// Numbers and memory for records; changed under a lock.
pub(super) struct Records {
    pool: Pool,
    /// What is left of the unit that small tables are cut from.
    rest: usize,
    rest_length: usize,
    /// Numbers that were ever used.
    used: u16,
    /// Records without a chunk: a list through [`Chunk::next`], as number + 1.
    free: u32,
}

impl Records {
    pub(super) const fn new() -> Self {
        Self { pool: Pool::new(), rest: 0, rest_length: 0, used: 0, free: 0 }
    }

    /// Bytes that all records take.
    pub(super) fn bytes(&self) -> usize {
        self.pool.mapped()
    }

    /// Memory for something else that stays.
    pub(super) fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// How many numbers were ever used.
    pub(super) fn used(&self) -> u16 {
        self.used
    }

    /// A record with tables for so many granules: one that is free, or a new one.
    pub(super) fn take(
        &mut self,
        granules: u32,
        directory: &Directory,
        platform: impl Platform,
    ) -> Result<&'static Chunk, Error> {
        match self.take_free(granules as usize, directory) {
            Some(chunk) => Ok(chunk),
            None => self.make(granules as usize, directory, platform),
        }
    }

    /// Takes back a record that has no chunk any more.
    pub(super) fn give(&mut self, chunk: &'static Chunk) {
        chunk.forget_pages();
        chunk.next.store(self.free, Ordering::Relaxed);
        self.free = u32::from(chunk.number) + 1;
    }

    /// The first free record whose tables fit, and are not for much more.
    fn take_free(&mut self, granules: usize, directory: &Directory) -> Option<&'static Chunk> {
        let mut previous: Option<&'static Chunk> = None;
        let mut link = self.free;
        while let Some(chunk) = link.checked_sub(1).and_then(|number| directory.get(number as u16)) {
            let next = chunk.next.load(Ordering::Relaxed);
            let room = chunk.tables.sizes.len();
            if room >= granules && room <= granules.saturating_mul(4) {
                match previous {
                    Some(previous) => previous.next.store(next, Ordering::Relaxed),
                    None => self.free = next,
                }
                return Some(chunk);
            }
            previous = Some(chunk);
            link = next;
        }
        None
    }

    fn make(
        &mut self,
        granules: usize,
        directory: &Directory,
        platform: impl Platform,
    ) -> Result<&'static Chunk, Error> {
        let number = usize::from(self.used);
        let group = directory.groups.get(number / GROUP).ok_or(Error::NoMemory)?;
        if group.load(Ordering::Relaxed).is_null() {
            let bytes = (size_of::<Chunk>() * GROUP).next_multiple_of(UNIT);
            let start = self.pool.take(platform, bytes)?.cast::<Chunk>();
            group.store(start.as_ptr(), Ordering::Release);
        }
        let tables = self.make_tables(granules, platform)?;
        let record = group.load(Ordering::Relaxed).wrapping_add(number % GROUP);
        // SAFETY: the group has room for GROUP records, and this one was never used. It lives for ever.
        let chunk = unsafe {
            record.write(Chunk::new(self.used, tables));
            &*record
        };
        self.used += 1;
        Ok(chunk)
    }

    /// Zeroed memory, aligned to a cache line.
    fn take_bytes(&mut self, bytes: usize, platform: impl Platform) -> Result<*mut u8, Error> {
        let bytes = bytes.next_multiple_of(LINE);
        if bytes >= UNIT {
            return Ok(self.pool.take(platform, bytes.next_multiple_of(UNIT))?.as_ptr());
        }
        if self.rest_length < bytes {
            self.rest = self.pool.take(platform, UNIT)?.as_ptr().expose_provenance();
            self.rest_length = UNIT;
        }
        let start = ptr::with_exposed_provenance_mut(self.rest);
        self.rest += bytes;
        self.rest_length -= bytes;
        Ok(start)
    }

    fn make_tables(&mut self, granules: usize, platform: impl Platform) -> Result<Tables, Error> {
        let mut parts = Parts { start: ptr::null_mut(), used: 0 };
        lay_out(&mut parts, granules);
        let bytes = parts.used;
        parts = Parts { start: self.take_bytes(bytes, platform)?, used: 0 };
        if self.used > 0 && granules > 1 {
            // Who needs a second chunk is about to fill it: all its tables' pages in one call, not one by one.
            let tables = Span::from_parts(parts.start.addr(), bytes).pages(platform.page_size());
            // SAFETY: the pages are the pool's. Only a hint: if it fails, each page comes when it is touched.
            let _ = unsafe { platform.request(tables, PageRequest::Populate { for_write: true }) };
        }
        Ok(lay_out(&mut parts, granules))
    }
}

/// Deals out memory, or, without any, only measures.
struct Parts {
    start: *mut u8,
    used: usize,
}

impl Parts {
    /// The next `count` values. The widest come first, so that all are aligned.
    fn next<T>(&mut self, count: usize) -> &'static [T] {
        let start = self.start.wrapping_add(self.used).cast();
        self.used += count * size_of::<T>();
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: a part of memory that is zeroed, aligned to a cache line, measured before, and ours for
        // ever; `T` is an atomic integer.
        unsafe { core::slice::from_raw_parts(start, count) }
    }
}

/// The tables for so many granules, one behind the other.
fn lay_out(parts: &mut Parts, granules: usize) -> Tables {
    let words = granules.div_ceil(64);
    // A chunk for a single block has no free runs.
    let shared = if granules == 1 { 0 } else { words };
    let line = shared.div_ceil(64);
    let classes = if granules == 1 { 0 } else { CLASSES };
    let [starts, executed, marks] = core::array::from_fn(|_| parts.next(words));
    let [free, ended] = core::array::from_fn(|_| parts.next(shared));
    let [fresh, worn] = core::array::from_fn(|_| parts.next(classes * line));
    Tables {
        starts,
        executed,
        marks,
        populated: parts.next(PARTS / 64),
        free,
        ended,
        fresh: Index { lines: fresh, words: line },
        worn: Index { lines: worn, words: line },
        lengths: parts.next(shared),
        origins: parts.next(shared),
        sizes: parts.next(granules),
    }
}

impl Directory {
    pub(super) const fn new() -> Self {
        Self {
            groups: [const { AtomicPtr::new(ptr::null_mut()) }; GROUPS],
            recent: [const { AtomicPtr::new(ptr::null_mut()) }; RECENT],
        }
    }

    /// A chunk that may hold an address.
    #[inline]
    pub(super) fn recent(&self, address: usize) -> Option<&'static Chunk> {
        // Acquire: the record is seen as whoever put it there saw it.
        let chunk = self.recent.get(stretch(address))?.load(Ordering::Acquire);
        // SAFETY: null, or a record, which lives for ever.
        unsafe { chunk.as_ref() }
    }

    /// Remembers the chunk that holds an address.
    pub(super) fn remember(&self, address: usize, chunk: &'static Chunk) {
        if let Some(recent) = self.recent.get(stretch(address)) {
            recent.store(ptr::from_ref(chunk).cast_mut(), Ordering::Release);
        }
    }

    /// The record of this number. It must have been handed out.
    #[inline]
    pub(super) fn get(&self, number: u16) -> Option<&'static Chunk> {
        let number = usize::from(number);
        let group = self.groups.get(number / GROUP)?.load(Ordering::Acquire);
        if group.is_null() {
            return None;
        }
        // SAFETY: a number is in a page word, a list or a free block's record only after its chunk's record
        // was made, in a group that lives for ever.
        Some(unsafe { &*group.wrapping_add(number % GROUP) })
    }
}
