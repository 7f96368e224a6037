//! Around a fork, no thread is inside a heap: a child gets whole records, and memory that nobody writes.

use super::Heaps;

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
}
