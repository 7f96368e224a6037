//! The blocks of a chunk: where they start, how long they are, and whether cores may have fetched from them.
//!
//! All changes are made under the lock of the shard that the chunk belongs to. [`Chunk::find`] takes none.

use super::bits::{any_set, clear, clear_all, is_set, last_set, set, set_all, set_bits, word};
use super::chunk::{Chunk, GRANULE_BITS, LONGEST_SHARED, Tables};
use crate::span::Span;
use core::ops::Range;
use core::sync::atomic::{AtomicU16, Ordering, fence};

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
    pub(super) fn span(self) -> Span {
        Span::from_parts(self.address, self.size)
    }
}

impl Chunk {
    /// The live block that holds an address. Takes no lock.
    ///
    /// It is right for some moment of the call. A block that lives through the whole call is found: no other
    /// start lies between its own and the address. What is found was live when its start bit was read, or,
    /// if another block has taken the start meanwhile, is that one: its size was stored after the first
    /// one's bit was cleared and before its own was set, so a size that is read together with a bit that is
    /// still set afterwards belongs to a block that was live in between.
    #[inline]
    pub(super) fn find(&self, address: usize) -> Option<Block> {
        let life = self.life.load(Ordering::Acquire);
        let base = self.base();
        let offset = address.wrapping_sub(base);
        if offset >= self.length() {
            return None;
        }
        let granule_bits = self.granule_bits.load(Ordering::Relaxed);
        let granule = offset >> granule_bits;
        // Most blocks are short: the size that will be read is near. The two reads miss caches together.
        prefetch(self.tables.sizes, granule);
        let start = last_set(self.tables.starts, granule, SEARCH_WORDS)?;
        let size = self.size_at(start);
        let is_still_live = is_set(self.tables.starts, start);
        fence(Ordering::Acquire);
        let is_same_life = life.is_multiple_of(2) && self.life.load(Ordering::Relaxed) == life;
        let start = start << granule_bits;
        let is_found = is_still_live && is_same_life && offset - start < size;
        is_found.then_some(Block { address: base + start, size })
    }

    /// The granule of the live block that starts at an address. The lock of the chunk's shard is held.
    pub(super) fn live_start(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.base()).filter(|offset| *offset < self.length())?;
        let granule_bits = self.granule_bits.load(Ordering::Relaxed);
        let granule = offset >> granule_bits;
        (granule << granule_bits == offset && is_set(self.tables.starts, granule)).then_some(granule)
    }

    /// The requested size of the live block that starts at a granule.
    pub(super) fn size_at(&self, start: usize) -> usize {
        match self.single.load(Ordering::Relaxed) {
            0 => self.tables.sizes.get(start).map_or(0, |size| usize::from(size.load(Ordering::Acquire)) + 1),
            single => single,
        }
    }

    /// The granules of the block that starts at one, live or just ended: up to the next block or free run. No run
    /// is open.
    pub(super) fn extent(&self, start: usize) -> Range<usize> {
        let Tables { starts, free, ended, .. } = self.tables;
        let is_end = |index| word(starts, index) | word(free, index) | word(ended, index);
        let granules = self.granules() as usize;
        let mut index = start / 64;
        let behind = u64::MAX << (start % 64) & !(1 << (start % 64));
        let mut ends = is_end(index) & behind;
        while ends == 0 && (index + 1) * 64 < granules {
            index += 1;
            ends = is_end(index);
        }
        match ends {
            0 => start..granules,
            ends => start..index * 64 + ends.trailing_zeros() as usize,
        }
    }

    /// The granule behind the live block that starts at one, in a chunk for many blocks.
    pub(super) fn end_of(&self, start: usize) -> usize {
        start + ((self.size_at(start) - 1) >> self.granule_bits.load(Ordering::Relaxed)) + 1
    }

    /// How many blocks are live.
    pub(super) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Live blocks' bytes. Takes no lock: blocks that come and go meanwhile may be missed.
    pub(super) fn live_bytes(&self) -> usize {
        set_bits(self.tables.starts).map(|start| self.size_at(start)).sum()
    }

    /// Makes `granule` the start of a live block of `size` bytes.
    #[inline]
    pub(super) fn start_block(&self, granule: usize, size: usize) {
        if let Some(entry) = self.tables.sizes.get(granule) {
            // Release: whoever reads this size sees that the block before it has ended.
            entry.store(size.wrapping_sub(1) as u16, Ordering::Release);
        }
        set(self.tables.starts, granule);
        self.live.store(self.live() + 1, Ordering::Relaxed);
    }

    /// Ends the live block that starts at `granule`.
    #[inline]
    pub(super) fn end_block(&self, granule: usize) {
        self.end_open_block(granule);
        set(self.tables.ended, granule);
    }

    /// Ends a live block whose granules are the open run's from now on.
    pub(super) fn end_open_block(&self, granule: usize) {
        clear(self.tables.starts, granule);
        self.live.store(self.live() - 1, Ordering::Relaxed);
    }

    /// Ends all blocks.
    pub(super) fn end_all_blocks(&self) {
        for bits in self.tables.starts.iter().chain(self.tables.marks) {
            bits.store(0, Ordering::Release);
        }
        self.live.store(0, Ordering::Relaxed);
    }

    /// Whether a core may have fetched from anywhere in the chunk.
    pub(super) fn has_executed(&self) -> bool {
        self.has_executed.load(Ordering::Relaxed)
    }

    /// Notes that cores may fetch from these granules. Whether they may have before.
    pub(super) fn record_executed(&self, granules: Range<usize>) -> bool {
        let was_executed = any_set(self.tables.executed, granules.clone());
        set_all(self.tables.executed, granules);
        self.has_executed.store(true, Ordering::Relaxed);
        was_executed
    }

    /// Notes that code in these granules is being freed. `step`: after this one no other core has anything
    /// left of it; none: no other core ran it.
    pub(super) fn record_freed(&self, granules: Range<usize>, step: Option<u64>) {
        match step {
            Some(step) => self.renewing_step.store(step, Ordering::Relaxed),
            None => clear_all(self.tables.executed, granules),
        }
    }

    pub(super) fn renewing_step(&self) -> u64 {
        self.renewing_step.load(Ordering::Relaxed)
    }
}

/// Asks for the cache line of an entry, without waiting for it.
#[inline]
fn prefetch(sizes: &'static [AtomicU16], index: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if let Some(entry) = sizes.get(index) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; the entry is mapped.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(core::ptr::from_ref(entry).cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (sizes, index);
}
