//! Around a fork, no thread holds a heap's lock: a child gets whole records.

use super::Heaps;
use super::chunk::Chunk;
use super::heaps::Heap;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::registry::Region;
use crate::span::Span;
use core::sync::atomic::Ordering;

impl Heaps {
    /// Takes all locks, until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self, platform: impl Platform) {
        // First the one under which heaps are added. Nobody waits for it while holding a shard's.
        self.shared.lock_for_fork(platform);
        for shard in self.all().flat_map(|heap| &heap.shards) {
            shard.lock_for_fork(platform);
        }
    }

    /// # Safety
    /// This thread took the locks with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(crate) unsafe fn unlock_after_fork(&self, platform: impl Platform) {
        for shard in self.all().flat_map(|heap| &heap.shards) {
            // SAFETY: the caller says that the lock is its own.
            unsafe { shard.unlock_after_fork(platform) };
        }
        // SAFETY: the caller says that the lock is its own.
        unsafe { self.shared.unlock_after_fork(platform) };
    }

    /// In a child: chunks that threads had in hand which are not here, to add them to a heap or to unmap them,
    /// wait to be unmapped again, and each heap is charged for what it has. `is_mapped` says whether a chunk's
    /// region is live.
    ///
    /// # Safety
    /// As for [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) unsafe fn recover(&self, is_mapped: impl Fn(&Region) -> bool) {
        // SAFETY: the caller says that the lock is its own.
        let shared = unsafe { self.shared.held_for_fork() };
        for heap in self.all() {
            heap.forget_counts();
            heap.take_retired();
        }
        let chunks = (0..shared.records.used()).filter_map(|number| self.directory.get(number));
        for chunk in chunks.filter(|chunk| chunk.mapped() > 0) {
            let owner = self.all().find(|heap| heap.id == chunk.owner().heap);
            if let Some(heap) = owner.filter(|_| chunk.is_in_use()) {
                heap.count_again(chunk);
                continue;
            }
            let is_mapped = is_mapped(&chunk.region());
            chunk.disown();
            if is_mapped {
                self.default_heap().count_again(chunk);
                self.default_heap().push_retired(chunk);
            } else {
                shared.reservations.leave(chunk.reservation());
                shared.records.give(chunk);
            }
        }
    }

    fn chunk_of(&self, region: &Region) -> Option<&'static Chunk> {
        self.directory.get(region.chunk.checked_sub(1)?)
    }

    /// If a region is a chunk: the parts of its write view that were ever written to.
    pub(crate) fn used_parts(&self, region: &Region) -> Option<impl Iterator<Item = Span> + use<>> {
        Some(self.chunk_of(region)?.backed_parts())
    }

    /// Whether somebody may be storing to a chunk directly.
    pub(crate) fn has_lent_view(&self, region: &Region) -> bool {
        self.chunk_of(region).is_some_and(|chunk| chunk.length() > 0 && chunk.is_lent.load(Ordering::Relaxed))
    }

    /// Notes the fork since which a chunk's memory is this process's alone.
    pub(crate) fn set_epoch(&self, region: &Region, epoch: u32) {
        if let Some(chunk) = self.chunk_of(region) {
            chunk.epoch.store(epoch, Ordering::Relaxed);
        }
    }

    pub(crate) fn epoch_of(&self, region: &Region) -> Option<u32> {
        Some(self.chunk_of(region)?.epoch.load(Ordering::Relaxed))
    }

    /// In a child, which has none of the pages behind a write switch: heaps of such pages start anew, with no
    /// block and no chunk. Their regions are the registry's to revise. No other thread runs.
    pub(crate) fn forget_absent_chunks(&self, platform: impl Platform) {
        for heap in self.all().filter(|heap| heap.policy() == Some(Policy::Jit)) {
            self.end_all(heap, platform);
            self.forget_retired(heap, platform);
            heap.forget_counts();
        }
    }

    /// Frees the records of all chunks that wait to be unmapped.
    fn forget_retired(&self, heap: &Heap, platform: impl Platform) {
        let mut shared = self.shared.lock(platform);
        let record = |link: u32| self.directory.get(link.checked_sub(1)? as u16);
        let mut next: Option<&'static Chunk> = record(heap.take_retired());
        while let Some(chunk) = next {
            next = record(chunk.next.load(Ordering::Relaxed));
            shared.reservations.leave(chunk.reservation());
            shared.records.give(chunk);
        }
    }
}
