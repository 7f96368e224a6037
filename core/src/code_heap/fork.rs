//! Around a fork, no thread is inside a heap: a child gets whole records, and memory that nobody writes.

use super::Heaps;
use super::chunk::Chunk;
use super::heaps::Heap;
use crate::policy::Policy;
use crate::registry::Region;
use crate::span::Span;
use core::sync::atomic::Ordering;

impl Heaps {
    /// Takes all locks, until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self) {
        // First the one under which heaps are added. Nobody waits for it while holding a shard's.
        core::mem::forget(self.shared.lock());
        for shard in self.all().flat_map(|heap| &heap.shards) {
            core::mem::forget(shard.lock());
        }
    }

    /// # Safety
    /// This thread took the locks with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(crate) unsafe fn unlock_after_fork(&self) {
        for shard in self.all().flat_map(|heap| &heap.shards) {
            // SAFETY: the caller says that the lock is its own.
            unsafe { shard.force_unlock() };
        }
        // SAFETY: as above.
        unsafe { self.shared.force_unlock() };
    }

    /// If a region is a chunk: the parts of its write view that were ever written to.
    pub(crate) fn used_parts(&self, region: &Region) -> Option<impl Iterator<Item = Span> + use<>> {
        Some(self.directory.get(region.chunk.checked_sub(1)?)?.backed_parts())
    }

    /// In a child, which has none of the pages behind a write switch: heaps of such pages start anew, with no
    /// block and no chunk. Their regions are the registry's to revise. No other thread runs.
    pub(crate) fn forget_lost_chunks(&self) {
        for heap in self.all().filter(|heap| heap.policy() == Some(Policy::Jit)) {
            self.end_all(heap);
            self.forget_retired(heap);
            heap.forget_counts();
        }
    }

    /// Frees the records of all chunks that wait to be unmapped.
    fn forget_retired(&self, heap: &Heap) {
        let mut shared = self.shared.lock();
        let record = |link: u32| self.directory.get(link.checked_sub(1)? as u16);
        let mut next: Option<&'static Chunk> = record(heap.take_retired());
        while let Some(chunk) = next {
            next = record(chunk.next.load(Ordering::Relaxed));
            shared.reservations.leave(chunk.reservation());
            shared.records.give(chunk);
        }
    }
}
