//! All live regions: their records, and the page map that leads to them.

use super::page_map::{Change, Node, Page, PageMap};
use super::queue::{Use, Wakeups};
use super::region::Region;
use crate::error::Result;
use crate::lock::{Guard, Lock};
use crate::memory::{Index, Pool, UNIT};
use crate::platform::{PageRequest, Platform};
use crate::protection::{Advice, Hardening, Protection};
use crate::slots::Slots;
use crate::span::Span;

/// All live regions.
pub(crate) struct Registry<P: Platform> {
    pub(super) platform: P,
    pub(super) pages: PageMap,
    pub(crate) records: Lock<Records>,
    pub(super) wakeups: Wakeups,
}

pub(crate) struct Records {
    pub(super) regions: Slots<Record>,
    pub(super) pool: Pool,
    /// Threads that wait for a claim.
    pub(super) waiters: usize,
    /// Around a fork: what was copied for the child.
    pub(super) copies: Slots<Copied>,
}

/// A live region, and who uses it.
#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) region: Region,
    pub(crate) usage: Use,
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

/// The pages that hold a copy of a region's memory, made before a fork for the child.
#[derive(Clone, Copy)]
pub(super) struct Copied {
    pub(super) region: Handle,
    pub(super) pages: Span,
}

impl Records {
    pub(super) fn handle(&self, index: Index) -> Option<Handle> {
        Some(Handle { index, generation: self.regions.generation(index)? })
    }

    pub(super) fn is_live(&self, region: Handle) -> bool {
        self.handle(region.index) == Some(region)
    }
}

impl<P: Platform> Registry<P> {
    /// An empty registry.
    pub(crate) const fn new(platform: P) -> Self {
        Self {
            platform,
            pages: PageMap::new(),
            records: Lock::new(Records {
                regions: Slots::new(),
                pool: Pool::new(),
                waiters: 0,
                copies: Slots::new(),
            }),
            wakeups: Wakeups::new(),
        }
    }

    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn lock(&self) -> Guard<'_, Records, P> {
        self.records.lock(self.platform)
    }

    pub(super) fn page_size(&self) -> usize {
        self.platform.page_size()
    }

    /// What is known of the page at an address, if it is ours. Takes no lock.
    #[inline]
    pub(crate) fn page(&self, address: usize) -> Option<Page> {
        self.pages.get(address)
    }

    /// Runs of equal pages in a range, in address order. Takes no lock; each run was true when it was read.
    pub(crate) fn runs(&self, range: Span) -> impl Iterator<Item = (Span, Page)> + '_ {
        let mut at = range.start();
        core::iter::from_fn(move || {
            // Most ranges are one run: none is looked for behind it.
            let run = if at < range.end() { self.pages.next_run(at, range.end()) } else { None }?;
            at = run.0.end();
            Some(run)
        })
    }

    /// A copy of the record of a page's region.
    #[cfg_attr(target_os = "none", inline(always))]
    pub(crate) fn region_of(&self, page: Page) -> Option<Region> {
        Some(self.lock().regions.get(page.region)?.region)
    }

    /// Bytes of memory that the registry's own records take.
    pub(crate) fn record_bytes(&self) -> usize {
        let records = self.lock();
        let slots = records.regions.held() + records.copies.held();
        records.pool.mapped() - self.pages.dropped() * UNIT + slots
    }

    /// Adds a region whose pages have `protection`. Where it can't, nothing has changed.
    pub(crate) fn insert(&self, region: Region, protection: Protection) -> Result {
        let page_size = self.page_size();
        let mut records = self.lock();
        let Records { regions, pool, .. } = &mut *records;
        let is_prepared = region.all_views(page_size).try_for_each(|view| self.prepare_from(view, pool));
        let index = is_prepared
            .and_then(|()| regions.insert(Record { region, usage: Use::default() }, pool, self.platform))
            .inspect_err(|_| region.all_views(page_size).for_each(|view| self.pages.prune(view.range())))?;
        self.set_views(index, &region);
        let page = Page { protection, region: index, is_other_view: false, chunk: region.chunk };
        self.pages.change(region.pages(page_size).range(), Change::Set(page));
        Ok(())
    }

    /// What is unmapped with a view of a region: its pages, and those without access around them.
    pub(crate) fn whole(&self, region: &Region, view: Span) -> Span {
        let is_guarded = P::HARDENING.contains(Hardening::GUARDS) && region.is_guarded;
        view.widened(if is_guarded { self.page_size() } else { 0 })
    }

    /// Makes a later [`record`](Self::record) of live regions' pages unable to fail.
    pub(crate) fn prepare(&self, pages: Span) -> Result {
        self.prepare_from(pages, &mut self.lock().pool)
    }

    /// Records what live regions' pages, which were prepared, allow now.
    pub(crate) fn record(&self, pages: Span, protection: Protection) {
        self.change(pages, Change::Protect(protection));
    }

    pub(super) fn change(&self, pages: Span, change: Change) {
        let _writer = self.lock();
        self.pages.change(pages.range(), change);
        if self.drops_nodes() {
            self.pages.drop_spare(&mut |node| {
                // SAFETY: the pool's pages come from the platform. A spare node's are all zeros, and stay so.
                unsafe { self.platform.request(node, PageRequest::Advise(Advice::DontNeed)) }
            });
        }
    }

    pub(super) fn prepare_from(&self, pages: Span, pool: &mut Pool) -> Result {
        self.pages.prepare(pages.range(), &mut || {
            let mut fresh = || Node::from_pool(pool, self.platform);
            if self.drops_nodes() { self.pages.dropped_or(fresh) } else { fresh() }
        })
    }

    /// Whether the system takes a node's memory back. Where a page is more than a node, others lie in it.
    fn drops_nodes(&self) -> bool {
        P::DROPS_PAGES && self.page_size() == UNIT
    }

    /// Sets the pages of the views beside the one at the base, which were prepared.
    pub(super) fn set_views(&self, index: Index, region: &Region) {
        for (view, protection) in region.other_views(self.page_size()) {
            let page = Page { protection, region: index, is_other_view: true, chunk: region.chunk };
            self.pages.change(view.range(), Change::Set(page));
        }
    }
}
