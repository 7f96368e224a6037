//! A chunk: a run of pages in which blocks lie, and what is known of them.
//!
//! It is composed of its place, its [`Blocks`], its [`FreeSpace`] and its [`Backing`]. The record lies outside of the
//! pages and stays one for ever, since readers without a lock may still look at it; it serves one chunk after
//! another. Changes are made under the lock of the shard that the chunk belongs to, or by the only thread that knows
//! of it. [`Chunk::find`] takes no lock.

use super::backing::Backing;
use super::blocks::{Block, Blocks, GRANULE_BITS};
use crate::clusters::Clusters;
use crate::free_space::{FreeSpace, LONGEST};
use crate::memory::{Arrays, Index, bring_in};
use crate::near::Reach;
use crate::platform::{PageRequest, Platform};
use crate::prefetch;
use crate::protection::Advice;
use crate::registry::{Kind, Region};
use crate::span::Span;
use crate::sync::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use core::ops::Range;

/// A chunk for many blocks has at most so many bytes.
pub(super) const LONGEST_CHUNK: usize = LONGEST << GRANULE_BITS;

/// So many bytes come in before a lock is taken: a core can wait for about so many lines at once.
const MOST_EXPECTED: usize = 1024;

/// Bytes of a granule, as a power of two, where a single block has the whole chunk: more bits than any offset has.
const ALL_BITS: u32 = usize::BITS - 1;

// A record's stages, and what leads from one to the next:
//
//        begin         put_to_use        retire         take_retired         forget
//   free -----> IN_HAND --------> IN_USE -----> RETIRED -----------> IN_HAND -----> free

/// A single thread maps or unmaps the chunk, and nobody else knows of it. (A free record has this stage, too.)
const IN_HAND: u8 = 0;
/// It is in its shard's list, or holds a block that has it alone.
const IN_USE: u8 = 1;
/// No block lies in it. Whoever comes by unmaps it.
const RETIRED: u8 = 2;

/// The record of a chunk, or of a place for one. What a lookup reads comes first.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Chunk {
    /// Odd while no address leads here, and another number for each chunk that the record was for. (A new record's is
    /// even, but its pages are none.)
    generation: AtomicU32,
    /// Bytes of a granule, as a power of two.
    granule_bits: AtomicU32,
    base: AtomicUsize,
    /// Bytes of its pages; 0: the record is free.
    length: AtomicUsize,
    pub(super) blocks: Blocks,
    pub(super) space: FreeSpace,
    pub(super) backing: Backing,
    stage: AtomicU8,
    /// The number of the shard that it belongs to: each heap has [`SHARDS`](super::shard::SHARDS) in a row.
    shard: AtomicU32,
    /// The cross-core step after which no core has anything left of what was freed here before it became free space.
    pub(super) reuse_step: AtomicU64,
    /// The number of the cluster that it is in.
    pub(super) cluster: AtomicUsize,
    /// The next one in the [`List`](super::records::List) that it is in.
    pub(super) next: AtomicPtr<Chunk>,
    /// Its number + 1: 0 stands for no chunk.
    pub(super) link: u16,
    /// The memory that its parts have their tables in; and how much of that the system has back.
    tables: Option<Span>,
    dropped: AtomicUsize,
}

impl Chunk {
    /// A free record for chunks of so many granules. One of a single granule has no free space.
    pub(super) fn lay_out(number: Index, arrays: &mut Arrays, granules: usize) -> Self {
        Self {
            blocks: Blocks::lay_out(arrays, granules),
            space: FreeSpace::lay_out(arrays, if granules == 1 { 0 } else { granules }),
            backing: Backing::lay_out(arrays),
            cluster: AtomicUsize::new(Clusters::NONE),
            link: number as u16 + 1,
            tables: arrays.memory(),
            ..Self::default()
        }
    }

    /// Makes a free record that of a new chunk without blocks and without free space, which is in hand.
    pub(super) fn begin(&self, pages: Range<usize>, granule_bits: u32, shard: u32, cluster: usize) {
        self.close();
        self.reuse_step.store(0, Ordering::Relaxed);
        self.cluster.store(cluster, Ordering::Relaxed);
        let granule_bits = if self.blocks.is_single() { ALL_BITS } else { granule_bits };
        self.granule_bits.store(granule_bits, Ordering::Relaxed);
        self.base.store(pages.start, Ordering::Relaxed);
        self.shard.store(shard, Ordering::Relaxed);
        self.length.store(pages.len(), Ordering::Relaxed);
        // Release: whoever sees that it holds addresses sees which, and whose it is.
        self.generation.store(self.generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    /// From now on no address leads to the chunk.
    fn close(&self) {
        self.generation.store(self.generation.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// Its owner uses it.
    pub(super) fn put_to_use(&self) {
        self.stage.store(IN_USE, Ordering::Release);
    }

    /// Its owner uses it no more: all blocks have ended.
    pub(super) fn retire(&self) {
        self.close();
        self.blocks.end_all();
        self.stage.store(RETIRED, Ordering::Release);
    }

    /// If it is retired, takes it in hand.
    pub(super) fn take_retired(&self) -> bool {
        self.stage.compare_exchange(RETIRED, IN_HAND, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// The chunk, which was in hand, is gone: the record is free, and its tables as good as new ones.
    pub(super) fn forget(&self) {
        self.close();
        self.blocks.forget_all_fetched();
        self.space.clear();
        self.stage.store(IN_HAND, Ordering::Relaxed);
        self.length.store(0, Ordering::Release);
    }

    /// Of a free record: gives the memory of its tables back, but for pages that hold more. How many bytes that are.
    /// Whoever still looks there finds that no block starts.
    pub(super) fn drop_tables(&self, platform: impl Platform) -> usize {
        let page_size = platform.page_size();
        let (Some(tables), 0) = (self.tables, self.dropped.load(Ordering::Relaxed)) else { return 0 };
        let (start, end) = (tables.start().next_multiple_of(page_size), tables.end() & !(page_size - 1));
        if start >= end {
            return 0;
        }
        let pages = Span::from_parts(start, end - start);
        // SAFETY: the pages are the pool's, and hold nothing but this record's tables, which are of no chunk.
        if unsafe { platform.request(pages, PageRequest::Advise(Advice::DontNeed)) }.is_err() {
            return 0;
        }
        self.dropped.store(pages.length(), Ordering::Relaxed);
        pages.length()
    }

    /// The record is about to be used: how many bytes of its tables the system had back.
    pub(super) fn take_tables_back(&self, platform: impl Platform) -> usize {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if let (Some(tables), 1..) = (self.tables, dropped) {
            bring_in(tables, platform);
        }
        dropped
    }

    pub(super) fn is_in_use(&self) -> bool {
        self.stage.load(Ordering::Acquire) == IN_USE
    }

    /// The live block that holds an address. Takes no lock.
    ///
    /// It is right for some moment of the call. A block that lives through the whole call is found: no other start
    /// lies between its own and the address.
    #[inline]
    pub(super) fn find(&self, address: usize) -> Option<Block> {
        self.in_one_generation(|| self.block_at(address))
    }

    /// The live block that holds an address, if the chunk belongs to the shard of that number, whose lock is held: then
    /// the block is live until the lock is released. Before the lock was taken the chunk may have been unmapped, and its
    /// record become another one's.
    pub(super) fn find_in(&self, shard: u32, address: usize) -> Option<Block> {
        self.in_one_generation(|| self.block_at(address).filter(|_| self.shard() == shard))
    }

    /// A hint: bytes are about to be written. To take a lock a core waits until all its earlier stores are done, those
    /// to the last block too; meanwhile the lines of this one come in. Takes no lock, and no harm from a chunk that goes.
    #[inline]
    pub(super) fn expect_write(&self, address: usize, length: usize) {
        prefetch::for_write(self.view_of(address).unwrap_or(address), length.min(MOST_EXPECTED));
    }

    /// A hint: the block that starts at an address is about to be freed. If it was written it is filled.
    #[inline]
    pub(super) fn expect_free(&self, address: usize) {
        let granule = self.granule_of(address);
        if self.blocks.dirty.is_set(granule) {
            self.expect_write(address, self.blocks.size_at(granule));
        }
    }

    /// Whether an address lies in its pages. Takes no lock.
    #[inline]
    pub(super) fn holds(&self, address: usize) -> bool {
        self.in_one_generation(|| (address.wrapping_sub(self.base()) < self.length()).then_some(())).is_some()
    }

    /// What `read` finds, if the record was one chunk's all the while.
    #[inline]
    fn in_one_generation<R>(&self, read: impl FnOnce() -> Option<R>) -> Option<R> {
        let generation = self.generation.load(Ordering::Acquire);
        let found = read();
        fence(Ordering::Acquire);
        found
            .filter(|_| generation.is_multiple_of(2) && self.generation.load(Ordering::Relaxed) == generation)
    }

    #[inline]
    fn block_at(&self, address: usize) -> Option<Block> {
        let (base, granule_bits) = (self.base(), self.granule_bits());
        // No block reaches an address outside of the pages.
        let offset = address.wrapping_sub(base);
        let (start, size) = self.blocks.find(offset >> granule_bits)?;
        let start = start << granule_bits;
        (offset.wrapping_sub(start) < size).then_some(Block { address: base + start, size })
    }

    pub(super) fn region(&self) -> Region {
        Region {
            writable_view: self.backing.view(),
            chunk: self.link,
            ..Region::new(Kind::HeapChunk, self.base(), self.length())
        }
    }

    #[inline]
    pub(super) fn base(&self) -> usize {
        self.base.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    pub(super) fn is_free(&self) -> bool {
        self.length.load(Ordering::Acquire) == 0
    }

    fn granule_bits(&self) -> u32 {
        self.granule_bits.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn shard(&self) -> u32 {
        self.shard.load(Ordering::Relaxed)
    }

    /// Whether somebody may be storing to it directly.
    pub(crate) fn is_lent(&self) -> bool {
        self.is_in_use() && self.backing.is_lent.load(Ordering::Relaxed)
    }

    /// Notes that another process may have its memory too.
    pub(crate) fn mark_in_common(&self) {
        self.backing.is_in_common.store(true, Ordering::Relaxed);
    }

    /// The parts of its write view that were ever written to.
    pub(crate) fn written_parts(&'static self) -> impl Iterator<Item = Span> {
        self.backing.populated_parts(self.length())
    }

    /// Its huge ranges that are not on huge pages yet.
    pub(super) fn huge_ranges(&'static self, huge_page: usize) -> impl Iterator<Item = Span> {
        let (base, length) = (self.base(), self.backing.huge_range(huge_page));
        let count = if base.is_multiple_of(huge_page) { self.length() / length } else { 0 };
        let is_left = move |start: &usize| !self.backing.is_huge(*start..start + length);
        let starts = (0..count).map(move |number| number * length).filter(is_left);
        starts.map(move |start| Span::from_parts(base + start, length))
    }

    /// A huge range was made huge, if the memory is the same as it was before. Whether it is.
    pub(super) fn note_huge(&self, range: Span, version: u32) -> bool {
        let start = range.start() - self.base();
        self.backing.note_huge(start..start + range.length(), version)
    }

    /// Other memory is behind its addresses from now on, or will be as soon as it is written to: of no huge pages.
    pub(crate) fn change_memory(&self) {
        self.backing.change_memory();
    }

    /// Whether every byte of it is within reach.
    #[inline]
    pub(super) fn is_within(&self, reach: Reach) -> bool {
        reach.holds(self.base(), self.length())
    }

    /// How many granules a chunk for many blocks has.
    pub(super) fn granules(&self) -> usize {
        (self.length() >> self.granule_bits()).min(LONGEST)
    }

    pub(super) fn has_second_view(&self) -> bool {
        self.backing.view() != 0
    }

    /// Where the byte at an address can be written, if there is a second view.
    pub(super) fn view_of(&self, address: usize) -> Option<usize> {
        let view = self.backing.view();
        (view != 0).then(|| view.wrapping_add(address.wrapping_sub(self.base())))
    }

    /// The granule that an address in the chunk lies in.
    pub(super) fn granule_of(&self, address: usize) -> usize {
        address.wrapping_sub(self.base()) >> self.granule_bits()
    }

    /// The granules at which a block can start whose `size` bytes are within reach.
    pub(super) fn starts_within(&self, reach: Reach, size: usize) -> Range<usize> {
        let bytes = reach.clip(self.base()..self.base() + self.length());
        let first_from =
            |address: usize| address.saturating_sub(self.base()).div_ceil(1 << self.granule_bits());
        first_from(bytes.start)..first_from((bytes.end + 1).saturating_sub(size))
    }

    #[inline]
    pub(super) fn address_of(&self, granule: usize) -> usize {
        self.base() + (granule << self.granule_bits())
    }

    /// The granules that bytes of the chunk lie in.
    #[inline]
    pub(super) fn granules_of(&self, bytes: Span) -> Range<usize> {
        self.granule_of(bytes.start())..self.granule_of(bytes.end() - 1) + 1
    }

    /// Whether what is freed here can serve other blocks. Else its pages do nothing more than to go back to the system.
    #[inline]
    pub(super) fn is_for_others(&self) -> bool {
        !self.blocks.is_single() && !self.backing.is_withdrawn.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_whose_chunk_goes_during_the_lookup_is_none_of_the_records_next_one() {
        let pages = 0x10_0000..0x10_1000;
        let chunk = Chunk::lay_out(0, &mut Arrays::leaked(512), 2);
        chunk.begin(pages.clone(), GRANULE_BITS, 1, 0);
        chunk.blocks.start(0, 10);
        chunk.put_to_use();
        assert_eq!(chunk.find_in(1, pages.start + 5), Some(Block { address: pages.start, size: 10 }));
        assert_eq!(chunk.find_in(2, pages.start + 5), None);
        let found = chunk.in_one_generation(|| {
            let block = chunk.block_at(pages.start + 5);
            chunk.retire();
            chunk.forget();
            chunk.begin(pages.clone(), GRANULE_BITS, 2, 0);
            block.filter(|_| chunk.shard() == 2)
        });
        assert_eq!(found, None);
    }
}
