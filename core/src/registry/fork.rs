//! The regions around a fork: the thread that forks holds the lock, so that a child gets whole records.

use super::claim::Use;
use super::page_map::Page;
use super::{Record, Records, Region, Registry};
use crate::memory::Index;
use crate::platform::{Platform, Views};
use crate::protection::Protection;
use crate::span::Span;
use core::ops::Range;

/// A copy of a region's memory that was mapped before a fork, for the child.
#[derive(Clone, Copy)]
pub(crate) struct Copied {
    pub(crate) region: Index,
    pub(crate) views: Views,
    pub(crate) length: usize,
}

impl Registry {
    /// Takes the lock until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self, platform: impl Platform) {
        self.records.lock_for_fork(platform);
    }

    /// All regions, for the thread that forks.
    ///
    /// # Safety
    /// This thread took the lock with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did, and
    /// has nothing else of the records in hand.
    pub(crate) unsafe fn frozen(&self) -> Frozen<'_> {
        // SAFETY: the caller's promise.
        Frozen { registry: self, records: unsafe { self.records.held_for_fork() } }
    }

    /// # Safety
    /// As for [`frozen`](Self::frozen).
    pub(crate) unsafe fn unlock_after_fork(&self, platform: impl Platform) {
        // SAFETY: the caller says that the lock is its own.
        unsafe { self.records.unlock_after_fork(platform) };
    }
}

/// All regions while no other thread can change a record.
pub(crate) struct Frozen<'a> {
    registry: &'a Registry,
    records: &'a mut Records,
}

impl Frozen<'_> {
    pub(crate) fn indexes(&self) -> Range<Index> {
        self.records.regions.indexes()
    }

    pub(crate) fn region(&self, index: Index) -> Option<Region> {
        Some(self.records.regions.get(index)?.region)
    }

    /// Whether an operation on the region was under way.
    pub(crate) fn is_in_use(&self, index: Index) -> bool {
        self.records.regions.get(index).is_some_and(|record| record.usage.is_in_use())
    }

    /// Whether a change of the region was under way.
    pub(crate) fn is_in_exclusive_use(&self, index: Index) -> bool {
        self.records.regions.get(index).is_some_and(|record| record.usage.is_exclusive())
    }

    /// Whether the region was being unmapped: its pages may be gone, and others there.
    pub(crate) fn is_being_unmapped(&self, region: &Region) -> bool {
        self.registry.pages.get(region.base).is_none()
    }

    pub(crate) fn set_epoch(&mut self, index: Index, epoch: u32) {
        if let Some(record) = self.records.regions.get_mut(index) {
            record.region.epoch = epoch;
        }
    }

    /// Notes a copy. Without memory for the note there is none.
    pub(crate) fn note_copy(&mut self, copy: Copied, platform: impl Platform) -> bool {
        self.records.copies.insert(copy, &mut self.records.pool, platform).is_ok()
    }

    /// Takes the copy for a region from the notes.
    pub(crate) fn take_copy_for(&mut self, region: Index) -> Option<Copied> {
        self.take_copy_if(|copy| copy.region == region)
    }

    /// Takes any copy from the notes.
    pub(crate) fn take_copy(&mut self) -> Option<Copied> {
        self.take_copy_if(|_| true)
    }

    fn take_copy_if(&mut self, is_it: impl Fn(&Copied) -> bool) -> Option<Copied> {
        let copies = &mut self.records.copies;
        let index = copies.indexes().find(|index| copies.get(*index).is_some_and(&is_it))?;
        copies.remove(index)
    }

    /// Records that no access is left to these pages. With their contents gone, lookups there no longer lead to
    /// a heap's chunk.
    pub(crate) fn record_lost(&mut self, pages: Span, has_contents: bool) {
        for (run, page) in self.registry.pages.runs(pages.range()) {
            let chunk = if has_contents { page.chunk } else { 0 };
            self.registry.pages.fill(run, Page { protection: Protection::NONE, chunk, ..page });
        }
    }

    /// Forgets a region whose addresses may be somebody else's by now.
    pub(crate) fn forget(&mut self, index: Index, page_size: usize) {
        let Some(Record { region, .. }) = self.records.regions.remove(index) else { return };
        let pages = &self.registry.pages;
        for view in region.all_views(page_size) {
            for (run, _) in pages.runs(view.range()).filter(|(_, page)| page.region == index) {
                pages.hide(run);
            }
            pages.remove_hidden(view.range(), index);
        }
    }

    /// In a child: the threads that used or awaited regions are not here.
    pub(crate) fn void_claims(&mut self) {
        self.records.waiters = 0;
        for index in self.records.regions.indexes() {
            if let Some(record) = self.records.regions.get_mut(index) {
                record.usage = Use::default();
            }
        }
    }
}
