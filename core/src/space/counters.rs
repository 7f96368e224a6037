//! Totals of what is mapped and allocated.

use core::sync::atomic::{AtomicI64, Ordering};

/// Totals that are kept as calls come in, so that asking costs nothing.
pub(crate) struct Counters {
    /// Live regions of `rt_alloc_exec_memory` and `rt_alloc_rw_memory`.
    live: AtomicI64,
    /// Their requested bytes.
    requested: AtomicI64,
    /// Bytes of pages mapped now, each view counted.
    mapped: AtomicI64,
    peak_mapped: AtomicI64,
    /// Mapped files.
    files: AtomicI64,
    failed_calls: AtomicI64,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            live: AtomicI64::new(0),
            requested: AtomicI64::new(0),
            mapped: AtomicI64::new(0),
            peak_mapped: AtomicI64::new(0),
            files: AtomicI64::new(0),
            failed_calls: AtomicI64::new(0),
        }
    }

    pub(crate) fn live(&self) -> i64 {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn requested_bytes(&self) -> i64 {
        self.requested.load(Ordering::Relaxed)
    }

    pub(crate) fn mapped_bytes(&self) -> i64 {
        self.mapped.load(Ordering::Relaxed)
    }

    pub(crate) fn peak_mapped_bytes(&self) -> i64 {
        self.peak_mapped.load(Ordering::Relaxed)
    }

    pub(crate) fn failed_calls(&self) -> i64 {
        self.failed_calls.load(Ordering::Relaxed)
    }

    pub(crate) fn call_failed(&self) {
        self.failed_calls.fetch_add(1, Ordering::Relaxed);
    }

    /// A mapped file is there now, or there no longer.
    pub(crate) fn count_file(&self, difference: i64) {
        self.files.fetch_add(difference, Ordering::Relaxed);
    }

    pub(crate) fn has_files(&self) -> bool {
        self.files.load(Ordering::Relaxed) != 0
    }

    /// In a forked child: what its records say. Threads that were about to count are not here.
    pub(crate) fn reset(&self, totals: Totals) {
        self.live.store(totals.live, Ordering::Relaxed);
        self.requested.store(totals.requested as i64, Ordering::Relaxed);
        self.mapped.store(totals.mapped as i64, Ordering::Relaxed);
        self.files.store(totals.files, Ordering::Relaxed);
    }

    pub(crate) fn allocated(&self, size: usize) {
        self.live.fetch_add(1, Ordering::Relaxed);
        self.requested.fetch_add(size as i64, Ordering::Relaxed);
    }

    pub(crate) fn freed(&self, size: usize) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.requested.fetch_sub(size as i64, Ordering::Relaxed);
    }

    pub(crate) fn mapped(&self, bytes: usize) {
        let now = self.mapped.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
        self.peak_mapped.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn unmapped(&self, bytes: usize) {
        self.mapped.fetch_sub(bytes as i64, Ordering::Relaxed);
    }
}

/// What the records of all regions add up to.
#[derive(Default)]
pub(crate) struct Totals {
    pub(crate) live: i64,
    pub(crate) requested: usize,
    pub(crate) mapped: usize,
    pub(crate) files: i64,
}
