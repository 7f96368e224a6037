//! The code heap: many small functions in few mappings.
//!
//! A heap's blocks lie in [chunks](chunk) of four megabytes, which lie near each other, in [clusters](crate::clusters). A
//! chunk is cut into granules of a cache line, and its record beside it says of each what is there:
//!
//! ```text
//!  pages      | A A A . B B b b . . C C C C . . . . . . . . . |    A, B, C live blocks, b freed, . free
//!             |                         ^ bump: the next block |
//!  starts     | 1       1           1                         |  \
//!  sizes      | 170     100         250                       |   | Blocks: find, free
//!  dirty      | 1                   1                         |   | (dirty: written; fetched: cores may have it)
//!  fetched    | 1 1 1       1 1     1 1 1 1                   |  /
//!  deferred   |             1                                 |  \ FreeSpace: alloc
//!  free       |       1         1 1                           |  / (what is free, by length of the run)
//!  populated  | 1                 | 0               |          |    Backing: which pages of the write view have memory
//! ```
//!
//! Each heap deals its chunks out to several [shards](shard), each with a lock. The address of any byte leads to its
//! block without a lock, by the page map and the chunk's start bits. From top to bottom, each file uses those below:
//!
//! | file | what it does |
//! |---|---|
//! | [`write`] | writes, patches and publishes blocks |
//! | this one | allocates, shrinks, frees and finds them |
//! | [`grow`] | chunks come from the system and go back to it |
//! | [`promote`] | huge pages behind code that stays |
//! | [`store`] | the ways into a block's bytes, by policy |
//! | [`heaps`] | all heaps, how addresses lead to chunks, forks, figures and pictures |
//! | [`records`] | the records of chunks, which serve one after another |
//! | [`shard`] | which free space a block gets, and when that is used again |
//! | [`chunk`] | composed of [`blocks`], [`free_space`](crate::free_space) and [`backing`] |
#![allow(rustdoc::private_intra_doc_links, reason = "who reads the source can follow them")]

mod backing;
mod blocks;
mod chunk;
mod grow;
mod heaps;
mod promote;
mod records;
mod shard;
mod store;
mod write;

pub use blocks::Block;
pub(crate) use heaps::Heaps;
pub use heaps::{ChunkPicture, Limits};

use crate::error::{Error, Result};
use crate::lock::{Guard, Lock};
use crate::near::Reach;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::space::AddressSpace;
use crate::span::Span;
use crate::sync::Ordering;
use blocks::granule_bits;
use chunk::{Chunk, LONGEST_CHUNK};
use core::ops::Range;
use core::ptr;
use heaps::Heap;
use shard::{Request, SHARDS, Shard};
use store::LockedBlock;

/// A code heap: blocks of executable memory. The process's default one is
/// [`Runtime::code_heap`](crate::Runtime::code_heap); others have limits of their own, and when they are dropped
/// their blocks are gone.
pub struct CodeHeap<'r, P: Platform> {
    space: &'r AddressSpace<P>,
    heaps: &'r Heaps,
    heap: &'r Heap,
}

impl<'r, P: Platform> CodeHeap<'r, P> {
    /// The default heap of a process.
    pub(crate) fn default_of(heaps: &'r Heaps, space: &'r AddressSpace<P>) -> Self {
        Self { space, heaps, heap: &heaps.default }
    }

    /// A further heap.
    pub(crate) fn new(heaps: &'r Heaps, space: &'r AddressSpace<P>, limits: Limits) -> Result<Self> {
        let heap = heaps.add(limits, space.platform)?;
        Ok(Self { space, heaps, heap })
    }

    /// A block of `size` bytes that can be executed, aligned to a cache line of 64 bytes. Returns its address.
    #[inline]
    pub fn alloc(&self, size: i64) -> Result<usize> {
        self.alloc_within(size, Reach::ANYWHERE)
    }

    /// As [`alloc`](Self::alloc), wholly within `max_distance` bytes of `target`.
    pub fn alloc_near(&self, size: i64, target: i64, max_distance: i64) -> Result<usize> {
        self.alloc_within(size, Reach::new(target, max_distance)?)
    }

    // For a plain allocation the reach is a constant, and then costs nothing.
    #[inline(always)]
    fn alloc_within(&self, size: i64, reach: Reach) -> Result<usize> {
        let size = self.space.allocation_size(size)?;
        let Ok(policy) = self.heap.policy() else { return self.alloc_first(size, reach) };
        let request = self.request(size, reach, policy, policy);
        if request.is_single() {
            return self.alloc_elsewhere(preferred_shard(), request);
        }
        let (index, mut shard) = self.lock_any();
        if let Some(address) = shard.alloc(request) {
            return Ok(address);
        }
        drop(shard);
        self.alloc_elsewhere(index, request)
    }

    /// A block while the heap has no memory, and no policy: nothing is decided before there is some.
    #[cold]
    fn alloc_first(&self, size: usize, reach: Reach) -> Result<usize> {
        let choice = &self.space.policy;
        let by =
            |(wish, policy)| self.alloc_elsewhere(preferred_shard(), self.request(size, reach, wish, policy));
        if let Some(preferred) = choice.preferred_for_heap(self.space.platform)? {
            match by(preferred) {
                Err(Error::Refused | Error::Unsupported) => {}
                other => return other,
            }
        }
        choice.for_heap(self.space.platform).and_then(by)
    }

    #[inline(always)]
    fn request(&self, size: usize, reach: Reach, wish: Policy, policy: Policy) -> Request<'_> {
        let granules = ((size - 1) >> granule_bits(policy, self.space.page_size())) + 1;
        Request { size, granules, reach, wish, policy, freed_code: &self.space.freed_code }
    }

    /// A block where the shard has no room. When the heap has grown, what has filled up before may become huge.
    #[cold]
    fn alloc_elsewhere(&self, index: usize, request: Request<'_>) -> Result<usize> {
        let before = self.heap.mapped();
        let address = self.alloc_growing(index, request)?;
        let promotes = self.heap.promotes.load(Ordering::Relaxed) && !request.is_single();
        if promotes && self.heap.mapped() > before {
            // The block is there; what can't be huge now may be later.
            let _ = self.heaps.promote(LONGEST_CHUNK, Some(self.heap), self.space);
        }
        Ok(address)
    }

    /// A block out of a new chunk. If there is none to be had, what is free in other shards serves, and at last what
    /// the system gives once all empty chunks went back to it.
    fn alloc_growing(&self, index: usize, request: Request<'_>) -> Result<usize> {
        let growth = self.heap.growth.lock(self.space.platform);
        if self.heap.policy().is_ok_and(|policy| policy != request.policy) {
            // The heap's first memory came meanwhile, by another policy.
            drop(growth);
            return self.alloc_within(request.size as i64, request.reach);
        }
        // The shard may have got a chunk while this thread waited. For a block near something any shard will do.
        let shards = if request.reach == Reach::ANYWHERE { 1 } else { SHARDS };
        if let Some(address) = self.alloc_from(index..index + shards, request) {
            return Ok(address);
        }
        let shortage = match self.alloc_in_new_chunk(index, request) {
            Err(error @ (Error::NoMemory | Error::OverLimit)) => error,
            Err(error) => return Err(error),
            Ok(Some(address)) => return Ok(address),
            Ok(None) => {
                drop(growth);
                return self.alloc_first(request.size, request.reach);
            }
        };
        if let Some(address) = self.alloc_from(0..SHARDS, request) {
            return Ok(address);
        }
        if !self.heaps.return_empty_chunks(self.heap, self.space) {
            return Err(shortage);
        }
        self.alloc_in_new_chunk(index, request)?.ok_or(shortage)
    }

    /// A block out of the free space of some shards.
    fn alloc_from(&self, mut shards: Range<usize>, request: Request<'_>) -> Option<usize> {
        if request.is_single() {
            return None;
        }
        shards.find_map(|index| self.shard(index).lock(self.space.platform).alloc_even_partly(request))
    }

    /// `None`: another thread's first memory came by another policy meanwhile, and this is gone.
    fn alloc_in_new_chunk(&self, index: usize, request: Request<'_>) -> Result<Option<usize>> {
        let chunk = self.heaps.grow(self.heap, index, request, self.space)?;
        if self.heap.policy().is_err() {
            // A shortage chooses nothing: only now is there memory. Nobody else decides, since this thread has `growth`.
            if !self.space.policy.keep_for_heap(request.wish, request.policy) {
                chunk.retire();
                self.heaps.unmap(chunk, self.space);
                return Ok(None);
            }
            self.heap.policy.store(request.policy as i32, Ordering::Relaxed);
        }
        let mut shard = self.shard(index).lock(self.space.platform);
        if request.is_single() {
            chunk.blocks.start(0, request.size);
            chunk.put_to_use();
            return Ok(Some(chunk.base()));
        }
        shard.add(chunk);
        shard.alloc_even_partly(request).map(Some).ok_or(Error::NoMemory)
    }

    /// Frees the live block that starts at an address; any other address is *not owned*. If it was written,
    /// it holds nothing but trap instructions afterwards.
    pub fn free(&self, address: i64) -> Result {
        self.space.end_code(|| self.behind(address, 0), || self.free_block(address))
    }

    fn free_block(&self, address: i64) -> Result {
        let mut found =
            self.lock_block_after(byte_at(address)?, |chunk| chunk.expect_free(address as usize))?;
        if found.block.address as i64 != address {
            return Err(Error::NotOwned);
        }
        let chunk = found.chunk;
        let granules = chunk.granules_of(found.block.span());
        if chunk.blocks.dirty.is_set(granules.start) {
            found.fill_with_traps(granules.clone())?;
            chunk.blocks.dirty.clear(granules.start);
        }
        let retired = found.lock.free(chunk, granules);
        drop(found);
        if let Some(chunk) = retired {
            self.heaps.sweep_left(self.space);
            self.heaps.unmap(chunk, self.space);
        }
        Ok(())
    }

    /// Gives back all but the first `size` bytes of the live block that starts at an address: for code that turned out
    /// shorter than what was allocated for it. Of what was written, the granules that are given back hold nothing but
    /// trap instructions afterwards. A block that has a chunk to itself keeps its pages. More than what the block has is
    /// an *invalid argument*.
    pub fn shrink(&self, address: i64, size: i64) -> Result {
        self.space.end_code(|| self.behind(address, size), || self.shrink_block(address, size))
    }

    fn shrink_block(&self, address: i64, size: i64) -> Result {
        let kept = Span::new(address, size)?;
        let mut found = self.lock_block(byte_at(address)?)?;
        if found.block.address != kept.start() {
            return Err(Error::NotOwned);
        }
        if kept.length() > found.block.size {
            return Err(Error::InvalidArgument);
        }
        let chunk = found.chunk;
        let granules = chunk.granules_of(kept);
        let rest = granules.end..chunk.granules_of(found.block.span()).end;
        if !rest.is_empty() && chunk.blocks.dirty.is_set(granules.start) {
            found.fill_with_traps(rest.clone())?;
        }
        chunk.blocks.set_size(granules.start, kept.length());
        if !rest.is_empty() && chunk.is_for_others() {
            found.lock.give_back(chunk, rest);
        }
        Ok(())
    }

    /// What lies behind the first `size` bytes of the live block that starts at an address, if anything.
    fn behind(&self, address: i64, size: i64) -> Option<Span> {
        let (chunk, _) = self.chunk_of(byte_at(address).ok()?).ok()?;
        let block = chunk.find(address as usize).filter(|block| block.address as i64 == address)?;
        let size = usize::try_from(size).ok().filter(|size| *size < block.size)?;
        Some(Span::from_parts(block.address + size, block.size - size))
    }

    /// The live block, of any heap, that holds an address. Takes no lock.
    pub fn find(&self, address: i64) -> Option<Block> {
        self.heaps.find(address, &self.space.registry)
    }

    /// Sets the most bytes of code pages that the heap may have. What it has already stays.
    pub fn set_limit(&self, bytes: usize) {
        self.heap.limit.store(bytes, Ordering::Relaxed);
    }

    /// Sets whether code becomes huge as chunks fill: see [`Limits::huge_pages`].
    pub fn set_huge_pages(&self, wanted: bool) {
        self.heap.promotes.store(wanted, Ordering::Relaxed);
    }

    /// The policy of the heap's pages, or what it would be now while the heap has none.
    #[inline]
    pub fn policy(&self) -> Result<Policy> {
        self.heap.policy().or_else(|_| Ok(self.space.policy.for_heap(self.space.platform)?.1))
    }

    fn shard(&self, index: usize) -> &Lock<Shard> {
        &self.heap.shards[index % SHARDS]
    }

    /// The first shard from the preferred one on whose lock is free; if none is, waits for that one.
    #[inline]
    fn lock_any(&self) -> (usize, Guard<'_, Shard, P>) {
        let preferred = preferred_shard();
        for index in preferred..preferred + SHARDS {
            if let Some(shard) = self.shard(index).try_lock(self.space.platform) {
                return (index % SHARDS, shard);
            }
        }
        (preferred, self.shard(preferred).lock(self.space.platform))
    }

    /// The chunk of this heap that holds the first of some bytes, and its shard's number.
    fn chunk_of(&self, bytes: Span) -> Result<(&'static Chunk, usize)> {
        let chunk = self.heaps.chunk_at(bytes.start(), &self.space.registry).ok_or(Error::NotOwned)?;
        Ok((chunk, self.heap.shard_of(chunk).ok_or(Error::NotOwned)?))
    }

    /// The live block that holds some bytes, if its chunk still belongs to the shard of this number, whose `lock` the
    /// caller has taken.
    // Inlined, so that the block is handed over in registers: by way of memory a free took twice as long.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    fn block_in<L>(
        &self,
        chunk: &'static Chunk,
        index: usize,
        bytes: Span,
        lock: L,
    ) -> Result<LockedBlock<'_, P, L>> {
        let found = chunk.find_in(self.heap.first_shard + index as u32, bytes.start());
        let block = found.filter(|block| block.span().contains(bytes)).ok_or(Error::NotOwned)?;
        Ok(LockedBlock { heap: self.heap, space: self.space, chunk, block, lock })
    }

    /// The live block that holds bytes, and the lock of its shard.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    fn lock_block(&self, bytes: Span) -> Result<LockedBlock<'_, P, Guard<'_, Shard, P>>> {
        self.lock_block_after(bytes, |_| ())
    }

    /// The same; before it takes the lock it calls `expect`.
    #[cfg_attr(not(target_os = "none"), inline(always))]
    fn lock_block_after(
        &self,
        bytes: Span,
        expect: impl FnOnce(&Chunk),
    ) -> Result<LockedBlock<'_, P, Guard<'_, Shard, P>>> {
        let (chunk, index) = self.chunk_of(bytes)?;
        expect(chunk);
        self.block_in(chunk, index, bytes, self.shard(index).lock(self.space.platform))
    }
}

/// One byte.
fn byte_at(address: i64) -> Result<Span> {
    if address > 0 { Ok(Span::from_parts(address as usize, 1)) } else { Err(Error::InvalidArgument) }
}

impl<P: Platform> Drop for CodeHeap<'_, P> {
    fn drop(&mut self) {
        if !ptr::eq(self.heap, &self.heaps.default) {
            self.heaps.retire_all(self.heap, self.space);
            self.heaps.sweep(self.space);
            self.heap.retire();
        }
    }
}

/// The shard that a thread tries first. Threads' stacks lie megabytes apart, one behind the other; golden-ratio
/// hashing deals neighbours out to different shards. A wrong guess costs time, not correctness.
#[inline]
fn preferred_shard() -> usize {
    let on_stack = 0u8;
    let megabytes = (&raw const on_stack).addr() as u64 >> 21;
    (megabytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize % SHARDS
}
