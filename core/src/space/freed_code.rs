//! Code that was freed, and that other cores may still have fetched: its addresses may be given out again.

use crate::error::Result;
use crate::platform::Platform;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Cross-core steps, by number: each makes all cores drop what they had fetched before it started.
pub(crate) struct FreedCode {
    started: AtomicU64,
    finished: AtomicU64,
    /// The step that has to have finished before anything is published.
    wanted: AtomicU64,
    /// Unmaps of fetched code that may not be over. Whoever publishes meanwhile may have got the addresses already.
    unmapping: AtomicU32,
}

impl FreedCode {
    pub(crate) const fn new() -> Self {
        Self {
            started: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            unmapping: AtomicU32::new(0),
        }
    }

    /// The first step that is sure to start after now.
    pub(crate) fn next_step(&self) -> u64 {
        self.started.load(Ordering::Acquire) + 1
    }

    /// The last step that has finished.
    pub(crate) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Acquire)
    }

    /// Unmaps pages; `was_fetched`: other cores may have executed them, and can fetch from them until they are
    /// gone.
    pub(crate) fn unmap<R>(&self, was_fetched: bool, unmap: impl FnOnce() -> Result<R>) -> Result<R> {
        if !was_fetched {
            return unmap();
        }
        self.unmapping.fetch_add(1, Ordering::SeqCst);
        let unmapped = unmap();
        self.want_step();
        self.unmapping.fetch_sub(1, Ordering::SeqCst);
        unmapped
    }

    fn want_step(&self) {
        self.wanted.fetch_max(self.next_step(), Ordering::AcqRel);
    }

    /// In a forked child: no thread is unmapping anything.
    pub(crate) fn forget_threads(&self) {
        if self.unmapping.swap(0, Ordering::SeqCst) > 0 {
            self.want_step();
        }
    }

    /// Makes all cores drop what they have fetched, if one of the pages that were unmapped wants it or the code at
    /// hand `was_fetched` before. A program of one thread has no other cores: where it ran before, it left by a
    /// context switch.
    pub(crate) fn drop_fetched(&self, was_fetched: bool, platform: impl Platform) -> Result {
        let must = was_fetched && platform.may_run_on_other_cores();
        let is_unmapping = self.unmapping.load(Ordering::SeqCst) > 0;
        if must || is_unmapping || self.finished() < self.wanted.load(Ordering::Acquire) {
            let step = self.started.fetch_add(1, Ordering::AcqRel) + 1;
            platform.synchronize_cores()?;
            self.finished.fetch_max(step, Ordering::AcqRel);
        }
        Ok(())
    }
}
