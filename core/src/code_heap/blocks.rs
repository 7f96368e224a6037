//! The blocks of a chunk: where live ones start, how long they are, and what is known of their bytes.
//!
//! One thread at a time changes this. [`Blocks::find`] takes no lock.

use crate::bits::Bits;
use crate::memory::Arrays;
use crate::policy::Policy;
use crate::prefetch;
use crate::span::Span;
use crate::sync::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering};
use core::ops::Range;
use core::ptr;

/// A block of more bytes has a chunk to itself: the table of sizes has 16 bits for each.
pub(super) const LONGEST_SHARED: usize = 1 << 16;

/// The smallest granule, as a power of two: blocks are aligned to it. It is a cache line, so that writing a
/// block doesn't disturb cores that execute its neighbours (x86 clears the pipeline of a core that executes
/// from a line which another one writes).
pub(super) const GRANULE_BITS: u32 = 6;

/// Blocks start at multiples of this power of two. Under policy `toggle` each has pages of its own, because nothing
/// else on a page could run while it is flipped.
#[inline]
pub(super) fn granule_bits(policy: Policy, page_size: usize) -> u32 {
    match policy {
        Policy::Toggle => page_size.ilog2(),
        _ => GRANULE_BITS,
    }
}

/// A search for a block's start looks at no more words of start bits than the longest block has.
const SEARCH_WORDS: usize = LONGEST_SHARED >> GRANULE_BITS >> 6;

/// A live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The address of its first byte.
    pub address: usize,
    /// The bytes that were requested.
    pub size: usize,
}

impl Block {
    pub(crate) fn span(self) -> Span {
        Span::from_parts(self.address, self.size)
    }
}

/// What is known of each granule.
#[repr(C)]
#[derive(Default)]
pub(super) struct Blocks {
    /// A live block starts here.
    pub(super) starts: Bits,
    /// Its bytes - 1. Written before the start bit is set, and when the block is shortened.
    sizes: &'static [AtomicU16],
    /// The bytes of the only block, which need not fit into the table; 0 where there may be many.
    single: AtomicUsize,
    /// The block that starts here was written since it was allocated: there may be code in it.
    pub(super) dirty: Bits<2>,
    /// A core may have fetched from here: publishing anew takes a cross-core step.
    pub(super) fetched: Bits<2>,
    /// Whether any granule was ever fetched.
    any_fetched: AtomicBool,
    /// How many blocks are live.
    live: AtomicU32,
}

impl Blocks {
    /// Of so many granules, without any block. Where there is one granule it is for a single block of any length.
    pub(super) fn lay_out(arrays: &mut Arrays, granules: usize) -> Self {
        let words = granules.div_ceil(64);
        let starts = Bits(arrays.next(words));
        // Word by word beside each other: who frees a block looks at both.
        let history = arrays.next(2 * words);
        let (dirty, fetched) = (Bits(history), Bits(history.get(1..).unwrap_or_default()));
        Self { starts, sizes: arrays.next(granules), dirty, fetched, ..Self::default() }
    }

    /// For how many granules there is room.
    pub(super) fn room(&self) -> usize {
        self.sizes.len()
    }

    pub(super) fn is_single(&self) -> bool {
        self.room() == 1
    }

    /// Start and size of the block that is live at a granule, or that ends before it. Takes no lock.
    ///
    /// What is found was live when its start bit was read, or, if another block has taken the start meanwhile, is
    /// that one: its size was stored after the first one's bit was cleared and before its own was set, so a size
    /// that is read together with a bit that is still set afterwards belongs to a block that was live in between.
    #[inline]
    pub(super) fn find(&self, granule: usize) -> Option<(usize, usize)> {
        // Most blocks are short: the size that will be read is near. The two reads miss caches together.
        if let Some(size) = self.sizes.get(granule) {
            prefetch::for_read(ptr::from_ref(size).addr());
        }
        let start = self.starts.last_set(granule, SEARCH_WORDS)?;
        let size = self.size_at(start);
        self.starts.is_set(start).then_some((start, size))
    }

    /// The requested size of the live block that starts at a granule.
    #[inline]
    pub(super) fn size_at(&self, start: usize) -> usize {
        match self.single.load(Ordering::Relaxed) {
            0 => self.sizes.get(start).map_or(0, |size| usize::from(size.load(Ordering::Acquire)) + 1),
            single => single,
        }
    }

    #[inline]
    pub(super) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Live blocks' bytes. Takes no lock: blocks that come and go meanwhile may be missed.
    pub(super) fn live_bytes(&self) -> usize {
        self.starts.set_bits().map(|start| self.size_at(start)).sum()
    }

    /// Makes `granule` the start of a live block of `size` bytes.
    #[inline]
    pub(super) fn start(&self, granule: usize, size: usize) {
        self.set_size(granule, size);
        self.starts.set(granule);
        self.live.store(self.live() + 1, Ordering::Relaxed);
    }

    /// Makes the block that starts at `granule` end after `size` bytes. If it is live, a reader finds the old end or the
    /// new one.
    #[inline]
    pub(super) fn set_size(&self, granule: usize, size: usize) {
        if self.is_single() {
            self.single.store(size, Ordering::Relaxed);
        } else if let Some(entry) = self.sizes.get(granule) {
            // Release: whoever reads this size sees that the block before it has ended.
            entry.store(size.wrapping_sub(1) as u16, Ordering::Release);
        }
    }

    /// Ends the live block that starts at `granule`.
    #[inline]
    pub(super) fn end(&self, granule: usize) {
        self.starts.clear(granule);
        self.live.store(self.live() - 1, Ordering::Relaxed);
    }

    pub(super) fn end_all(&self) {
        self.starts.reset();
        self.dirty.reset();
        self.live.store(0, Ordering::Relaxed);
    }

    /// Whether a core may have fetched from any of the granules.
    pub(super) fn was_fetched(&self, granules: Range<usize>) -> bool {
        self.any_fetched() && self.fetched.any_set(granules)
    }

    /// Whether a core may have fetched from anywhere in the chunk.
    #[inline]
    pub(super) fn any_fetched(&self) -> bool {
        self.any_fetched.load(Ordering::Relaxed)
    }

    /// Notes that cores may fetch from these granules. Whether they may have before.
    pub(super) fn record_fetched(&self, granules: Range<usize>) -> bool {
        let was_fetched = self.was_fetched(granules.clone());
        self.fetched.set_all(granules);
        self.any_fetched.store(true, Ordering::Relaxed);
        was_fetched
    }

    /// Notes that no core has anything left of any granule.
    pub(super) fn forget_all_fetched(&self) {
        if self.any_fetched.swap(false, Ordering::Relaxed) {
            self.fetched.reset();
        }
    }
}
