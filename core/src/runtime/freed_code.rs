//! Code that was freed, and that other cores may still have fetched: its addresses may be given out again.

use crate::error::Error;
use crate::platform::Platform;
use core::sync::atomic::{AtomicU64, Ordering};

/// How often code was freed, and how many of these times all cores have dropped what they had fetched since.
pub(crate) struct FreedCode {
    freed: AtomicU64,
    dropped: AtomicU64,
}

impl FreedCode {
    pub(crate) const fn new() -> Self {
        Self { freed: AtomicU64::new(0), dropped: AtomicU64::new(0) }
    }

    /// Unmaps pages; `was_fetched`: other cores may have executed them. It is noted before, so that whoever
    /// gets the addresses next sees it, and after, since a core can fetch from them until then.
    pub(crate) fn unmap<R>(
        &self,
        was_fetched: bool,
        unmap: impl FnOnce() -> Result<R, Error>,
    ) -> Result<R, Error> {
        let note = || self.freed.fetch_add(u64::from(was_fetched), Ordering::AcqRel);
        note();
        let unmapped = unmap()?;
        note();
        Ok(unmapped)
    }

    /// Makes all cores drop what they have fetched, if code was freed since they did or `must` says so.
    pub(crate) fn drop_fetched(&self, must: bool, platform: impl Platform) -> Result<(), Error> {
        let freed = self.freed.load(Ordering::Acquire);
        if must || freed > self.dropped.load(Ordering::Acquire) {
            platform.synchronize_cores()?;
            self.dropped.fetch_max(freed, Ordering::AcqRel);
        }
        Ok(())
    }
}
