//! Chunks come from the system and go back to it.

use super::CodeHeap;
use super::chunk::{Chunk, LONGEST_CHUNK, LONGEST_SHARED, Owner, Parts};
use super::heaps::Shared;
use super::reservation::{ALIGNMENT, HEADROOM, NO_RESERVATION, Reservations};
use super::shard::{Guard, SHARDS, Shard};
use crate::error::Error;
use crate::memory::UNIT;
use crate::near::{self, Reach};
use crate::platform::{Memory, Platform, Views};
use crate::registry::{Access, Wanted};
use crate::span::round_up;
use core::sync::atomic::Ordering;

/// So many chunks at least physical memory has room for.
const CHUNKS_IN_MEMORY: usize = 64;

impl<P: Platform> CodeHeap<'_, P> {
    /// A new empty chunk for a shard, with room for a block of `size` bytes: for that one alone if it is
    /// too large to share. Where memory is short a chunk may be smaller than usual.
    pub(super) fn grow(
        &self,
        index: usize,
        size: usize,
        reach: Option<Reach>,
    ) -> Result<&'static Chunk, Error> {
        self.sweep();
        let page_size = self.space.page_size();
        let owner = Owner { heap: self.heap.id, shard: (index % SHARDS) as u32 };
        let least = round_up(size, page_size);
        if size > LONGEST_SHARED {
            return self.map_chunk(least, size, owner, reach);
        }
        // A small machine without memory on demand would miss a long one elsewhere.
        let most = (self.space.platform.physical_memory() / CHUNKS_IN_MEMORY).clamp(1, LONGEST_CHUNK);
        let mut length = round_up(self.heap.chunk_bytes().min(most), page_size).max(least);
        loop {
            match self.map_chunk(length, 0, owner, reach) {
                Err(Error::NoMemory | Error::OverLimit) if length > least => {
                    length = round_up(length / 2, page_size).max(least);
                }
                other => return other,
            }
        }
    }

    fn map_chunk(
        &self,
        length: usize,
        single: usize,
        owner: Owner,
        reach: Option<Reach>,
    ) -> Result<&'static Chunk, Error> {
        self.heap.charge(length)?;
        let made = self.map_charged(length, single, owner, reach);
        if made.is_err() {
            self.heap.refund(length);
        }
        made
    }

    fn map_charged(
        &self,
        length: usize,
        single: usize,
        owner: Owner,
        reach: Option<Reach>,
    ) -> Result<&'static Chunk, Error> {
        let (platform, heaps) = (self.space.platform, self.heaps);
        let policy = self.policy()?;
        let granule_bits = self.granule_bits()?;
        let (views, reservation) = self.place(length, policy.code_memory(), reach)?;
        // One granule stands for a chunk without free runs.
        let granules = if single == 0 { ((length >> granule_bits) as u32).max(2) } else { 1 };
        let record = self.shared(|shared| shared.records.take(granules, &heaps.directory, platform));
        let chunk = record.inspect_err(|_| {
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe { views.unmap(length, self.space.platform) };
            self.shared(|shared| shared.reservations.leave(reservation));
        })?;
        let (base, writable) = (views.address, views.writable);
        chunk.begin(Parts {
            base,
            length,
            page_size: self.space.page_size(),
            writable,
            granule_bits,
            single,
            owner,
            reservation,
            epoch: self.space.epoch(),
        });
        match self.space.register(chunk.region(), policy.code_protection()) {
            Ok(_) => Ok(chunk),
            Err(error) => {
                self.forget_record(chunk);
                Err(error)
            }
        }
    }

    /// Maps pages where blocks in them are within reach of all others, or at least of what the caller asks
    /// for. Also the number of the reservation that they are in.
    fn place(&self, length: usize, memory: Memory, reach: Option<Reach>) -> Result<(Views, u32), Error> {
        let platform = self.space.platform;
        if let Some(reach) = reach {
            let views = reach.map(platform, length, memory)?;
            let admitted = self.shared(|shared| shared.reservations.admit(views.address, length));
            return Ok((views, admitted.unwrap_or(NO_RESERVATION)));
        }
        // Behind the chunk before, most often: that costs no look at what is mapped.
        if let Some(place) = self.shared(|shared| shared.reservations.next_place(length)) {
            let views = near::map_at(platform, length, memory, place)?;
            if let Some(placed) = self.admit(views, length) {
                return Ok(placed);
            }
        }
        for index in Reservations::indices() {
            let Some((low, high)) = self.shared(|shared| shared.reservations.window(index)) else { continue };
            if let Ok(views) = Reach::between(low, high).map(platform, length, memory)
                && let Some(placed) = self.admit(views, length)
            {
                return Ok(placed);
            }
        }
        self.place_first(length, memory)
    }

    /// The first chunk of a new reservation.
    fn place_first(&self, length: usize, memory: Memory) -> Result<(Views, u32), Error> {
        let platform = self.space.platform;
        let mut views = platform.map(length, memory, None)?;
        let wished = views.address.saturating_sub(HEADROOM) & !(ALIGNMENT - 1);
        if wished >= ALIGNMENT {
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe { views.unmap(length, self.space.platform) };
            views = near::map_at(platform, length, memory, wished)?;
        }
        let index = self.shared(|shared| shared.reservations.admit_or_open(views.address, length));
        Ok((views, index))
    }

    /// Enters pages into the reservation that they are within reach of. If there is none they are unmapped.
    fn admit(&self, views: Views, length: usize) -> Option<(Views, u32)> {
        let index = self.shared(|shared| shared.reservations.admit(views.address, length));
        if index.is_none() {
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe { views.unmap(length, self.space.platform) };
        }
        index.map(|index| (views, index))
    }

    fn shared<R>(&self, work: impl FnOnce(&mut Shared) -> R) -> R {
        work(&mut self.heaps.shared.lock(self.space.platform))
    }

    /// A shard's lock, with room for one more chunk. No other lock is taken while it is held.
    pub(super) fn lock_with_vacancy<'a>(&self, shard: &'a Shard) -> Result<Guard<'a, P>, Error> {
        let platform = self.space.platform;
        loop {
            let roster = shard.lock(platform);
            if roster.vacancy().is_some() {
                return Ok(roster);
            }
            drop(roster);
            let unit = self.shared(|shared| shared.records.pool().take(platform, UNIT))?;
            shard.lock(platform).extend(unit);
        }
    }

    /// Unmaps a chunk that no block lies in and that its shard has forgotten. If the system refuses it is
    /// tried again whenever the heap changes its size.
    pub(super) fn retire(&self, chunk: &'static Chunk) {
        self.heap.push_retired(chunk);
        self.sweep();
    }

    /// Unmaps what waits to be unmapped.
    pub(super) fn sweep(&self) {
        let mut link = self.heap.take_retired();
        while let Some(number) = link.checked_sub(1) {
            let Some(chunk) = self.heaps.directory.get(number as u16) else { return };
            link = chunk.next.load(Ordering::Relaxed);
            match self.unmap(chunk) {
                Ok(()) => {
                    self.heap.refund(chunk.mapped());
                    self.forget_record(chunk);
                }
                Err(_) => self.heap.push_retired(chunk),
            }
        }
    }

    fn unmap(&self, chunk: &Chunk) -> Result<(), Error> {
        let platform = self.space.platform;
        let claim =
            self.space.registry.claim(Wanted::HeapChunk(chunk.base()), Access::Exclusive, platform)?;
        let was_fetched = chunk.has_executed() && platform.may_run_on_other_cores();
        let unmapped = self.space.freed_code.unmap(was_fetched, || {
            // SAFETY: no block lies in the chunk any more, and its pages are hidden from lookups.
            unsafe { claim.release() }
        })?;
        self.space.counters.unmapped(unmapped);
        Ok(())
    }

    fn forget_record(&self, chunk: &'static Chunk) {
        chunk.disown();
        self.shared(|shared| {
            shared.reservations.leave(chunk.reservation());
            shared.records.give(chunk);
        });
    }

    /// Gives all empty chunks back to the system. Whether there were any.
    pub(super) fn return_empty_chunks(&self) -> bool {
        let mut found = false;
        for shard in &self.heap.shards {
            let mut roster = shard.lock(self.space.platform);
            while let Some(chunk) = shard.remove_empty(&mut roster, None, &self.heaps.directory) {
                self.heap.empty_chunk_used();
                chunk.disown();
                self.heap.push_retired(chunk);
                found = true;
            }
        }
        self.sweep();
        found
    }

    /// Ends all blocks and gives all chunks back.
    pub(super) fn release_all(&self) {
        self.heaps.end_all(self.heap, self.space.platform);
        self.sweep();
        self.heap.retire();
    }
}
