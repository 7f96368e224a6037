//! Chunks come from the system and go back to it.

use super::blocks::{LONGEST_SHARED, granule_bits};
use super::chunk::{Chunk, LONGEST_CHUNK, List, Place};
use super::clusters::{ALIGNMENT, Clusters, HEADROOM, NO_CLUSTER};
use super::heaps::{Heap, Heaps};
use crate::error::Error;
use crate::near::{self, Reach};
use crate::platform::{Platform, Views};
use crate::policy::Policy;
use crate::registry::{Access, Wanted};
use crate::space::AddressSpace;
use crate::span::round_up;
use core::sync::atomic::Ordering;

/// So many chunks at least physical memory has room for.
const CHUNKS_IN_MEMORY: usize = 64;

/// What a heap wants of a new chunk.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) policy: Policy,
    /// The shard that it is for.
    pub(super) shard: usize,
    /// The bytes of the block that has to have room in it. It is for that one alone if it is too large to share.
    pub(super) size: usize,
    pub(super) reach: Reach,
}

impl Heaps {
    /// A new chunk that only the caller knows of. Where memory is short it may be smaller than usual.
    pub(super) fn grow<P: Platform>(
        &self,
        heap: &Heap,
        wish: Wish,
        space: &AddressSpace<P>,
    ) -> Result<&'static Chunk, Error> {
        self.sweep(space);
        let page_size = space.page_size();
        let least = round_up(wish.size, page_size);
        if wish.size > LONGEST_SHARED {
            return self.map_chunk(least, heap, wish, space);
        }
        // A small machine without memory on demand would miss a long one elsewhere.
        let most = (space.platform.physical_memory() / CHUNKS_IN_MEMORY).clamp(1, LONGEST_CHUNK);
        let usual = heap.chunk_bytes.load(Ordering::Relaxed).min(most);
        let mut length = round_up(usual, page_size).max(least);
        loop {
            match self.map_chunk(length, heap, wish, space) {
                Err(Error::NoMemory | Error::OverLimit) if length > least => {
                    length = round_up(length / 2, page_size).max(least);
                }
                other => return other,
            }
        }
    }

    /// Maps a chunk of `length` bytes and charges the heap for it.
    fn map_chunk<P: Platform>(
        &self,
        length: usize,
        heap: &Heap,
        wish: Wish,
        space: &AddressSpace<P>,
    ) -> Result<&'static Chunk, Error> {
        heap.charge(length)?;
        let made = self.place(length, wish, space);
        made.and_then(|(views, cluster)| self.enter(views, length, cluster, heap, wish, space))
            .inspect_err(|_| heap.refund(length))
    }

    /// Enters a chunk's pages. If there is no memory for that they are unmapped.
    fn enter<P: Platform>(
        &self,
        views: Views,
        length: usize,
        cluster: u32,
        heap: &Heap,
        wish: Wish,
        space: &AddressSpace<P>,
    ) -> Result<&'static Chunk, Error> {
        let platform = space.platform;
        let single = if wish.size > LONGEST_SHARED { wish.size } else { 0 };
        let granule_bits = granule_bits(wish.policy, space.page_size());
        // One granule stands for a chunk without free space.
        let granules = if single == 0 { (length >> granule_bits).max(2) } else { 1 };
        let chunk = self.take_record(granules, platform).inspect_err(|_| {
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe { views.unmap(length, platform) };
            self.shared.lock(platform).clusters.leave(cluster);
        })?;
        chunk.backing.reset(views.writable, length, space.page_size(), space.is_forking());
        let shard = heap.first_shard + wish.shard as u32;
        chunk.begin(Place { base: views.address, length, granule_bits, single, shard, cluster });
        match space.register(chunk.region(), wish.policy.code_protection()) {
            Ok(_) => Ok(chunk),
            Err(error) => {
                self.shared.lock(platform).give_record(chunk);
                Err(error)
            }
        }
    }

    /// Maps pages where blocks in them are within reach of all others, or at least of what the caller asks
    /// for. Also the number of the cluster that they are in.
    fn place<P: Platform>(
        &self,
        length: usize,
        wish: Wish,
        space: &AddressSpace<P>,
    ) -> Result<(Views, u32), Error> {
        let Wish { policy, size, reach, .. } = wish;
        let memory = policy.code_memory();
        let platform = space.platform;
        let clusters = || self.shared.lock(platform);
        if reach != Reach::ANYWHERE {
            // The shortest chunk need not be within reach beyond its block.
            let is_shortest = length == round_up(size, space.page_size());
            let views = reach.map(platform, if is_shortest { size } else { length }, memory)?;
            let cluster = clusters().clusters.admit(views.address, length);
            return Ok((views, cluster.unwrap_or(NO_CLUSTER)));
        }
        let admit = |views: Views| {
            let cluster = clusters().clusters.admit(views.address, length);
            if cluster.is_none() {
                // SAFETY: mapped just now, and nobody has seen it.
                unsafe { views.unmap(length, platform) };
            }
            cluster.map(|cluster| (views, cluster))
        };
        // Behind the chunk before, most often: that costs no look at what is mapped.
        let next = clusters().clusters.next_place(length);
        if let Some(place) = next
            && let Some(placed) = admit(near::map_at(platform, length, memory, place)?)
        {
            return Ok(placed);
        }
        for index in Clusters::indices() {
            let window = clusters().clusters.window(index);
            if let Some((low, high)) = window
                && let Ok(views) = Reach::between(low, high).map(platform, length, memory)
                && let Some(placed) = admit(views)
            {
                return Ok(placed);
            }
        }
        // The first chunk of a new cluster.
        let mut views = platform.map(length, memory, None)?;
        let wished = views.address.saturating_sub(HEADROOM) & !(ALIGNMENT - 1);
        if wished >= ALIGNMENT {
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe { views.unmap(length, platform) };
            views = near::map_at(platform, length, memory, wished)?;
        }
        let cluster = clusters().clusters.admit_or_open(views.address, length);
        Ok((views, cluster))
    }

    /// Unmaps a chunk that no block lies in and that its shard has forgotten. If the system refuses it is
    /// tried again whenever a heap changes its size.
    pub(super) fn retire<P: Platform>(&self, chunk: &'static Chunk, space: &AddressSpace<P>) {
        self.shared.lock(space.platform).retired.push(chunk);
        self.sweep(space);
    }

    /// Unmaps what waits to be unmapped.
    pub(super) fn sweep<P: Platform>(&self, space: &AddressSpace<P>) {
        let shared = || self.shared.lock(space.platform);
        let mut waiting = core::mem::replace(&mut shared().retired, List::new());
        while let Some(chunk) = waiting.take(|_| true) {
            // SAFETY: no block lies in a chunk that was retired, and its shard has forgotten it.
            if unsafe { unmap(chunk, space) }.is_err() {
                shared().retired.push(chunk);
                continue;
            }
            self.heap_of(chunk).refund(chunk.mapped());
            shared().give_record(chunk);
        }
    }

    /// Gives a heap's empty chunks back to the system. Whether there were any.
    pub(super) fn return_empty_chunks<P: Platform>(&self, heap: &Heap, space: &AddressSpace<P>) -> bool {
        let mut found = false;
        for shard in &heap.shards {
            core::iter::from_fn(|| shard.lock(space.platform).remove_empty()).for_each(|chunk| {
                self.shared.lock(space.platform).retired.push(chunk);
                found = true;
            });
        }
        self.sweep(space);
        found
    }
}

/// # Safety
/// Nothing uses the chunk's pages.
unsafe fn unmap<P: Platform>(chunk: &Chunk, space: &AddressSpace<P>) -> Result<(), Error> {
    let platform = space.platform;
    let claim = space.registry.claim(Wanted::HeapChunk(chunk.base()), Access::Exclusive, platform)?;
    let was_fetched = chunk.blocks.any_fetched() && platform.may_run_on_other_cores();
    let unmapped = space.freed_code.unmap(was_fetched, || {
        // SAFETY: the caller's promise.
        unsafe { claim.release() }
    })?;
    space.counters.unmapped(unmapped);
    Ok(())
}
