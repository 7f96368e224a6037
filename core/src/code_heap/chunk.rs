//! A chunk: a run of pages in which blocks lie, and what is known of them.
//!
//! It is composed of its place, its [`Blocks`], its [`FreeSpace`] and its [`Backing`]. The record lies outside of the
//! pages and stays one for ever, since readers without a lock may still look at it; it serves one chunk after
//! another. Changes are made under the lock of the shard that the chunk belongs to, or by the only thread that knows
//! of it. [`Chunk::find`] takes no lock.

use super::backing::Backing;
use super::blocks::{Block, Blocks, GRANULE_BITS};
use super::free_space::{FreeSpace, LONGEST};
use crate::memory::{Arrays, Index};
use crate::near::Reach;
use crate::registry::{Kind, Region};
use crate::span::Span;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// A chunk for many blocks has at most so many bytes.
pub(super) const LONGEST_CHUNK: usize = LONGEST << GRANULE_BITS;

/// Bytes of a granule, as a power of two, where a single block has the whole chunk: more bits than any offset has.
const ALL_BITS: u32 = usize::BITS - 1;

/// The record of a chunk, or of a place for one. What a lookup reads comes first.
#[repr(C, align(64))]
pub(super) struct Chunk {
    /// Odd while the record becomes another chunk's, and another number for each that lived here.
    life: AtomicU32,
    /// Bytes of a granule, as a power of two.
    granule_bits: AtomicU32,
    base: AtomicUsize,
    /// 0 once the chunk waits to be unmapped: another one may be mapped there as soon as it is gone.
    length: AtomicUsize,
    pub(super) blocks: Blocks,
    pub(super) space: FreeSpace,
    pub(super) backing: Backing,
    /// The number of the shard that it belongs to: each heap has [`SHARDS`](super::shard::SHARDS) in a row.
    shard: AtomicU32,
    /// Whether the owner's shard has it in its list.
    pub(super) is_listed: AtomicBool,
    /// The cross-core step after which no core has anything left of what was freed here before it became free space.
    pub(super) reuse_step: AtomicU64,
    /// Bytes of its pages, also while it waits to be unmapped; 0: the record is free.
    pub(super) mapped: AtomicUsize,
    pub(super) cluster: AtomicU32,
    /// The next one in the [`List`] that it is in.
    next: AtomicPtr<Chunk>,
    number: u16,
}

/// Where a chunk is, and whose.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) base: usize,
    pub(super) length: usize,
    pub(super) granule_bits: u32,
    /// The size of the only block, or 0.
    pub(super) single: usize,
    /// The shard that it belongs to, by number.
    pub(super) shard: u32,
    pub(super) cluster: u32,
}

impl Chunk {
    /// A free record for chunks of so many granules. One of a single granule has no free space.
    pub(super) fn lay_out(number: Index, arrays: &mut Arrays, granules: usize) -> Self {
        Self {
            life: AtomicU32::new(0),
            granule_bits: AtomicU32::new(0),
            base: AtomicUsize::new(0),
            length: AtomicUsize::new(0),
            blocks: Blocks::lay_out(arrays, granules),
            space: FreeSpace::lay_out(arrays, if granules == 1 { 0 } else { granules }),
            backing: Backing::lay_out(arrays),
            shard: AtomicU32::new(0),
            is_listed: AtomicBool::new(false),
            reuse_step: AtomicU64::new(0),
            mapped: AtomicUsize::new(0),
            cluster: AtomicU32::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            number: number as u16,
        }
    }

    /// Makes a free record that of a new chunk without blocks and without free space.
    pub(super) fn begin(&self, place: Place) {
        // It may be odd already: a thread that forked a child was in the middle of this, and is not here.
        let life = self.life.load(Ordering::Relaxed) | 1;
        self.life.store(life, Ordering::Relaxed);
        fence(Ordering::Release);
        self.blocks.reset(place.single);
        self.space.clear();
        self.reuse_step.store(0, Ordering::Relaxed);
        self.mapped.store(place.length, Ordering::Relaxed);
        self.cluster.store(place.cluster, Ordering::Relaxed);
        let granule_bits = if place.single == 0 { place.granule_bits } else { ALL_BITS };
        self.granule_bits.store(granule_bits, Ordering::Relaxed);
        self.base.store(place.base, Ordering::Relaxed);
        self.shard.store(place.shard, Ordering::Relaxed);
        // Release: whoever sees that it is open sees whose it is.
        self.length.store(place.length, Ordering::Release);
        self.life.store(life.wrapping_add(1), Ordering::Release);
    }

    /// The live block that holds an address. Takes no lock.
    ///
    /// It is right for some moment of the call. A block that lives through the whole call is found: no other start
    /// lies between its own and the address.
    #[inline]
    pub(super) fn find(&self, address: usize) -> Option<Block> {
        let life = self.life.load(Ordering::Acquire);
        let base = self.base();
        let offset = address.wrapping_sub(base);
        if offset >= self.length() {
            return None;
        }
        let granule_bits = self.granule_bits();
        let found = self.blocks.find(offset >> granule_bits);
        fence(Ordering::Acquire);
        let is_same_life = life.is_multiple_of(2) && self.life.load(Ordering::Relaxed) == life;
        let (start, size) = found.filter(|_| is_same_life)?;
        let start = start << granule_bits;
        (offset - start < size).then_some(Block { address: base + start, size })
    }

    /// The region that it is, also while it waits to be unmapped.
    pub(super) fn region(&self) -> Region {
        Region {
            writable_view: self.backing.view(),
            chunk: self.link() as u16,
            ..Region::new(Kind::HeapChunk, self.base(), self.mapped())
        }
    }

    /// Its number + 1: 0 stands for no chunk.
    pub(super) fn link(&self) -> u32 {
        u32::from(self.number) + 1
    }

    #[inline]
    pub(super) fn base(&self) -> usize {
        self.base.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    fn granule_bits(&self) -> u32 {
        self.granule_bits.load(Ordering::Relaxed)
    }

    pub(super) fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    /// The number of the shard that it belongs to, or belonged to before it was to be unmapped.
    #[inline]
    pub(super) fn shard(&self) -> u32 {
        self.shard.load(Ordering::Relaxed)
    }

    /// From now on the chunk holds no address: it waits to be unmapped.
    pub(super) fn close(&self) {
        self.length.store(0, Ordering::Release);
    }

    /// Whether its owner uses it: it has the shard's free space, or a block to itself.
    pub(super) fn is_in_use(&self) -> bool {
        match self.blocks.is_single() {
            true => self.length() > 0 && self.blocks.live() > 0,
            false => self.is_listed.load(Ordering::Relaxed),
        }
    }

    /// The record has no chunk any more.
    pub(super) fn forget(&self) {
        self.close();
        self.mapped.store(0, Ordering::Relaxed);
    }

    /// Whether it holds addresses, and belongs to the shard that it names.
    pub(super) fn is_open(&self) -> bool {
        self.length.load(Ordering::Acquire) > 0
    }

    /// Whether an address lies in its pages. Takes no lock.
    #[inline]
    pub(super) fn holds(&self, address: usize) -> bool {
        let life = self.life.load(Ordering::Acquire);
        let holds = address.wrapping_sub(self.base()) < self.length();
        fence(Ordering::Acquire);
        holds && life.is_multiple_of(2) && self.life.load(Ordering::Relaxed) == life
    }

    /// The live block that holds an address, if the chunk belongs to the shard of that number, whose lock is held: then
    /// the block is live until the lock is released. Before the lock was taken the chunk may have been unmapped, and its
    /// record become another one's.
    pub(super) fn find_in(&self, shard: u32, address: usize) -> Option<Block> {
        let life = self.life.load(Ordering::Acquire);
        let block = self.find(address).filter(|_| self.shard() == shard);
        fence(Ordering::Acquire);
        block.filter(|_| self.life.load(Ordering::Relaxed) == life)
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

    /// Where the byte at an address can be written, if there is a second view.
    pub(super) fn view_of(&self, address: usize) -> Option<usize> {
        let view = self.backing.view();
        (view != 0).then(|| view + (address - self.base()))
    }

    /// The granule that an address in the chunk lies in.
    pub(super) fn granule_of(&self, address: usize) -> usize {
        (address - self.base()) >> self.granule_bits()
    }

    /// The first granule that starts at an address of the chunk or behind it.
    pub(super) fn first_granule_from(&self, address: usize) -> usize {
        (address - self.base()).div_ceil(1 << self.granule_bits())
    }

    #[inline]
    pub(super) fn address_of(&self, granule: usize) -> usize {
        self.base() + (granule << self.granule_bits())
    }

    /// The granules that bytes of the chunk lie in.
    pub(super) fn granules_of(&self, bytes: Span) -> Range<usize> {
        self.granule_of(bytes.start())..self.granule_of(bytes.end() - 1) + 1
    }

    /// The granules of the live block that starts at one.
    pub(super) fn granules_from(&self, start: usize) -> Range<usize> {
        start..start + ((self.blocks.size_at(start) - 1) >> self.granule_bits()) + 1
    }

    /// Makes the granules of all blocks that have ended free space. No bump is under way here.
    pub(super) fn coalesce(&self) {
        match self.blocks.live() {
            0 => self.space.reset(self.granules()),
            _ => self.space.coalesce(self.blocks.starts(), self.granules()),
        }
    }

    /// The bytes of a block up to the end of its last granule.
    pub(super) fn whole_of(&self, block: Block) -> Span {
        if self.blocks.is_single() {
            return block.span();
        }
        let granules = self.granules_of(block.span());
        let start = self.address_of(granules.start);
        Span::from_parts(start, self.address_of(granules.end) - start)
    }
}

/// A list of chunks, each of which is in one list at most. Whoever changes it holds its lock.
pub(super) struct List(Option<&'static Chunk>);

impl List {
    pub(super) const fn new() -> Self {
        Self(None)
    }

    pub(super) fn push(&mut self, chunk: &'static Chunk) {
        let rest = self.0.map_or(ptr::null_mut(), |first| ptr::from_ref(first).cast_mut());
        chunk.next.store(rest, Ordering::Relaxed);
        self.0 = Some(chunk);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Chunk> + use<> {
        core::iter::successors(self.0, |chunk| next_of(chunk))
    }

    /// Takes out the first one that `is_wanted`.
    pub(super) fn take(&mut self, is_wanted: impl Fn(&Chunk) -> bool) -> Option<&'static Chunk> {
        let mut before: Option<&'static Chunk> = None;
        let found = self.iter().find(|chunk| {
            let is_found = is_wanted(chunk);
            before = if is_found { before } else { Some(chunk) };
            is_found
        })?;
        match before {
            Some(before) => before.next.store(found.next.load(Ordering::Relaxed), Ordering::Relaxed),
            None => self.0 = next_of(found),
        }
        Some(found)
    }
}

fn next_of(chunk: &Chunk) -> Option<&'static Chunk> {
    // SAFETY: `push` stored null or a record, and records live for ever.
    unsafe { chunk.next.load(Ordering::Relaxed).as_ref() }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use core::ptr::NonNull;
    use std::boxed::Box;

    #[test]
    fn a_record_serves_another_chunk_even_after_a_fork_in_the_middle_of_that() {
        let memory: &'static mut [u64; 1024] = Box::leak(Box::new([0; 1024]));
        // SAFETY: zeroed, leaked, and as long.
        let mut arrays = unsafe { Arrays::over(NonNull::from(memory).cast(), 8192) };
        let chunk = Chunk::lay_out(0, &mut arrays, 64);
        let place =
            |base| Place { base, length: 4096, granule_bits: GRANULE_BITS, single: 0, shard: 9, cluster: 0 };
        for (base, life) in [(4096, 0), (8192, 2), (12_288, 5)] {
            chunk.life.store(life, Ordering::Relaxed);
            chunk.begin(place(base));
            chunk.blocks.start(1, 100);
            assert_eq!(chunk.find_in(9, base + 163), Some(Block { address: base + 64, size: 100 }));
            assert_eq!((chunk.find_in(8, base + 64), chunk.find(base + 164)), (None, None));
            assert!(chunk.holds(base) && !chunk.holds(base - 1) && chunk.is_open());
            chunk.forget();
            assert!(!chunk.holds(base) && chunk.find(base + 64).is_none());
        }
    }
}
