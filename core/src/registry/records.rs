//! All live regions: their records, and the page map that leads to them.

use super::page_map::{Change, Node, Page, PageMap};
use super::queue::{Use, Wakeups};
use super::region::Region;
use crate::error::Result;
use crate::lock::{Guard, Lock};
use crate::memory::{Index, Pool, Slots};
use crate::platform::{Platform, Views};
use crate::protection::Protection;
use crate::span::Span;
use core::ops::Range;

/// All live regions.
pub(crate) struct Registry {
    pub(super) pages: PageMap,
    pub(super) records: Lock<Records>,
    pub(super) wakeups: Wakeups,
}

pub(super) struct Records {
    pub(super) regions: Slots<Record>,
    pub(super) pool: Pool,
    /// Threads that wait for a claim.
    pub(super) waiters: usize,
    /// Around a fork: what was copied for the child.
    pub(super) notes: Slots<Note>,
}

/// A live region, and who uses it.
#[derive(Clone, Copy)]
pub(super) struct Record {
    pub(super) region: Region,
    pub(super) usage: Use,
}

// Measured against the bound that the project sets itself: at most 64 bytes for a region's record,
// the eight bytes of the table's slot included.
const _: () = assert!(size_of::<Record>() <= 56);

/// A region, told apart from others whose record was at the same place before or is there now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle {
    pub(super) index: Index,
    generation: u32,
}

/// That a region's memory was copied before a fork, for the child.
#[derive(Clone, Copy)]
pub(crate) struct Note {
    pub(super) region: Handle,
    /// `None`: there was no memory for a copy.
    pub(crate) views: Option<Views>,
    pub(crate) length: usize,
}

impl Records {
    pub(super) fn handle(&self, index: Index) -> Option<Handle> {
        Some(Handle { index, generation: self.regions.generation(index)? })
    }

    pub(super) fn is_live(&self, region: Handle) -> bool {
        self.handle(region.index) == Some(region)
    }
}

impl Registry {
    /// An empty registry.
    pub(crate) const fn new() -> Self {
        Self {
            pages: PageMap::new(),
            records: Lock::new(Records {
                regions: Slots::new(),
                pool: Pool::new(),
                waiters: 0,
                notes: Slots::new(),
            }),
            wakeups: Wakeups::new(),
        }
    }

    pub(super) fn lock<P: Platform>(&self, platform: P) -> Guard<'_, Records, P> {
        self.records.lock(platform)
    }

    /// What is known of the page at an address, if it is ours. Takes no lock.
    #[inline]
    pub(crate) fn page(&self, address: usize) -> Option<Page> {
        self.pages.get(address)
    }

    /// Runs of equal pages in a range, in address order. Takes no lock; each run was true when it was read.
    pub(crate) fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        self.pages.runs(range)
    }

    /// A copy of the record of a page's region.
    pub(crate) fn region_of(&self, page: Page, platform: impl Platform) -> Option<Region> {
        Some(self.lock(platform).regions.get(page.region)?.region)
    }

    /// Bytes of memory that the registry's own records take.
    pub(crate) fn record_bytes(&self, platform: impl Platform) -> usize {
        self.lock(platform).pool.mapped()
    }

    /// Adds a region whose pages have `protection`. Where it can't, nothing has changed.
    pub(crate) fn insert(&self, region: Region, protection: Protection, platform: impl Platform) -> Result {
        let page_size = platform.page_size();
        let Records { regions, pool, .. } = &mut *self.lock(platform);
        let mut views = region.all_views(page_size);
        let is_reserved = views.try_for_each(|view| self.reserve(view, pool, platform));
        let index = is_reserved
            .and_then(|()| regions.insert(Record { region, usage: Use::default() }, pool, platform))
            .inspect_err(|_| {
                region.all_views(page_size).for_each(|view| self.pages.unreserve(view.range()))
            })?;
        self.set_views(index, &region, page_size);
        let page = Page { protection, region: index, is_other_view: false, chunk: region.chunk };
        self.pages.change(region.pages(page_size).range(), Change::Set(page));
        Ok(())
    }

    /// Makes a later [`record`](Self::record) of live regions' pages unable to fail.
    pub(crate) fn prepare(&self, pages: Span, platform: impl Platform) -> Result {
        self.reserve(pages, &mut self.lock(platform).pool, platform)
    }

    /// Records what live regions' pages, which were prepared, allow now.
    pub(crate) fn record(&self, pages: Span, protection: Protection, platform: impl Platform) {
        self.change(pages, Change::Protect(protection), platform);
    }

    pub(super) fn change(&self, pages: Span, change: Change, platform: impl Platform) {
        let _writer = self.lock(platform);
        self.pages.change(pages.range(), change);
    }

    pub(super) fn reserve(&self, pages: Span, pool: &mut Pool, platform: impl Platform) -> Result {
        self.pages.reserve(pages.range(), &mut || Node::from_pool(pool, platform))
    }

    /// Sets the pages of the views beside the one at the base, which were reserved.
    pub(super) fn set_views(&self, index: Index, region: &Region, page_size: usize) {
        for (view, protection) in region.other_views(page_size) {
            let page = Page { protection, region: index, is_other_view: true, chunk: region.chunk };
            self.pages.change(view.range(), Change::Set(page));
        }
    }
}
