//! Memory for the library's own records: pages from the platform, handed out in order, never given back.
//!
//! Pages are never given back to the system because a reader without a lock may still look at them. Whoever
//! takes memory here uses it again: a table its slots, so that it is as long as the most records that were
//! ever live at once and at most as much again, and the page map its nodes, within the bound that it states.

use crate::error::Error;
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

/// Size and alignment of what the pool hands out are multiples of this.
pub(crate) const UNIT: usize = 4096;

/// How much the pool takes from the platform at a time, unless more is asked for or a page is more.
const CHUNK: usize = 64 * 1024;

/// Zeroed memory in units of 4 KiB, whatever the page size.
pub(crate) struct Pool {
    next: usize,
    end: usize,
    mapped: usize,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { next: 0, end: 0, mapped: 0 }
    }

    /// Bytes that the pool has mapped so far.
    pub(crate) fn mapped(&self) -> usize {
        self.mapped
    }

    /// `length` zeroed bytes, a multiple of [`UNIT`], aligned to it, and ours for ever.
    pub(crate) fn take(&mut self, platform: impl Platform, length: usize) -> Result<NonNull<u8>, Error> {
        debug_assert!(length.is_multiple_of(UNIT));
        if self.end - self.next < length {
            // Both are powers of two: whole pages, whatever their size.
            let chunk = length.next_multiple_of(CHUNK.max(platform.page_size()));
            let data = Memory::Private(Protection::RW);
            let start = platform.map(chunk, data, None)?.address;
            (self.next, self.end) = (start, start + chunk);
            self.mapped += chunk;
        }
        let taken = NonNull::new(ptr::with_exposed_provenance_mut(self.next));
        self.next += length;
        taken.ok_or(Error::NoMemory)
    }
}

/// Index of a record in a [`Slots`] table.
pub(crate) type Index = u32;

/// A growing table of records with stable addresses: chunks of 64, 128, 256 ... records.
pub(crate) struct Slots<T> {
    chunks: [*mut Slot<T>; CHUNKS],
    /// Slots that were ever used; those behind it are fresh.
    used: Index,
    /// Head of the list of free slots, as index + 1.
    free: Index,
}

struct Slot<T> {
    /// Counts the records that lived here, so that a handle to an earlier one can be told apart.
    generation: u32,
    /// `OCCUPIED`, or the next free slot as index + 1.
    next: u32,
    record: MaybeUninit<T>,
}

const FIRST: Index = 64;
/// Enough for every index: there is no slot that a chunk is missing for.
const CHUNKS: usize = 27;
const OCCUPIED: u32 = u32::MAX;

// SAFETY: the chunks are owned by the table alone; `T` decides whether its records may move between threads.
unsafe impl<T: Send> Send for Slots<T> {}

/// Which chunk holds a slot, and where in it. Chunk `n` holds `FIRST << n` slots.
fn place(index: Index) -> (usize, usize) {
    let position = index as usize / FIRST as usize + 1;
    let chunk = position.ilog2() as usize;
    (chunk, index as usize - FIRST as usize * ((1 << chunk) - 1))
}

impl<T: Copy> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { chunks: [ptr::null_mut(); CHUNKS], used: 0, free: 0 }
    }

    /// Adds a record. Fails with *no memory* where the table can't grow.
    pub(crate) fn insert(
        &mut self,
        record: T,
        pool: &mut Pool,
        platform: impl Platform,
    ) -> Result<Index, Error> {
        if self.free == 0 {
            self.add_fresh(pool, platform)?;
        }
        let index = self.free - 1;
        // SAFETY: a slot on the list lies in a chunk that exists.
        let slot = unsafe { &mut *self.pointer(index) };
        self.free = slot.next;
        slot.next = OCCUPIED;
        slot.record = MaybeUninit::new(record);
        Ok(index)
    }

    /// Puts a slot that was never used on the list of free slots, which is empty: its zeroed memory says so.
    fn add_fresh(&mut self, pool: &mut Pool, platform: impl Platform) -> Result<(), Error> {
        let (chunk, _) = place(self.used);
        let start = self.chunks.get_mut(chunk).ok_or(Error::NoMemory)?;
        if start.is_null() {
            let bytes = size_of::<Slot<T>>() * ((FIRST as usize) << chunk);
            *start = pool.take(platform, bytes.next_multiple_of(UNIT))?.as_ptr().cast();
        }
        self.used += 1;
        self.free = self.used;
        Ok(())
    }

    pub(crate) fn get(&self, index: Index) -> Option<&T> {
        // SAFETY: an occupied slot holds a record.
        Some(unsafe { self.occupied(index)?.record.assume_init_ref() })
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        self.occupied(index)?;
        // SAFETY: the slot exists and is occupied; `&mut self` makes the access exclusive.
        Some(unsafe { (*self.pointer(index)).record.assume_init_mut() })
    }

    /// How many records lived in this slot before the present one.
    pub(crate) fn generation(&self, index: Index) -> Option<u32> {
        Some(self.occupied(index)?.generation)
    }

    pub(crate) fn remove(&mut self, index: Index) -> Option<T> {
        let record = *self.get(index)?;
        // SAFETY: `get` found the slot; `&mut self` makes the access exclusive.
        let slot = unsafe { &mut *self.pointer(index) };
        slot.generation = slot.generation.wrapping_add(1);
        slot.next = self.free;
        self.free = index + 1;
        Some(record)
    }

    /// All records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.indexes().filter_map(|index| self.get(index))
    }

    /// Every slot that was ever used.
    pub(crate) fn indexes(&self) -> core::ops::Range<Index> {
        0..self.used
    }

    fn occupied(&self, index: Index) -> Option<&Slot<T>> {
        if index >= self.used {
            return None;
        }
        // SAFETY: slots below `used` lie in chunks that exist, zeroed or initialised.
        let slot = unsafe { &*self.pointer(index) };
        (slot.next == OCCUPIED).then_some(slot)
    }

    /// The slot's address; its chunk must exist.
    fn pointer(&self, index: Index) -> *mut Slot<T> {
        let (chunk, offset) = place(index);
        self.chunks[chunk].wrapping_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_double_and_every_slot_has_its_own_place() {
        assert_eq!(place(0), (0, 0));
        assert_eq!(place(63), (0, 63));
        assert_eq!(place(64), (1, 0));
        assert_eq!(place(191), (1, 127));
        assert_eq!(place(192), (2, 0));
        assert!(place(Index::MAX - 64).0 < 27);
    }
}
