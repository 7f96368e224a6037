//! A chunk: a run of pages in which a heap's blocks lie, and what is known of them.
//!
//! What is known lies outside of the pages, in memory that stays a chunk's record for ever, since readers
//! without a lock may still look at it. A chunk is cut into granules; for each there is
//! - a start bit: a live block starts here,
//! - the size of the block that starts here,
//! - an executed bit: a core may have fetched from here, so publishing anew needs a cross-core step,
//! - a free bit, and what else [`runs`](super::runs) keeps,
//! - a mark. Where a live block starts: it was written, so freeing it has to remove code. Where a free run
//!   starts: it is worn.
//!
//! All changes are made under the lock of the shard that the chunk belongs to. [`Chunk::find`] takes none.

use super::bits::{Bits, any_set, clear, clear_all, is_set, last_set, set, set_all, set_bits, word};
use super::classes::{Index, LONGEST};
use super::runs::Summary;
use crate::span::Span;
use core::ops::Range;
use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};

/// A block of more bytes has a chunk to itself: the table of sizes has 16 bits for each.
pub(super) const LONGEST_SHARED: usize = 1 << 16;

/// The smallest granule, as a power of two: blocks are aligned to it. It is a cache line, so that writing a
/// block doesn't disturb cores that execute its neighbours (x86 clears the pipeline of a core that executes
/// from a line which another one writes).
pub(super) const GRANULE_BITS: u32 = 6;

/// A chunk for many blocks has at most so many bytes.
pub(super) const LONGEST_CHUNK: usize = (LONGEST as usize) << GRANULE_BITS;

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

/// What is known of the granules. The tables of a chunk for a single block have one granule, and no more
/// of them than that needs.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Tables {
    pub(super) starts: Bits,
    /// Bytes - 1. Written before the start bit is set, and never otherwise.
    pub(super) sizes: &'static [AtomicU16],
    pub(super) executed: Bits,
    pub(super) marks: Bits,
    /// Which parts of the write view are known to have memory behind them.
    pub(super) populated: Bits,
    pub(super) free: Bits,
    /// Starts of blocks that ended and whose granules are not free yet.
    pub(super) ended: Bits,
    /// For each word of granules: see [`runs`](super::runs).
    pub(super) lengths: &'static [AtomicU16],
    pub(super) origins: &'static [AtomicU16],
    pub(super) fresh: Index,
    pub(super) worn: Index,
}

impl Tables {
    pub(super) fn index(&self, is_worn: bool) -> Index {
        if is_worn { self.worn } else { self.fresh }
    }
}

/// The record of a chunk, or of a place for one. What a lookup reads comes first, on one cache line.
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// Odd while the fields below change hands, and another number for each chunk that lived here.
    life: AtomicU32,
    /// Bytes of a granule, as a power of two. Where there is a single block all of it is granule 0.
    granule_bits: AtomicU32,
    base: AtomicUsize,
    length: AtomicUsize,
    /// The size of the one block that the chunk is for; 0: it is for many.
    single: AtomicUsize,
    pub(super) tables: Tables,
    /// The heap and its shard, packed, so that both change at once.
    owner: AtomicU64,
    writable: AtomicUsize,
    /// Bytes of the smallest part of the write view that can be populated, as a power of two.
    pub(super) least_part_bits: AtomicU32,
    /// The part behind those that got memory last.
    pub(super) backed_to: AtomicU32,
    /// Where the shard keeps what its searches look at.
    summary: AtomicPtr<Summary>,
    /// Whether any executed bit is set.
    has_executed: AtomicBool,
    /// The cross-core step after which no core has anything left of the blocks that were freed.
    renewing_step: AtomicU64,
    reservation: AtomicU32,
    live: AtomicU32,
    /// Bytes of its pages, also while it waits to be unmapped.
    mapped: AtomicUsize,
    /// The next record in a list of chunks, as number + 1.
    pub(super) next: AtomicU32,
    pub(super) number: u16,
}

/// More bits than any offset has.
const ALL_BITS: u32 = usize::BITS - 1;

/// What a chunk is made of.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) base: usize,
    pub(super) length: usize,
    pub(super) page_size: usize,
    /// The read-write view, or 0.
    pub(super) writable: usize,
    pub(super) granule_bits: u32,
    /// The size of the only block, or 0.
    pub(super) single: usize,
    pub(super) owner: Owner,
    pub(super) reservation: u32,
}

/// The heap and the shard of it that a chunk belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Owner {
    pub(super) heap: u32,
    pub(super) shard: u32,
}

/// The summary of a chunk that no shard searches.
static NOWHERE: Summary = Summary::new();

impl Owner {
    fn pack(self) -> u64 {
        u64::from(self.heap) << 32 | u64::from(self.shard)
    }
}

impl Chunk {
    /// A record without a chunk.
    pub(super) fn new(number: u16, tables: Tables) -> Self {
        Self {
            number,
            life: AtomicU32::new(0),
            granule_bits: AtomicU32::new(0),
            base: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            writable: AtomicUsize::new(0),
            single: AtomicUsize::new(0),
            owner: AtomicU64::new(0),
            reservation: AtomicU32::new(0),
            live: AtomicU32::new(0),
            mapped: AtomicUsize::new(0),
            has_executed: AtomicBool::new(false),
            renewing_step: AtomicU64::new(0),
            least_part_bits: AtomicU32::new(0),
            backed_to: AtomicU32::new(0),
            summary: AtomicPtr::new(core::ptr::null_mut()),
            next: AtomicU32::new(0),
            tables,
        }
    }

    /// Makes it the record of a new chunk without blocks. Nobody else changes it meanwhile.
    pub(super) fn begin(&self, parts: Parts) {
        let life = self.life.load(Ordering::Relaxed);
        if self.has_executed() {
            self.tables.executed.iter().for_each(|bits| bits.store(0, Ordering::Relaxed));
            self.has_executed.store(false, Ordering::Relaxed);
        }
        self.tables.populated.iter().for_each(|bits| bits.store(0, Ordering::Relaxed));
        self.least_part_bits.store(parts.page_size.ilog2(), Ordering::Relaxed);
        self.life.store(life.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let granule_bits = if parts.single == 0 { parts.granule_bits } else { ALL_BITS };
        self.granule_bits.store(granule_bits, Ordering::Relaxed);
        self.base.store(parts.base, Ordering::Relaxed);
        self.length.store(parts.length, Ordering::Relaxed);
        self.mapped.store(parts.length, Ordering::Relaxed);
        self.writable.store(parts.writable, Ordering::Relaxed);
        self.single.store(parts.single, Ordering::Relaxed);
        self.owner.store(parts.owner.pack(), Ordering::Relaxed);
        self.reservation.store(parts.reservation, Ordering::Relaxed);
        self.life.store(life.wrapping_add(2), Ordering::Release);
    }

    pub(super) fn base(&self) -> usize {
        self.base.load(Ordering::Relaxed)
    }

    pub(super) fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Bytes of its pages, also while it waits to be unmapped.
    pub(super) fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    pub(super) fn reservation(&self) -> u32 {
        self.reservation.load(Ordering::Relaxed)
    }

    pub(super) fn owner(&self) -> Owner {
        let packed = self.owner.load(Ordering::Relaxed);
        Owner { heap: (packed >> 32) as u32, shard: packed as u32 }
    }

    /// The chunk belongs to no heap any more: it waits to be unmapped. It says that it holds no address,
    /// since another chunk may be mapped there as soon as it is gone.
    pub(super) fn disown(&self) {
        self.length.store(0, Ordering::Release);
        self.owner.store(u64::MAX, Ordering::Relaxed);
    }

    /// Whether an address lies in its pages.
    pub(super) fn holds(&self, address: usize) -> bool {
        address.wrapping_sub(self.base()) < self.length()
    }

    /// How many granules it has; one if it is for a single block.
    pub(super) fn granules(&self) -> u32 {
        match self.single.load(Ordering::Relaxed) {
            0 => ((self.length() >> self.granule_bits.load(Ordering::Relaxed)) as u32).min(LONGEST),
            _ => 1,
        }
    }

    pub(super) fn is_for_one(&self) -> bool {
        self.single.load(Ordering::Relaxed) != 0
    }

    /// Where the byte at an address can be written, if there is a second view.
    pub(super) fn view_of(&self, address: usize) -> Option<usize> {
        let view = self.writable.load(Ordering::Relaxed);
        (view != 0).then(|| view + (address - self.base()))
    }

    /// The granule that an address in the chunk lies in.
    pub(super) fn granule_of(&self, address: usize) -> usize {
        (address - self.base()) >> self.granule_bits.load(Ordering::Relaxed)
    }

    /// The granule of the live block that starts at an address. The lock of the chunk's shard is held.
    pub(super) fn live_start(&self, address: usize) -> Option<usize> {
        let offset = address.checked_sub(self.base()).filter(|offset| *offset < self.length())?;
        let granule_bits = self.granule_bits.load(Ordering::Relaxed);
        let granule = offset >> granule_bits;
        (granule << granule_bits == offset && is_set(self.tables.starts, granule)).then_some(granule)
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

    /// The requested size of the live block that starts at a granule.
    pub(super) fn size_at(&self, start: usize) -> usize {
        match self.single.load(Ordering::Relaxed) {
            0 => self.tables.sizes.get(start).map_or(0, |size| usize::from(size.load(Ordering::Acquire)) + 1),
            single => single,
        }
    }

    /// Live blocks' bytes. Takes no lock: blocks that come and go meanwhile may be missed.
    pub(super) fn live_bytes(&self) -> usize {
        set_bits(self.tables.starts).map(|start| self.size_at(start)).sum()
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

    /// The first granule that starts at an address of the chunk or behind it.
    pub(super) fn first_granule_from(&self, address: usize) -> usize {
        let granule_bits = self.granule_bits.load(Ordering::Relaxed);
        (address - self.base() + (1 << granule_bits) - 1) >> granule_bits
    }

    pub(super) fn summary(&self) -> &'static Summary {
        // SAFETY: null, or a summary in memory that lives for ever.
        unsafe { self.summary.load(Ordering::Relaxed).as_ref() }.unwrap_or(&NOWHERE)
    }

    pub(super) fn set_summary(&self, summary: &'static Summary) {
        self.summary.store(core::ptr::from_ref(summary).cast_mut(), Ordering::Relaxed);
    }

    pub(super) fn address_of(&self, granule: usize) -> usize {
        self.base() + (granule << self.granule_bits.load(Ordering::Relaxed))
    }

    /// The granules of a block.
    pub(super) fn granules_of(&self, block: Block) -> Range<usize> {
        self.granule_of(block.address)..self.granule_of(block.address + (block.size - 1)) + 1
    }

    /// The granule behind the live block that starts at one, in a chunk for many blocks.
    pub(super) fn end_of(&self, start: usize) -> usize {
        start + ((self.size_at(start) - 1) >> self.granule_bits.load(Ordering::Relaxed)) + 1
    }

    /// The bytes of some granules of a chunk for many blocks.
    pub(super) fn bytes_of(&self, granules: Range<usize>) -> Span {
        let start = self.address_of(granules.start);
        Span::from_parts(start, self.address_of(granules.end) - start)
    }

    /// The bytes of a block up to the end of its last granule.
    pub(super) fn whole_of(&self, block: Block) -> Span {
        if self.is_for_one() { block.span() } else { self.bytes_of(self.granules_of(block)) }
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

    /// How many blocks are live.
    pub(super) fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed)
    }

    /// Ends all blocks.
    pub(super) fn end_all_blocks(&self) {
        for bits in self.tables.starts.iter().chain(self.tables.marks) {
            bits.store(0, Ordering::Release);
        }
        self.live.store(0, Ordering::Relaxed);
    }

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
