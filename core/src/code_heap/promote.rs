//! Huge pages behind code that stays: one entry of a core's tables of addresses then stands for all of it.
//!
//! A huge range is a part of a chunk as long as a huge page, and aligned to one. Nearly all of it has to have memory
//! already, since it takes memory for all of it then. The system copies it for milliseconds, meanwhile no lock is held:
//! a claim keeps the chunk mapped, and other memory that took this one's place is noticed afterwards.

use super::chunk::Chunk;
use super::heaps::{Heap, Heaps};
use super::shard::SHARDS;
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::policy::Policy;
use crate::registry::{Access, Wanted};
use crate::space::AddressSpace;
use crate::span::Span;
use crate::sync::Ordering;

/// So many eighths of a huge range have memory at least: it takes a seventh more at most. Blocks that follow each other fill
/// all of it; what is less full is about to be filled, or was made for code that never came.
const LEAST_EIGHTHS: usize = 7;

impl Heaps {
    /// Makes up to `budget` bytes of code huge: of one heap's chunks, or of all. A failed attempt uses
    /// up budget, too. It is an error if nothing was made huge, and an attempt failed.
    pub(crate) fn promote<P: Platform>(
        &self,
        mut budget: usize,
        heap: Option<&Heap>,
        space: &AddressSpace<P>,
    ) -> Result {
        let huge = space.platform.huge_page().ok_or(Error::Unsupported)?;
        // Behind the chunk that was tried last: one that can't be huge now doesn't stand in the others' way.
        let next = self.next_to_promote.load(Ordering::Relaxed);
        let chunks = self.records().skip(next).chain(self.records().take(next));
        let chunks = chunks.filter(|chunk| heap.is_none_or(|heap| heap.shard_of(chunk).is_some()));
        let (mut made, mut failed) = (false, Ok(()));
        for (chunk, range) in
            chunks.flat_map(|chunk| chunk.huge_ranges(huge).map(move |range| (chunk, range)))
        {
            if budget < huge {
                break;
            }
            if range.length() > budget {
                continue;
            }
            match self.promote_range(chunk, range, huge, space) {
                Ok(false) => continue,
                Ok(true) => made = true,
                Err(error) => failed = Err(error),
            }
            budget -= range.length();
            self.next_to_promote.store(usize::from(chunk.link), Ordering::Relaxed);
        }
        if made { Ok(()) } else { failed }
    }

    /// Puts a huge range on a huge page, if it is full enough. Whether it is huge now.
    fn promote_range<P: Platform>(
        &self,
        chunk: &'static Chunk,
        range: Span,
        huge: usize,
        space: &AddressSpace<P>,
    ) -> Result<bool> {
        // The record may have become another chunk's meanwhile.
        let Ok(claim) = space.registry.claim(Wanted::HeapChunk(chunk.base()), Access::Shared) else {
            return Ok(false);
        };
        let is_its =
            claim.region().chunk == chunk.link && chunk.huge_ranges(huge).any(|other| other == range);
        if !is_its || !chunk.is_in_use() || chunk.backing.is_withdrawn.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let heap = self.heap_of(chunk);
        // The heap of a chunk that is about to go may have been dropped.
        let Ok(policy) = heap.policy() else { return Ok(false) };
        if policy == Policy::Toggle {
            // Each change of a page's protection would take the range apart.
            return Err(Error::Unsupported);
        }
        let version = chunk.backing.version();
        // SAFETY: the claim keeps the pages of the chunk mapped.
        if unsafe { space.platform.resident(range) }? < range.length() / 8 * LEAST_EIGHTHS {
            return Ok(false);
        }
        // SAFETY: the claim keeps the pages of the chunk mapped, and they hold afterwards what they held.
        unsafe { space.platform.make_huge(range) }?;
        let shard = heap.shard_of(chunk).unwrap_or_default() % SHARDS;
        let _shard = heap.shards[shard].lock(space.platform);
        Ok(chunk.note_huge(range, version))
    }

    /// Bytes of code on huge pages.
    pub(crate) fn huge_bytes(&self) -> usize {
        let chunks = self.records().filter(|chunk| !chunk.is_free());
        chunks.map(|chunk| chunk.backing.huge_bytes()).sum()
    }
}
