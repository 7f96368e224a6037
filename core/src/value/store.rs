//! The built-in store of values: handles (a slot and a generation, never a pointer), so that a stale or invented
//! one is refused instead of followed.

use super::RtValue;
use super::blocks::Blocks;
use crate::error::Error;
use crate::memory::{Index, Pool, Slots};
use crate::platform::Platform;

/// Low bits of the built-in store's handles.
const TAG: u64 = 0b001;
const TAG_BITS: u32 = 3;
/// Generations wrap around after so many bits: what is left of a word beside the tag and the slot.
const GENERATION_MASK: u32 = (1 << 29) - 1;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Bytes,
    Text,
}

#[derive(Clone, Copy)]
struct Stored {
    data: *mut u8,
    length: usize,
    sort: Sort,
}

// SAFETY: the store owns what its pointers point to.
unsafe impl Send for Stored {}

pub(super) struct Store {
    blocks: Blocks,
    values: Slots<Stored>,
    pool: Pool,
}

impl Store {
    pub(super) const fn new() -> Self {
        Self { blocks: Blocks::new(), values: Slots::new(), pool: Pool::new() }
    }

    /// A block of at least `length` bytes, for a value to come.
    pub(super) fn take(&mut self, length: usize, platform: impl Platform) -> Result<*mut u8, Error> {
        self.blocks.take(length, platform)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// [`take`](Self::take) gave it for this length, and nobody uses it.
    pub(super) unsafe fn give_back(&mut self, block: *mut u8, length: usize, platform: impl Platform) {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.blocks.give_back(block, length, platform) };
    }

    /// Makes a block that [`take`](Self::take) gave for this length a value.
    pub(super) fn insert(
        &mut self,
        data: *mut u8,
        length: usize,
        sort: Sort,
        platform: impl Platform,
    ) -> Result<RtValue, Error> {
        let index = self.values.insert(Stored { data, length, sort }, &mut self.pool, platform)?;
        Ok(self.handle(index))
    }

    /// Data and length of a byte array.
    pub(super) fn bytes_of(&self, value: RtValue) -> Result<(*const u8, i64), Error> {
        match self.stored(value)? {
            Stored { data, length, sort: Sort::Bytes } => Ok((data, length as i64)),
            _ => Err(Error::BadValue),
        }
    }

    /// Data and length of a value.
    pub(super) fn data_of(&self, value: RtValue) -> Result<(*const u8, usize), Error> {
        self.stored(value).map(|stored| (stored.data.cast_const(), stored.length))
    }

    /// Releases a value. A second time is a *bad value*.
    pub(super) fn free(&mut self, value: RtValue, platform: impl Platform) -> Result<(), Error> {
        let index = self.find(value).ok_or(Error::BadValue)?;
        let stored = self.values.remove(index).ok_or(Error::BadValue)?;
        // SAFETY: the block was taken for this length, and the value is gone.
        unsafe { self.blocks.give_back(stored.data, stored.length, platform) };
        Ok(())
    }

    fn stored(&self, value: RtValue) -> Result<Stored, Error> {
        let stored = self.find(value).and_then(|index| self.values.get(index));
        stored.copied().ok_or(Error::BadValue)
    }

    fn handle(&self, index: Index) -> RtValue {
        let generation = self.values.generation(index).unwrap_or(0) & GENERATION_MASK;
        (generation as u64) << 35 | (index as u64) << TAG_BITS | TAG
    }

    fn find(&self, value: RtValue) -> Option<Index> {
        let index = (value >> TAG_BITS) as Index;
        self.values.generation(index)?;
        (self.handle(index) == value).then_some(index)
    }
}
