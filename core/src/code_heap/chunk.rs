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

use super::bits::Bits;
use super::blocks::Block;
use super::classes::{Index, LONGEST};
use super::runs::Summary;
use crate::registry::{Kind, Region};
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
    pub(super) life: AtomicU32,
    /// Bytes of a granule, as a power of two. Where there is a single block all of it is granule 0.
    pub(super) granule_bits: AtomicU32,
    base: AtomicUsize,
    length: AtomicUsize,
    /// The size of the one block that the chunk is for; 0: it is for many.
    pub(super) single: AtomicUsize,
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
    pub(super) has_executed: AtomicBool,
    /// The cross-core step after which no core has anything left of the blocks that were freed.
    pub(super) renewing_step: AtomicU64,
    reservation: AtomicU32,
    pub(super) live: AtomicU32,
    /// The fork since which no other process has the memory behind its views.
    pub(super) epoch: AtomicU32,
    /// Whether somebody was told where its write view is, and may be storing there at any moment.
    pub(super) is_lent: AtomicBool,
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
    pub(super) epoch: u32,
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
            epoch: AtomicU32::new(0),
            is_lent: AtomicBool::new(false),
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
        self.epoch.store(parts.epoch, Ordering::Relaxed);
        self.is_lent.store(false, Ordering::Relaxed);
        self.life.store(life.wrapping_add(2), Ordering::Release);
    }

    /// The region that it is.
    pub(super) fn region(&self) -> Region {
        let writable_view = self.writable.load(Ordering::Relaxed);
        Region {
            writable_view,
            chunk: self.number + 1,
            ..Region::new(Kind::HeapChunk, self.base(), self.length())
        }
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

    /// The record has no chunk any more.
    pub(super) fn forget_pages(&self) {
        self.mapped.store(0, Ordering::Relaxed);
    }

    /// Whether its shard knows of it, or of the block that it is for alone.
    pub(super) fn is_in_use(&self) -> bool {
        if self.length() == 0 {
            return false;
        }
        match self.is_for_one() {
            true => self.live() > 0,
            false => self.summary().chunk.load(Ordering::Relaxed) == self.number + 1,
        }
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

    /// The bytes of some granules of a chunk for many blocks.
    pub(super) fn bytes_of(&self, granules: Range<usize>) -> Span {
        let start = self.address_of(granules.start);
        Span::from_parts(start, self.address_of(granules.end) - start)
    }

    /// The bytes of a block up to the end of its last granule.
    pub(super) fn whole_of(&self, block: Block) -> Span {
        if self.is_for_one() { block.span() } else { self.bytes_of(self.granules_of(block)) }
    }
}
