//! A chunk: a run of pages in which a heap's blocks lie, and what is known of them.
//!
//! What is known lies outside of the pages, in memory that stays a chunk's record for ever, since readers
//! without a lock may still look at it. A chunk is cut into granules; for each there is
//! - a start bit: a live block starts here,
//! - the size of the block that starts here,
//! - a written bit: the block that starts here may hold code, so freeing it has to remove that,
//! - an executed bit: a core may have fetched from here, so publishing anew needs a cross-core step,
//! - for each two granules, the record of the free block that begins or ends there (see `free_space`).
//!
//! All changes are made under the lock of the shard that the chunk belongs to. [`Chunk::find`] takes none.

use super::bins::LONGEST;
use crate::span::Span;
use core::ops::Range;
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A block of more bytes has a chunk to itself: the table of sizes has 16 bits for each.
pub(super) const LONGEST_SHARED: usize = 1 << 16;

/// The smallest granule, as a power of two: blocks are aligned to it.
pub(super) const GRANULE_BITS: u32 = 5;

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

/// Bits, one for each granule.
pub(super) type Bits = &'static [AtomicU64];

/// One value for each granule, or each two.
#[derive(Clone, Copy)]
pub(super) struct Tables {
    pub(super) starts: Bits,
    pub(super) written: Bits,
    pub(super) executed: Bits,
    /// Bytes - 1. Written before the start bit is set, and never otherwise.
    pub(super) sizes: &'static [AtomicU16],
    pub(super) free: &'static [AtomicU32],
}

/// The record of a chunk, or of a place for one.
pub(super) struct Chunk {
    pub(super) number: u16,
    /// Odd while the fields below change hands, and another number for each chunk that lived here.
    life: AtomicU32,
    granule_bits: AtomicU32,
    base: AtomicUsize,
    length: AtomicUsize,
    writable: AtomicUsize,
    /// The size of the one block that the chunk is for; 0: it is for many.
    single: AtomicUsize,
    /// The heap and its shard, packed, so that both change at once.
    owner: AtomicU64,
    reservation: AtomicU32,
    /// Which 64ths of the write view are known to have memory behind them.
    populated: AtomicU64,
    /// The next record in a list of chunks, as number + 1.
    pub(super) next: AtomicU32,
    pub(super) tables: Tables,
}

/// What a chunk is made of.
#[derive(Clone, Copy)]
pub(super) struct Parts {
    pub(super) base: usize,
    pub(super) length: usize,
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
            populated: AtomicU64::new(0),
            next: AtomicU32::new(0),
            tables,
        }
    }

    /// Makes it the record of a new chunk without blocks. Nobody else changes it meanwhile.
    pub(super) fn begin(&self, parts: Parts) {
        let life = self.life.load(Ordering::Relaxed);
        if life != 0 {
            self.tables.executed.iter().for_each(|bits| bits.store(0, Ordering::Relaxed));
        }
        self.populated.store(0, Ordering::Relaxed);
        self.life.store(life.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.granule_bits.store(parts.granule_bits, Ordering::Relaxed);
        self.base.store(parts.base, Ordering::Relaxed);
        self.length.store(parts.length, Ordering::Relaxed);
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

    pub(super) fn reservation(&self) -> u32 {
        self.reservation.load(Ordering::Relaxed)
    }

    pub(super) fn owner(&self) -> Owner {
        let packed = self.owner.load(Ordering::Relaxed);
        Owner { heap: (packed >> 32) as u32, shard: packed as u32 }
    }

    /// The chunk belongs to no heap any more: it waits to be unmapped.
    pub(super) fn disown(&self) {
        self.owner.store(u64::MAX, Ordering::Relaxed);
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
        match self.is_for_one() {
            true => 0,
            false => (address - self.base()) >> self.granule_bits.load(Ordering::Relaxed),
        }
    }

    pub(super) fn address_of(&self, granule: usize) -> usize {
        self.base() + (granule << self.granule_bits.load(Ordering::Relaxed))
    }

    /// The granules of a block.
    pub(super) fn granules_of(&self, block: Block) -> Range<usize> {
        self.granule_of(block.address)..self.granule_of(block.address + (block.size - 1)) + 1
    }

    /// The bytes of a block up to the end of its last granule.
    pub(super) fn whole_of(&self, block: Block) -> Span {
        let granule = 1usize << self.granule_bits.load(Ordering::Relaxed);
        Span::from_parts(block.address, (block.size + granule - 1) & !(granule - 1))
    }

    /// Makes `granule` the start of a live block of `size` bytes.
    pub(super) fn start_block(&self, granule: usize, size: usize) {
        if let Some(entry) = self.tables.sizes.get(granule) {
            // Release: whoever reads this size sees that the block before it has ended.
            entry.store(size.wrapping_sub(1) as u16, Ordering::Release);
        }
        set(self.tables.starts, granule);
    }

    /// Ends the live block that starts at `granule`.
    pub(super) fn end_block(&self, granule: usize) {
        clear(self.tables.starts, granule);
    }

    /// Ends all blocks.
    pub(super) fn end_all_blocks(&self) {
        for bits in self.tables.starts.iter().chain(self.tables.written) {
            bits.store(0, Ordering::Release);
        }
    }

    /// The live block that holds an address. Takes no lock.
    ///
    /// It is right for some moment of the call. A block that lives through the whole call is found: no other
    /// start lies between its own and the address. What is found was live when its start bit was read, or,
    /// if another block has taken the start meanwhile, is that one: its size was stored after the first
    /// one's bit was cleared and before its own was set, so a size that is read together with a bit that is
    /// still set afterwards belongs to a block that was live in between.
    pub(super) fn find(&self, address: usize) -> Option<Block> {
        let life = self.life.load(Ordering::Acquire);
        let base = self.base();
        let offset = address.checked_sub(base).filter(|offset| *offset < self.length())?;
        let single = self.single.load(Ordering::Relaxed);
        let granule_bits = self.granule_bits.load(Ordering::Relaxed);
        let granule = if single == 0 { offset >> granule_bits } else { 0 };
        let start = last_set(self.tables.starts, granule)?;
        let size = match single {
            0 => usize::from(self.tables.sizes.get(start)?.load(Ordering::Acquire)) + 1,
            single => single,
        };
        if !is_set(self.tables.starts, start) {
            return None;
        }
        fence(Ordering::Acquire);
        let start = if single == 0 { start << granule_bits } else { 0 };
        let is_inside = offset - start < size;
        let is_same_life = life.is_multiple_of(2) && self.life.load(Ordering::Relaxed) == life;
        (is_inside && is_same_life).then_some(Block { address: base + start, size })
    }

    /// The parts of the write view, as offsets, that have to have memory behind them before `span` is
    /// written, and the bits that say so.
    pub(super) fn unpopulated(&self, span: Span) -> Option<(Range<usize>, u64)> {
        let part_bits = self.part_bits();
        let first = (span.start() - self.base()) >> part_bits;
        let last = (span.end() - 1 - self.base()) >> part_bits;
        let bits = mask(first as u32, last as u32);
        if self.populated.load(Ordering::Relaxed) & bits == bits {
            return None;
        }
        Some((first << part_bits..((last + 1) << part_bits).min(self.length()), bits))
    }

    pub(super) fn record_populated(&self, bits: u64) {
        // Under the shard's lock, as all changes.
        self.populated.store(self.populated.load(Ordering::Relaxed) | bits, Ordering::Relaxed);
    }

    /// A 64th of the chunk, but at least 64 KiB, as a power of two.
    fn part_bits(&self) -> u32 {
        self.length().next_power_of_two().ilog2().saturating_sub(6).max(16)
    }
}

/// The bits from `first` to `last`, both at most 63.
fn mask(first: u32, last: u32) -> u64 {
    u64::MAX >> (63 - last.min(63)) & u64::MAX << first.min(63)
}

pub(super) fn is_set(bits: Bits, index: usize) -> bool {
    bits.get(index / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (index % 64) & 1 != 0)
}

pub(super) fn set(bits: Bits, index: usize) {
    if let Some(word) = bits.get(index / 64) {
        word.store(word.load(Ordering::Relaxed) | 1 << (index % 64), Ordering::Release);
    }
}

pub(super) fn clear(bits: Bits, index: usize) {
    if let Some(word) = bits.get(index / 64) {
        word.store(word.load(Ordering::Relaxed) & !(1 << (index % 64)), Ordering::Release);
    }
}

/// The words that a range of bits lies in, each with the mask of its part.
fn words(bits: Bits, range: Range<usize>) -> impl Iterator<Item = (&'static AtomicU64, u64)> {
    let last = range.end.saturating_sub(1);
    let words = bits.get(range.start / 64..=last / 64).unwrap_or_default();
    words.iter().enumerate().map(move |(index, word)| {
        let start = (range.start / 64 + index) * 64;
        let first = range.start.saturating_sub(start) as u32;
        (word, mask(first, (last - start).min(63) as u32))
    })
}

/// Whether any bit of a range that is not empty is set.
pub(super) fn any_set(bits: Bits, range: Range<usize>) -> bool {
    words(bits, range).any(|(word, mask)| word.load(Ordering::Relaxed) & mask != 0)
}

/// Sets all bits of a range that is not empty.
pub(super) fn set_all(bits: Bits, range: Range<usize>) {
    for (word, mask) in words(bits, range) {
        word.store(word.load(Ordering::Relaxed) | mask, Ordering::Relaxed);
    }
}

/// The last set bit up to `index`, as far back as the longest block reaches.
fn last_set(bits: Bits, index: usize) -> Option<usize> {
    let mut word = index / 64;
    let oldest = word.saturating_sub(SEARCH_WORDS);
    let mut found = bits.get(word)?.load(Ordering::Acquire) & mask(0, (index % 64) as u32);
    loop {
        if found != 0 {
            return Some(word * 64 + found.ilog2() as usize);
        }
        if word == oldest {
            return None;
        }
        word -= 1;
        found = bits.get(word)?.load(Ordering::Acquire);
    }
}
