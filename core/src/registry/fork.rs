//! The regions around a fork: the thread that forks holds the lock, so that a child gets whole records.

use super::page_map::{Change, Page};
use super::queue::Use;
use super::records::{Copied, Record, Records, Registry};
use super::region::Region;
use crate::error::{Error, Result};
use crate::memory::Index;
use crate::platform::Platform;
use crate::protection::Protection;
use crate::span::Span;

impl<P: Platform> Registry<P> {
    /// All regions, for the thread that forks.
    ///
    /// # Safety
    /// This thread took the lock of the records for a fork, or is the copy of the one that did, and has nothing else
    /// of them in hand.
    pub(crate) unsafe fn frozen(&self) -> Frozen<'_, P> {
        // SAFETY: the caller says that this thread holds the lock, and has no other reference to the records.
        Frozen { registry: self, records: unsafe { self.records.held_for_fork() } }
    }

    /// Whether this thread holds the lock for a fork, and a handler of the program's own is calling. Waits while
    /// another thread does.
    pub(crate) fn is_held_for_fork(&self) -> bool {
        self.lock().is_for_fork()
    }

    /// In the thread that forks: where the child's copy of a region, if it has one, shows what is at an address.
    pub(crate) fn copy_for_child(&self, address: usize) -> Option<usize> {
        let records = self.lock();
        let index = self.pages.get(address)?.region;
        let offset = address - records.regions.get(index)?.region.base;
        let region = records.handle(index)?;
        let copied = records.copies.iter().find(|copied| copied.region == region)?;
        Some(copied.pages.start() + offset)
    }
}

/// All regions while no other thread can change a record.
pub(crate) struct Frozen<'a, P: Platform> {
    registry: &'a Registry<P>,
    records: &'a mut Records,
}

impl<P: Platform> Frozen<'_, P> {
    /// The first region from an index on.
    pub(crate) fn next_from(&self, index: Index) -> Option<(Index, Record)> {
        let index = self.records.regions.next_from(index)?;
        Some((index, *self.records.regions.get(index)?))
    }

    pub(crate) fn record(&self, index: Index) -> Option<Record> {
        self.records.regions.get(index).copied()
    }

    pub(crate) fn regions(&self) -> impl Iterator<Item = Region> {
        self.records.regions.iter().map(|record| record.region)
    }

    pub(crate) fn update(&mut self, index: Index, change: impl FnOnce(&mut Region)) {
        if let Some(record) = self.records.regions.get_mut(index) {
            change(&mut record.region);
        }
    }

    /// Whether the region was being unmapped: its pages may be gone, and others there, of another region too.
    pub(crate) fn is_being_unmapped(&self, index: Index, region: &Region) -> bool {
        self.registry.pages.get(region.base).is_none_or(|page| page.region != index)
    }

    /// Keeps a copy of a region's memory until [`take_copies`](Self::take_copies). Without memory to note it, it is
    /// unmapped.
    ///
    /// # Safety
    /// The pages were mapped for this, and nobody else knows of them.
    pub(crate) unsafe fn keep_copy(&mut self, region: Index, pages: Span) -> Result {
        let platform = self.registry.platform;
        let region = self.records.handle(region).ok_or(Error::NotOwned)?;
        let Records { copies, pool, .. } = &mut *self.records;
        let kept = copies.insert(Copied { region, pages }, pool, platform);
        // SAFETY: the caller's promise. If it fails they are lost.
        kept.map(drop).inspect_err(|_| _ = unsafe { platform.unmap(pages) })
    }

    /// Shows each copy with its region, if that is live still, and unmaps it.
    pub(crate) fn take_copies(&mut self, mut show: impl FnMut(&mut Self, Span, Index, Region)) {
        while let Some(first) = self.records.copies.next_from(0)
            && let Some(Copied { region, pages }) = self.records.copies.remove(first, self.registry.platform)
        {
            if self.records.is_live(region)
                && let Some(record) = self.record(region.index)
            {
                show(self, pages, region.index, record.region);
            }
            // SAFETY: by the promise of `keep_copy`, nobody else uses them. If it fails they are lost.
            let _ = unsafe { self.registry.platform.unmap(pages) };
        }
    }

    /// Records that no access is left to these pages.
    pub(crate) fn record_no_access(&mut self, pages: Span) {
        self.registry.pages.change(pages.range(), Change::Protect(Protection::NONE));
    }

    /// Records that these pages are not in this process, but that their place is kept: lookups there no longer
    /// lead to a heap's chunk.
    pub(crate) fn record_absent(&mut self, pages: Span) {
        for (run, page) in self.registry.runs(pages) {
            let absent = Page { protection: Protection::NONE, chunk: 0, ..page };
            self.registry.pages.change(run.range(), Change::Set(absent));
        }
    }

    /// Forgets a region whose addresses may be somebody else's by now.
    pub(crate) fn forget(&mut self, index: Index) {
        let removed = self.records.regions.remove(index, self.registry.platform);
        let Some(Record { region, .. }) = removed else { return };
        for view in region.all_views(self.registry.page_size()) {
            self.registry.pages.change(view.range(), Change::Remove(index));
        }
    }

    /// In a child: the threads that used or awaited regions are not here.
    pub(crate) fn void_claims(&mut self) {
        self.records.waiters = 0;
        let regions = &mut self.records.regions;
        let mut next = regions.next_from(0);
        while let Some(index) = next {
            if let Some(record) = regions.get_mut(index) {
                record.usage = Use::default();
            }
            next = regions.next_from(index + 1);
        }
    }
}
