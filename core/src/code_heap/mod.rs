//! The code heap: many small functions in few mappings.
//!
//! A heap's blocks lie in [chunks](chunk) of four megabytes, which lie near each other ([`reservation`]).
//! What is free in them is found in constant time ([`runs`], [`classes`]), under one of several locks
//! ([`shard`]). The address of any byte leads to its block without a lock ([`blocks`]).
//! [`write`] has the ways into a block's bytes, [`growth`] the system calls.
//!
//! No page is writable and executable outside policy `rwx`. Code is written through the second view of
//! `dual` memory without a system call; under policy `toggle` every block has pages of its own, because
//! nothing else on a page could run while it is flipped.
#![allow(rustdoc::private_intra_doc_links, reason = "who reads the source can follow them")]

mod backing;
mod bits;
mod blocks;
mod chunk;
mod classes;
mod directory;
mod fork;
mod growth;
mod heaps;
mod reservation;
mod roster;
mod runs;
mod shard;
mod write;

pub use blocks::Block;
pub(crate) use heaps::{Heap, Heaps};

use crate::error::Error;
use crate::near::Reach;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::space::AddressSpace;
use bits::is_set;
use chunk::{Chunk, GRANULE_BITS, LONGEST_CHUNK, LONGEST_SHARED};
use roster::Roster;
use shard::{Given, Request, SHARDS, Shard};

/// What one heap may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of code pages, a second view not counted.
    pub bytes: usize,
    /// How many of them are asked of the system at a time, 4 MiB and a 64th of physical memory at most; rounded
    /// up to pages. Where memory is short it asks for less.
    pub chunk_bytes: usize,
}

impl Limits {
    /// No limit but the system's.
    pub const DEFAULT: Self = Self { bytes: usize::MAX, chunk_bytes: LONGEST_CHUNK };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A code heap: blocks of executable memory. The process's default one is [`Runtime::code_heap`](crate::Runtime::code_heap); others
/// have limits of their own, and when they are dropped their blocks are gone.
pub struct CodeHeap<'r, P: Platform> {
    space: &'r AddressSpace<P>,
    heaps: &'r Heaps,
    heap: &'r Heap,
    is_default: bool,
}

impl<'r, P: Platform> CodeHeap<'r, P> {
    /// The default heap of a process.
    pub(crate) fn default_of(heaps: &'r Heaps, space: &'r AddressSpace<P>) -> Self {
        Self { space, heaps, heap: heaps.default_heap(), is_default: true }
    }

    /// A further heap.
    pub(crate) fn new(heaps: &'r Heaps, space: &'r AddressSpace<P>, limits: Limits) -> Result<Self, Error> {
        let heap = heaps.add(limits, space.platform)?;
        Ok(Self { space, heaps, heap, is_default: false })
    }
}

impl<P: Platform> CodeHeap<'_, P> {
    /// A block of `size` bytes that can be executed, aligned to a cache line of 64 bytes. Returns its address.
    #[inline]
    pub fn alloc(&self, size: i64) -> Result<usize, Error> {
        let size = self.space.allocation_size(size)?;
        if size > LONGEST_SHARED {
            return self.alloc_alone(size, None);
        }
        let request = self.request(size)?;
        let (index, shard, mut roster) = self.heap.lock_any(shard::preferred(), self.space.platform);
        match shard.alloc(&mut roster, request, &self.heaps.directory) {
            Some(given) => Ok(self.accept(given)),
            None => {
                drop(roster);
                self.alloc_after_growth(index, request)
            }
        }
    }

    /// As [`alloc`](Self::alloc), wholly within `max_distance` bytes of `target`.
    pub fn alloc_near(&self, size: i64, target: i64, max_distance: i64) -> Result<usize, Error> {
        let reach = Reach::new(target, max_distance)?;
        let size = self.space.allocation_size(size)?;
        if size > LONGEST_SHARED {
            return self.alloc_alone(size, Some(reach));
        }
        let request = self.request(size)?;
        match self.alloc_anywhere(request, Some(reach)) {
            Some(address) => Ok(address),
            None => self.alloc_in_new_chunk(shard::preferred(), request, Some(reach)),
        }
    }

    fn accept(&self, given: Given) -> usize {
        if given.was_empty {
            self.heap.empty_chunk_used();
        }
        given.address
    }

    /// Gets a chunk for a shard. If there is none to be had, what is free in other shards serves, and at
    /// last what the system gives once all empty chunks went back to it.
    #[cold]
    fn alloc_after_growth(&self, index: usize, request: Request) -> Result<usize, Error> {
        let shortage = match self.alloc_in_new_chunk(index, request, None) {
            Err(error @ (Error::NoMemory | Error::OverLimit)) => error,
            other => return other,
        };
        if let Some(address) = self.alloc_anywhere(request, None) {
            return Ok(address);
        }
        if !self.return_empty_chunks() {
            return Err(shortage);
        }
        self.alloc_in_new_chunk(index, request, None)
    }

    /// A block out of the free space of any shard.
    fn alloc_anywhere(&self, request: Request, reach: Option<Reach>) -> Option<usize> {
        let platform = self.space.platform;
        self.heap
            .shards
            .iter()
            .find_map(|shard| self.alloc_in(shard, &mut shard.lock(platform), request, reach))
    }

    fn alloc_in(
        &self,
        shard: &Shard,
        roster: &mut Roster,
        request: Request,
        reach: Option<Reach>,
    ) -> Option<usize> {
        let directory = &self.heaps.directory;
        let given = match reach {
            None => shard.alloc(roster, request, directory),
            Some(reach) => shard.alloc_within(roster, request, reach, directory),
        };
        given.map(|given| self.accept(given))
    }

    fn alloc_in_new_chunk(
        &self,
        index: usize,
        request: Request,
        reach: Option<Reach>,
    ) -> Result<usize, Error> {
        let chunk = self.grow(index, request.size, reach)?;
        let shard = self.heap.shard(index);
        let mut roster = match self.lock_with_vacancy(shard) {
            Ok(roster) => roster,
            Err(error) => {
                chunk.disown();
                self.retire(chunk);
                return Err(error);
            }
        };
        roster.add(chunk);
        self.heap.empty_chunk_added();
        self.alloc_in(shard, &mut roster, request, reach).ok_or(Error::NoMemory)
    }

    /// A block too large to share a chunk gets one to itself.
    #[cold]
    fn alloc_alone(&self, size: usize, reach: Option<Reach>) -> Result<usize, Error> {
        let index = shard::preferred();
        let chunk = match self.grow(index, size, reach) {
            Err(Error::NoMemory | Error::OverLimit) if self.return_empty_chunks() => {
                self.grow(index, size, reach)?
            }
            other => other?,
        };
        let shard = self.heap.shard(index);
        let _roster = shard.lock(self.space.platform);
        chunk.start_block(0, size);
        Ok(chunk.base())
    }

    /// Frees the live block that starts at an address; any other address is *not owned*. If it was written,
    /// it holds nothing but trap instructions afterwards.
    pub fn free(&self, address: i64) -> Result<(), Error> {
        let (chunk, shard) = self.chunk_of(address)?;
        let mut roster = shard.lock(self.space.platform);
        let start = self.live_start(chunk, shard, address)?;
        if is_set(chunk.tables.marks, start) {
            let block = Block { address: address as usize, size: chunk.size_at(start) };
            self.remove_code(chunk, chunk.granules_of(block))?;
        }
        let is_unused = match chunk.is_for_one() {
            true => {
                chunk.end_block(start);
                true
            }
            false => {
                roster.end_block(chunk, start)
                    && !self.heap.keep_empty_chunk()
                    && shard.remove_empty(&mut roster, Some(chunk), &self.heaps.directory).is_some()
            }
        };
        if is_unused {
            chunk.disown();
            drop(roster);
            self.retire(chunk);
        }
        Ok(())
    }

    /// The live block, of any heap, that holds an address. Takes no lock.
    pub fn find(&self, address: i64) -> Option<Block> {
        self.heaps.find(address, &self.space.registry)
    }

    /// Sets the most bytes of code pages that the heap may have. What it has already stays.
    pub fn set_limit(&self, bytes: usize) {
        self.heap.set_limit(bytes);
    }

    /// The policy of the heap's pages, decided now if it was open.
    pub fn policy(&self) -> Result<Policy, Error> {
        match self.heap.policy() {
            Some(policy) => Ok(policy),
            None => self.decide(),
        }
    }

    #[cold]
    fn decide(&self) -> Result<Policy, Error> {
        let policy = self.space.policy.for_heap(self.space.platform)?;
        Ok(self.heap.fix(policy))
    }

    #[inline]
    fn request(&self, size: usize) -> Result<Request, Error> {
        let granules = ((size - 1) >> self.granule_bits()?) as u32 + 1;
        Ok(Request { size, granules })
    }

    /// Blocks start at multiples of this power of two.
    fn granule_bits(&self) -> Result<u32, Error> {
        Ok(match self.policy()? {
            Policy::Toggle => self.space.page_size().ilog2(),
            _ => GRANULE_BITS,
        })
    }

    /// The chunk of this heap that holds an address, and its shard.
    fn chunk_of(&self, address: i64) -> Result<(&'static Chunk, &Shard), Error> {
        self.shard_of(address).map(|(chunk, index)| (chunk, self.heap.shard(index)))
    }

    /// The chunk of this heap that holds an address, and its shard's number.
    fn shard_of(&self, address: i64) -> Result<(&'static Chunk, usize), Error> {
        let address = usize::try_from(address).map_err(|_| Error::InvalidArgument)?;
        if address == 0 {
            return Err(Error::InvalidArgument);
        }
        let chunk = self.heaps.chunk_at(address, &self.space.registry).ok_or(Error::NotOwned)?;
        let owner = chunk.owner();
        match owner.heap == self.heap.id {
            true => Ok((chunk, owner.shard as usize % SHARDS)),
            false => Err(Error::NotOwned),
        }
    }

    /// Whether a chunk belongs to a shard whose lock is held. If a live block was found there, it does until
    /// the lock is released.
    fn owns(&self, shard: &Shard, chunk: &Chunk) -> bool {
        let owner = chunk.owner();
        owner.heap == self.heap.id && core::ptr::eq(self.heap.shard(owner.shard as usize), shard)
    }

    /// The live block that holds an address in a chunk. The lock of `shard` is held.
    fn block_of(&self, chunk: &Chunk, shard: &Shard, address: i64) -> Result<Block, Error> {
        let block = chunk.find(address as usize).ok_or(Error::NotOwned)?;
        if self.owns(shard, chunk) { Ok(block) } else { Err(Error::NotOwned) }
    }

    /// The granule of the live block that starts at an address. The lock of `shard` is held.
    fn live_start(&self, chunk: &Chunk, shard: &Shard, address: i64) -> Result<usize, Error> {
        let start = chunk.live_start(address as usize).ok_or(Error::NotOwned)?;
        if self.owns(shard, chunk) { Ok(start) } else { Err(Error::NotOwned) }
    }
}

impl<P: Platform> Drop for CodeHeap<'_, P> {
    fn drop(&mut self) {
        if !self.is_default {
            self.release_all();
        }
    }
}

const _: () = assert!(SHARDS.is_power_of_two());
