//! Chunks come from the system and go back to it. They lie in [clusters](crate::clusters), within which any block reaches any
//! other by a direct branch. The next chunk is asked for behind the last one of a cluster, then anywhere within reach of
//! one, then elsewhere, which opens a new one.

use super::blocks::granule_bits;
use super::chunk::{Chunk, LONGEST_CHUNK};
use super::heaps::{Heap, Heaps};
use super::shard::{Request, Shard};
use crate::clusters::within_reach_of;
use crate::error::{Error, Result};
use crate::lock::Lock;
use crate::near::{self, Reach};
use crate::platform::{Memory, Platform, Views};
use crate::protection::Protection;
use crate::registry::{Access, Claim, Wanted};
use crate::space::AddressSpace;
use crate::span::round_up;
use crate::sync::Ordering;

/// So many chunks at least physical memory has room for.
const CHUNKS_IN_MEMORY: usize = 64;

/// So far below the place that the system would have chosen the first chunk of a cluster goes. Systems
/// place mappings from the top down, also the second views: they must not fill the room between chunks.
const HEADROOM: usize = 256 << 20;

/// Chunks are placed at multiples of this where possible, smaller ones at multiples of about their length: so they are
/// whole entries of a page table and of the page map, and no two share a place among those that were found last.
const ALIGNMENT: usize = LONGEST_CHUNK;

impl Heaps {
    /// A new chunk for a shard, by its number in the heap, with room for what is asked for. Only the caller knows of
    /// it. Where memory is short it may be smaller than usual.
    pub(super) fn grow(
        &self,
        heap: &Heap,
        shard: usize,
        request: Request<'_>,
        space: &AddressSpace<impl Platform>,
    ) -> Result<&'static Chunk> {
        self.sweep_left(space);
        let page_size = space.page_size();
        // A small machine without memory on demand would miss a long one elsewhere.
        let most = (space.platform.physical_memory() / CHUNKS_IN_MEMORY).clamp(1, LONGEST_CHUNK);
        let usual = if request.is_single() { 0 } else { heap.chunk_bytes.load(Ordering::Relaxed).min(most) };
        let least = round_up(request.size, page_size);
        let mut length = round_up(usual, page_size).max(least);
        let shard = heap.first_shard + shard as u32;
        loop {
            let charged = heap.charge(length);
            let map = |()| self.map_chunk(length, shard, request, space).inspect_err(|_| heap.refund(length));
            match charged.and_then(map) {
                Err(Error::NoMemory | Error::OverLimit) if length > least => {
                    length = round_up(length / 2, page_size).max(least);
                }
                other => return other,
            }
        }
    }

    /// Maps pages where blocks in them are within reach of all others, or at least of what the caller asks for.
    fn place(
        &self,
        length: usize,
        request: Request<'_>,
        space: &AddressSpace<impl Platform>,
    ) -> Result<Views> {
        let memory = request.policy.code_memory();
        let (platform, mapper) = (space.platform, space.mapper());
        if request.reach != Reach::ANYWHERE {
            // The shortest chunk need not be within reach beyond its block.
            let is_shortest = length == round_up(request.size, space.page_size());
            let size = if is_shortest { request.size } else { length };
            return self.latest_near.map(request.reach, mapper, size, memory);
        }
        let clusters = self.shared.lock(platform).clusters.clone();
        // Behind the chunks of the shortest, which has the most room: that costs no look at what is mapped.
        if let Some(cluster) = clusters.iter().min_by_key(|cluster| cluster.len())
            && let Some(place) = (cluster.end + 2 * mapper.guard())
                .checked_next_multiple_of(length.next_power_of_two().min(ALIGNMENT))
            && within_reach_of(cluster).holds(place, length)
            && let Some(views) = within_reach_of(cluster).map_at(mapper, length, memory, place)?
        {
            if views.address.is_multiple_of(near::preferred_alignment(platform, length)) {
                return Ok(views);
            }
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe { mapper.unmap(views, length) };
        }
        let map_near = |cluster| self.latest.map(within_reach_of(cluster), mapper, length, memory).ok();
        if let Some(views) = clusters.iter().find_map(map_near) {
            return Ok(views);
        }
        // The first chunk of a new cluster. Where the system would place it, pages without access tell.
        let views = platform.map(length, Memory::Private(Protection::NONE), None)?;
        // SAFETY: mapped just now, and nobody has seen it.
        unsafe { views.unmap(length, platform) };
        match views.address.saturating_sub(HEADROOM) & !(ALIGNMENT - 1) {
            0 => mapper.map(length, memory, None),
            place => near::map_at(mapper, length, memory, place),
        }
    }

    /// Maps a chunk of `length` bytes and enters it. If there is no memory for that its pages are unmapped.
    fn map_chunk(
        &self,
        length: usize,
        shard: u32,
        request: Request<'_>,
        space: &AddressSpace<impl Platform>,
    ) -> Result<&'static Chunk> {
        let platform = space.platform;
        let views = self.place(length, request, space)?;
        let is_in_common = space.is_forking();
        let granule_bits = granule_bits(request.policy, space.page_size());
        // One granule stands for a chunk without free space. Records of a few lengths serve all others.
        let granules = if request.is_single() { 1 } else { (length >> granule_bits).max(2) };
        let mut shared = self.shared.lock(platform);
        let chunk =
            shared.free_record(&self.chunks, granules.next_power_of_two(), platform).inspect_err(|_| {
                // SAFETY: mapped just now, and nobody has seen it.
                unsafe { space.mapper().unmap(views, length) };
            })?;
        let pages = views.address..views.address + length;
        let cluster = shared.clusters.join(&pages, request.reach == Reach::ANYWHERE);
        chunk.backing.reset(views.writable, length, space.page_size(), is_in_common);
        chunk.begin(pages, granule_bits, shard, cluster);
        drop(shared);
        let registered = space.register(chunk.region(), space.hardened(request.policy.code_protection()));
        registered.map(|_| chunk).inspect_err(|_| self.shared.lock(platform).give_record(chunk, platform))
    }

    /// Unmaps a chunk that was retired, unless another thread does. If the system refuses it is tried again whenever a
    /// heap changes its size.
    pub(super) fn unmap<P: Platform>(&self, chunk: &'static Chunk, space: &AddressSpace<P>) {
        if !chunk.take_retired() {
            return;
        }
        let platform = space.platform;
        let was_fetched = chunk.blocks.any_fetched() && platform.may_run_on_other_cores();
        let claim = space.registry.claim(Wanted::HeapChunk(chunk.base()), Access::Exclusive);
        // SAFETY: no block lies in a chunk that was retired, and this thread alone has it in hand.
        let unmap = |claim: Claim<'_, P>| space.freed_code.unmap(was_fetched, || unsafe { claim.release() });
        match claim.and_then(unmap) {
            Ok(unmapped) => {
                space.counters.unmapped(unmapped);
                self.heap_of(chunk).refund(chunk.length());
                self.shared.lock(platform).give_record(chunk, platform);
            }
            Err(_) => {
                chunk.retire();
                self.has_left.store(true, Ordering::Release);
            }
        }
    }

    /// Unmaps what could not be unmapped before.
    pub(super) fn sweep_left(&self, space: &AddressSpace<impl Platform>) {
        if self.has_left.swap(false, Ordering::Acquire) {
            self.sweep(space);
        }
    }

    /// Unmaps all chunks that were retired.
    pub(super) fn sweep(&self, space: &AddressSpace<impl Platform>) {
        self.records().for_each(|chunk| self.unmap(chunk, space));
    }

    /// Gives a heap's empty chunks back to the system. Whether there were any.
    pub(super) fn return_empty_chunks(&self, heap: &Heap, space: &AddressSpace<impl Platform>) -> bool {
        let remove = |found, shard: &Lock<Shard>| shard.lock(space.platform).remove_empty() || found;
        let found = heap.shards.iter().fold(false, remove);
        self.sweep(space);
        found
    }
}
