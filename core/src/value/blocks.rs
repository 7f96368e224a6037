//! Memory for the bytes of values: blocks whose sizes are powers of two.
//!
//! Each size has a list of free blocks. Where it is empty a block of the next larger size is halved. Halves are
//! not joined again, so memory that once served small values serves small values. What is larger than
//! [`LARGEST`] gets pages of its own, and gives them back.

use crate::error::Error;
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::span::{Span, round_up};
use core::ptr;

/// The smallest block: a link of a list fits in.
const SMALLEST: usize = 16;
/// The largest block that shares pages with others.
const LARGEST: usize = 32 * 1024;
const CLASSES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

/// So much is taken from the platform for blocks, or a page where that is more: a multiple of [`LARGEST`].
const CHUNK: usize = 64 * 1024;

/// The free blocks.
pub(super) struct Blocks {
    /// For each size, the first free block.
    free: [*mut Free; CLASSES],
}

/// What a free block holds.
struct Free {
    next: *mut Free,
}

// SAFETY: the blocks on the lists belong to them alone.
unsafe impl Send for Blocks {}

/// The class of the smallest blocks that hold `length` bytes: they have `SMALLEST << class`.
fn class(length: usize) -> Option<usize> {
    (0..CLASSES).find(|class| length <= SMALLEST << class)
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self { free: [ptr::null_mut(); CLASSES] }
    }

    /// A block of at least `length` bytes.
    pub(super) fn take(&mut self, length: usize, platform: impl Platform) -> Result<*mut u8, Error> {
        let Some(class) = class(length) else { return map(length, platform) };
        if let Some(block) = self.split(class) {
            return Ok(block);
        }
        let length = CHUNK.max(platform.page_size());
        let chunk = map(length, platform)?;
        for offset in (0..length).step_by(LARGEST) {
            // SAFETY: a part of fresh memory that nobody else uses, as large as the largest blocks.
            unsafe { self.put(CLASSES - 1, chunk.wrapping_add(offset)) };
        }
        self.split(class).ok_or(Error::NoMemory)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// [`take`](Self::take) gave it for this length, and nobody uses it.
    pub(super) unsafe fn give_back(&mut self, block: *mut u8, length: usize, platform: impl Platform) {
        match class(length) {
            // SAFETY: a block of this class, by the caller's word.
            Some(class) => unsafe { self.put(class, block) },
            // SAFETY: as above: pages of their own. If they can't be unmapped they are lost.
            None => _ = unsafe { platform.unmap(pages(block, length, platform)) },
        }
    }

    /// A free block of a class, halved out of a larger one if need be.
    fn split(&mut self, class: usize) -> Option<*mut u8> {
        let mut lists = self.free.iter_mut().enumerate().skip(class);
        let (from, first) = lists.find(|(_, first)| !first.is_null())?;
        let block = *first;
        // SAFETY: a block on a list is free, and holds the rest of the list.
        *first = unsafe { (*block).next };
        for smaller in class..from {
            // SAFETY: the part of the block from here to twice as far belongs to nobody.
            unsafe { self.put(smaller, block.cast::<u8>().wrapping_add(SMALLEST << smaller)) };
        }
        Some(block.cast())
    }

    /// # Safety
    /// The block is of this class, aligned to the smallest one, and nobody's.
    unsafe fn put(&mut self, class: usize, block: *mut u8) {
        let block = block.cast::<Free>();
        if let Some(first) = self.free.get_mut(class) {
            // SAFETY: the caller says that the block is ours, and large enough.
            unsafe { block.write(Free { next: *first }) };
            *first = block;
        }
    }
}

/// Fresh pages for `length` bytes.
pub(super) fn map(length: usize, platform: impl Platform) -> Result<*mut u8, Error> {
    let length = round_up(length, platform.page_size());
    let views = platform.map(length, Memory::Private(Protection::RW), None)?;
    Ok(ptr::with_exposed_provenance_mut(views.address))
}

/// The pages that [`map`] gave for `length` bytes.
pub(super) fn pages(start: *mut u8, length: usize, platform: impl Platform) -> Span {
    Span::from_parts(start.addr(), round_up(length, platform.page_size()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_as_large_as_it_must_be_and_less_than_twice_that() {
        assert_eq!([0, 1, 16, 17, 32, 33].map(class), [0, 0, 0, 1, 1, 2].map(Some));
        assert_eq!(class(LARGEST), Some(CLASSES - 1));
        assert_eq!(class(LARGEST + 1), None);
        assert_eq!(SMALLEST << (CLASSES - 1), LARGEST);
        for length in SMALLEST..=LARGEST {
            let size = SMALLEST << class(length).unwrap();
            assert!(length <= size && size < 2 * length, "{length}");
        }
    }
}
