//! Totals of what is mapped and allocated.

use crate::registry::{Kind, Region};
use crate::span::Span;
use crate::sync::{AtomicI64, Ordering};

/// A total that is kept as calls come in, so that asking costs nothing.
pub(crate) struct Counter(AtomicI64);

impl Counter {
    const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds a difference. The total before.
    pub(crate) fn add(&self, difference: i64) -> i64 {
        self.0.fetch_add(difference, Ordering::Relaxed)
    }
}

pub(crate) struct Counters {
    /// Live regions of `rt_alloc_exec_memory` and `rt_alloc_rw_memory`.
    pub(crate) live: Counter,
    /// Their requested bytes.
    pub(crate) requested: Counter,
    /// Bytes of pages mapped now, each view counted.
    pub(crate) mapped: Counter,
    pub(crate) peak_mapped: Counter,
    /// Mapped files.
    pub(crate) files: Counter,
    pub(crate) failed_calls: Counter,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            live: Counter::new(),
            requested: Counter::new(),
            mapped: Counter::new(),
            peak_mapped: Counter::new(),
            files: Counter::new(),
            failed_calls: Counter::new(),
        }
    }

    /// Counts a new region, with the pages of its views.
    pub(crate) fn entered(&self, region: &Region, page_size: usize) {
        self.mapped(region.all_views(page_size).map(Span::length).sum());
        self.count(region, 1);
    }

    /// Counts a region that is gone, so many bytes of whose pages were unmapped.
    pub(crate) fn released(&self, region: &Region, unmapped: usize) {
        self.unmapped(unmapped);
        self.count(region, -1);
    }

    fn count(&self, region: &Region, difference: i64) {
        if region.kind.is_exec_memory() {
            self.live.add(difference);
            self.requested.add(difference * region.size as i64);
        }
        if region.kind == Kind::File {
            self.files.add(difference);
        }
    }

    pub(crate) fn mapped(&self, bytes: usize) {
        let now = self.mapped.add(bytes as i64) + bytes as i64;
        self.peak_mapped.0.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn unmapped(&self, bytes: usize) {
        self.mapped.add(-(bytes as i64));
    }

    /// In a forked child: what its records say counts. Threads that were about to count are not here.
    pub(crate) fn count_anew(&self, regions: impl Iterator<Item = Region>, page_size: usize) {
        for counter in [&self.live, &self.requested, &self.mapped, &self.files] {
            counter.0.store(0, Ordering::Relaxed);
        }
        regions.for_each(|region| self.entered(&region, page_size));
    }
}
