//! The regions around a fork: the thread that forks holds the lock, so that a child gets whole records.

use super::page_map::{Change, Page};
use super::queue::Use;
use super::records::{Note, Record, Records, Registry};
use super::region::Region;
use crate::memory::Index;
use crate::platform::{Platform, Views};
use crate::protection::Protection;
use crate::span::Span;
use core::ops::Range;

impl Registry {
    pub(crate) fn is_own_lock(&self, platform: impl Platform) -> bool {
        self.records.is_own(platform)
    }

    /// Takes the lock until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self, platform: impl Platform) {
        self.records.lock_for_fork(platform);
    }

    /// All regions, for the thread that forks.
    ///
    /// # Safety
    /// This thread took the lock with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did,
    /// and has nothing else of the records in hand.
    pub(crate) unsafe fn frozen(&self) -> Frozen<'_> {
        // SAFETY: the caller says that this thread holds the lock, and has no other reference to the records.
        Frozen { registry: self, records: unsafe { self.records.held_for_fork() } }
    }

    /// Whether this thread holds the lock for a fork, and a handler of the program's own is calling. Waits while
    /// another thread does.
    pub(crate) fn is_held_for_fork(&self, platform: impl Platform) -> bool {
        self.lock(platform).is_for_fork()
    }

    /// The copy for a child of the region that holds an address, in the thread that forks, and the address's
    /// offset in both.
    pub(crate) fn copy_for_child(&self, address: usize, platform: impl Platform) -> Option<(Views, usize)> {
        let records = self.lock(platform);
        let page = self.pages.get(address)?;
        let offset = address - records.regions.get(page.region)?.region.base;
        let region = records.handle(page.region)?;
        let copy = records.notes.iter().filter(|note| note.region == region).find_map(|note| note.views)?;
        Some((copy, offset))
    }

    /// # Safety
    /// As for [`frozen`](Self::frozen).
    pub(crate) unsafe fn unlock_after_fork(&self, platform: impl Platform) {
        // SAFETY: the caller says that this thread holds the lock.
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

    /// Whether the region was being unmapped: its pages may be gone, and others there, of another region too.
    pub(crate) fn is_being_unmapped(&self, index: Index, region: &Region) -> bool {
        self.registry.pages.get(region.base).is_none_or(|page| page.region != index)
    }

    pub(crate) fn mark_in_common(&mut self, index: Index) {
        if let Some(record) = self.records.regions.get_mut(index) {
            record.region.is_in_common = true;
        }
    }

    /// Notes what became of copying a region. Whether there was memory for the note.
    pub(crate) fn note(
        &mut self,
        region: Index,
        views: Option<Views>,
        length: usize,
        platform: impl Platform,
    ) -> bool {
        let Some(region) = self.records.handle(region) else { return false };
        let Records { notes, pool, .. } = &mut *self.records;
        notes.insert(Note { region, views, length }, pool, platform).is_ok()
    }

    /// Whether anything was noted of a region.
    pub(crate) fn has_note(&self, region: Index) -> bool {
        self.records.notes.iter().any(|note| note.region.index == region)
    }

    /// Takes all notes, each with its region if that is live still.
    pub(crate) fn take_notes(&mut self, mut each: impl FnMut(&mut Self, Note, Option<Index>)) {
        for number in self.records.notes.indexes() {
            if let Some(note) = self.records.notes.remove(number) {
                let region = self.records.is_live(note.region).then_some(note.region.index);
                each(self, note, region);
            }
        }
    }

    /// Records that no access is left to these pages.
    pub(crate) fn record_no_access(&mut self, pages: Span) {
        self.registry.pages.change(pages.range(), Change::Protect(Protection::NONE));
    }

    /// Records that these pages are not in this process, but that their place is kept: lookups there no longer
    /// lead to a heap's chunk.
    pub(crate) fn record_absent(&mut self, pages: Span) {
        for (run, page) in self.registry.runs(pages.range()) {
            let absent = Page { protection: Protection::NONE, chunk: 0, ..page };
            self.registry.pages.change(run, Change::Set(absent));
        }
    }

    /// Forgets a region whose addresses may be somebody else's by now.
    pub(crate) fn forget(&mut self, index: Index, page_size: usize) {
        let Some(Record { region, .. }) = self.records.regions.remove(index) else { return };
        for view in region.all_views(page_size) {
            self.registry.pages.change(view.range(), Change::Remove(index));
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
