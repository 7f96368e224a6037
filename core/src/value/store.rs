//! The built-in store of values.
//!
//! A value is a handle (a slot and a generation, never a pointer), so that a stale or invented one is refused instead
//! of followed. Its bytes are in a buffer whose size is a power of two. Each size has a list of free buffers; where it is
//! empty, fresh memory is cut into buffers of that size, which stays theirs. What is larger than [`LARGEST`] gets pages
//! of its own, and gives them back.

use crate::error::{Error, Result};
use crate::header::RtValue;
use crate::memory::{Index, Pool, UNIT};
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::slots::Slots;
use crate::span::{Span, round_up};
use core::{mem, ptr, slice};

/// Low bits of the handles: no pointer to something aligned has them, nor one that a runtime has marked by the lowest
/// bit or two.
const TAG: u64 = 0b111;
const TAG_BITS: u32 = 3;
/// Generations wrap around after so many bits: what is left of a word beside the tag and the slot.
const GENERATION_MASK: u32 = (1 << 29) - 1;

/// The smallest buffer: a link of a list fits in.
const SMALLEST: usize = 16;
/// The largest buffer that has no pages of its own.
const LARGEST: usize = 32 * 1024;
const CLASSES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

/// The class of the smallest buffers that hold `length` bytes: they have `SMALLEST << class`.
fn class(length: usize) -> Option<usize> {
    (0..CLASSES).find(|class| length <= SMALLEST << class)
}

/// Bytes that nobody else has, all of them written at some time: memory is zeroed in the beginning. An empty one takes
/// no memory.
pub(super) struct Buffer {
    start: *mut u8,
    length: usize,
}

impl Buffer {
    const EMPTY: Self = Self { start: ptr::dangling_mut(), length: 0 };

    /// What there was, of which nothing is left.
    pub(super) fn take(&mut self) -> Self {
        mem::replace(self, Self::EMPTY)
    }

    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the store gave so many bytes, which stay this buffer's alone until it is given back.
        unsafe { slice::from_raw_parts_mut(self.start, self.length) }
    }
}

/// A free buffer holds the link to the next one.
struct Free(*mut Free);

/// What a handle stands for.
#[derive(Clone, Copy)]
pub(super) struct Value {
    pub(super) data: *mut u8,
    pub(super) length: usize,
    pub(super) is_text: bool,
}

pub(super) struct Store {
    /// For each class, the first free buffer.
    free: [*mut Free; CLASSES],
    buffers: Pool,
    values: Slots<Value>,
    records: Pool,
}

// SAFETY: the store alone has what its pointers point to.
unsafe impl Send for Store {}

impl Store {
    pub(super) const fn new() -> Self {
        let free = [ptr::null_mut(); CLASSES];
        Self { free, buffers: Pool::new(), values: Slots::new(), records: Pool::new() }
    }

    /// A buffer for a value to come.
    pub(super) fn take(&mut self, length: usize, platform: impl Platform) -> Result<Buffer> {
        let start = match class(length) {
            _ if length == 0 => return Ok(Buffer::EMPTY),
            Some(class) => self.take_shared(class, platform)?,
            None => {
                let pages = round_up(length, platform.page_size());
                let views = platform.map(pages, Memory::Private(Protection::RW), None)?;
                ptr::with_exposed_provenance_mut(views.address)
            }
        };
        Ok(Buffer { start, length })
    }

    fn take_shared(&mut self, class: usize, platform: impl Platform) -> Result<*mut u8> {
        let list = self.free.get_mut(class).ok_or(Error::NoMemory)?;
        if list.is_null() {
            let size = SMALLEST << class;
            let whole = size.next_multiple_of(UNIT);
            let memory = self.buffers.take(platform, whole)?.as_ptr();
            for offset in (0..whole).step_by(size) {
                let buffer = memory.wrapping_add(offset).cast::<Free>();
                // SAFETY: a part of fresh memory, which is aligned to `UNIT` and nobody else's.
                unsafe { buffer.write(Free(*list)) };
                *list = buffer;
            }
        }
        let buffer = *list;
        // SAFETY: buffers on the list are free, and each holds the link to the next.
        *list = unsafe { (*buffer).0 };
        Ok(buffer.cast())
    }

    pub(super) fn give_back(&mut self, buffer: Buffer, platform: impl Platform) {
        let Buffer { start, length } = buffer;
        match class(length).and_then(|class| self.free.get_mut(class)) {
            _ if length == 0 => {}
            Some(list) => {
                // SAFETY: `take` gave the buffer from this list, and nobody has it any more.
                unsafe { start.cast::<Free>().write(Free(*list)) };
                *list = start.cast();
            }
            None => {
                let pages = Span::from_parts(start.addr(), round_up(length, platform.page_size()));
                // SAFETY: `take` mapped them for this buffer, which nobody has any more. If it fails they are lost.
                let _ = unsafe { platform.unmap(pages) };
            }
        }
    }

    /// Makes a buffer a value. Without memory for that, the buffer is given back.
    pub(super) fn insert(
        &mut self,
        buffer: Buffer,
        is_text: bool,
        platform: impl Platform,
    ) -> Result<RtValue> {
        let value = Value { data: buffer.start, length: buffer.length, is_text };
        let index = self.values.insert(value, &mut self.records, platform);
        index.map(|index| self.handle(index)).inspect_err(|_| self.give_back(buffer, platform))
    }

    pub(super) fn get(&self, handle: RtValue) -> Result<Value> {
        let value = self.find(handle).and_then(|index| self.values.get(index));
        value.copied().ok_or(Error::BadValue)
    }

    /// Releases a value. A second time is a *bad value*.
    pub(super) fn free(&mut self, handle: RtValue, platform: impl Platform) -> Result {
        let value =
            self.find(handle).and_then(|index| self.values.remove(index, platform)).ok_or(Error::BadValue)?;
        self.give_back(Buffer { start: value.data, length: value.length }, platform);
        Ok(())
    }

    fn handle(&self, index: Index) -> RtValue {
        let generation = self.values.generation(index).unwrap_or(0) & GENERATION_MASK;
        (generation as u64) << 35 | (index as u64) << TAG_BITS | TAG
    }

    fn find(&self, handle: RtValue) -> Option<Index> {
        let index = (handle >> TAG_BITS) as Index;
        self.values.generation(index)?;
        (self.handle(index) == handle).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_as_large_as_it_must_be_and_less_than_twice_that() {
        assert_eq!([0, 1, 16, 17, 32, 33].map(class), [0, 0, 0, 1, 1, 2].map(Some));
        assert_eq!(class(LARGEST), Some(CLASSES - 1));
        assert_eq!(class(LARGEST + 1), None);
        assert_eq!(SMALLEST << (CLASSES - 1), LARGEST);
        for length in (SMALLEST..=LARGEST).step_by(if cfg!(miri) { 101 } else { 1 }) {
            let size = SMALLEST << class(length).unwrap();
            assert!(length <= size && size < 2 * length, "{length}");
        }
    }
}
