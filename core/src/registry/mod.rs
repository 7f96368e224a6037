//! The allocation registry: which addresses are ours, what they allow, and who is using them now.
//!
//! Lookups of a page are lock-free. Everything else takes one short spin lock, and no system call is
//! made under it, except to get memory for the registry's own records. An operation on a region
//! *claims* it, so that a copy can't race with an unmap: shared for copies and hints, exclusive for
//! changes of protection and release.

mod page_map;
mod region;

pub use page_map::Page;
pub use region::{Kind, Region};

use crate::error::Error;
use crate::memory::{Index, Pool, Slots, UNIT};
use crate::platform::Platform;
use crate::protection::Protection;
use crate::span::Span;
use core::ops::Range;
use page_map::{ADDRESS_END, PageMap};
use region::EXCLUSIVE;

/// Which live region an operation is for. Any other one is *not owned*.
#[derive(Clone, Copy)]
pub enum Wanted {
    /// The one whose pages hold these bytes: for protection, lock, advice and sync a region ends with its last
    /// page (rule 4 of the contract).
    Pages(Span),
    /// The one that holds the address, if the bytes lie inside its requested size: for reads and writes.
    Bytes(usize, Span),
    /// Code or data memory that starts there and has that size, or that rounded up to pages.
    ExecMemory(Span),
    /// The mapping of exactly these bytes.
    Mapping(Span),
    /// A code heap's chunk that starts there: they are nobody's but the heap's.
    HeapChunk(usize),
}

impl Wanted {
    fn address(self) -> usize {
        match self {
            Self::Pages(span) | Self::ExecMemory(span) | Self::Mapping(span) => span.start(),
            Self::Bytes(address, _) | Self::HeapChunk(address) => address,
        }
    }

    fn check(self, region: &Region, page_size: usize) -> Result<(), Error> {
        let pages = region.pages(page_size);
        let requested = region.requested();
        let (is_it, has_size) = match self {
            Self::Pages(span) => (region.kind != Kind::HeapChunk && pages.contains(span), true),
            Self::Bytes(address, span) => {
                let holds = requested.contains(span) && requested.range().contains(&address);
                (region.kind != Kind::HeapChunk && holds, true)
            }
            Self::ExecMemory(span) => {
                let has_size = span.length() == region.size || span.length() == pages.length();
                (region.kind.is_exec_memory() && region.base == span.start(), has_size)
            }
            Self::Mapping(span) => {
                (region.kind.is_mapping() && region.base == span.start(), span.length() == region.size)
            }
            Self::HeapChunk(base) => (region.kind == Kind::HeapChunk && region.base == base, true),
        };
        match (is_it, has_size) {
            (true, true) => Ok(()),
            (true, false) => Err(Error::WrongSize),
            (false, _) => Err(Error::NotOwned),
        }
    }
}

/// Whether others may use the region at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Yes, if they share it too.
    Shared,
    /// No.
    Exclusive,
}

/// All live regions.
pub struct Registry {
    pages: PageMap,
    records: spin::Mutex<Records>,
}

struct Records {
    regions: Slots<Region>,
    pool: Pool,
    /// Claims that are held now, of all regions together.
    claims: usize,
}

impl Registry {
    /// An empty registry.
    #[expect(clippy::new_without_default, reason = "it exists in a static")]
    pub const fn new() -> Self {
        Self {
            pages: PageMap::new(),
            records: spin::Mutex::new(Records { regions: Slots::new(), pool: Pool::new(), claims: 0 }),
        }
    }

    fn records(&self) -> spin::MutexGuard<'_, Records> {
        match self.records.try_lock() {
            Some(records) => records,
            None => self.wait_for_records(),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_for_records(&self) -> spin::MutexGuard<'_, Records> {
        self.records.lock()
    }

    /// What is known of the page at an address, if it is ours. Takes no lock.
    #[inline]
    pub fn page(&self, address: usize) -> Option<Page> {
        self.pages.get(address)
    }

    /// Runs of equal pages in a range, in address order. Takes no lock; each run was true when it was read.
    pub fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        self.pages.runs(range)
    }

    /// Runs of equal pages of all regions and views, in address order. Takes no lock.
    pub fn all_runs(&self) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        self.pages.runs(0..ADDRESS_END)
    }

    /// A copy of the record of a page's region.
    pub fn region_of(&self, page: Page) -> Option<Region> {
        self.records().regions.get(page.region).copied()
    }

    /// Bytes of memory that the registry's own records take.
    pub fn record_bytes(&self) -> usize {
        self.records().pool.mapped()
    }

    /// Adds a region whose pages have `protection`. Where it can't, nothing has changed.
    pub fn insert(
        &self,
        region: Region,
        protection: Protection,
        platform: impl Platform,
    ) -> Result<(), Error> {
        let page_size = platform.page_size();
        let mut records = self.records();
        let Records { regions, pool, .. } = &mut *records;
        let mut reserve = |view: Span| self.pages.reserve(view.range(), || pool.take(platform, UNIT));
        let is_reserved = region.all_views(page_size).try_for_each(&mut reserve);
        let index = is_reserved.and_then(|()| regions.insert(region, pool, platform));
        let index = index.inspect_err(|_| {
            for view in region.all_views(page_size) {
                self.pages.unreserve(view.range());
            }
        })?;
        self.fill_views(index, &region, page_size);
        let page = Page { protection, region: index, is_other_view: false, chunk: region.chunk };
        self.pages.fill(region.pages(page_size).range(), page);
        Ok(())
    }

    /// Claims a live region. Waits while others use it.
    pub fn claim<P: Platform>(
        &self,
        wanted: Wanted,
        access: Access,
        platform: P,
    ) -> Result<Claim<'_, P>, Error> {
        loop {
            let mut records = self.records();
            let page = self.pages.get(wanted.address()).filter(|page| !page.is_other_view);
            let page = page.ok_or(Error::NotOwned)?;
            let region = records.regions.get_mut(page.region).ok_or(Error::NotOwned)?;
            wanted.check(region, platform.page_size())?;
            let free = match access {
                Access::Shared => region.users < EXCLUSIVE - 1,
                Access::Exclusive => region.users == 0,
            };
            if free {
                match access {
                    Access::Shared => region.users += 1,
                    Access::Exclusive => region.users = EXCLUSIVE,
                }
                let claim = Claim { registry: self, platform, index: page.region, region: *region };
                records.claims += 1;
                return Ok(claim);
            }
            drop(records);
            core::hint::spin_loop();
        }
    }

    /// Makes a later [`record`](Self::record) of live regions' pages unable to fail.
    pub(crate) fn prepare(&self, pages: Span, platform: impl Platform) -> Result<(), Error> {
        let mut records = self.records();
        self.pages.reserve(pages.range(), || records.pool.take(platform, UNIT))
    }

    /// Records what live regions' pages, which were prepared, allow now.
    pub(crate) fn record(&self, pages: Span, protection: Protection) {
        let _writer = self.records();
        for (run, page) in self.pages.runs(pages.range()) {
            self.pages.fill(run, Page { protection, ..page });
        }
    }

    fn fill_views(&self, index: Index, region: &Region, page_size: usize) {
        for (view, protection) in region.other_views(page_size) {
            let page = Page { protection, region: index, is_other_view: true, chunk: region.chunk };
            self.pages.fill(view.range(), page);
        }
    }

    /// Takes the lock while no claim is held, until [`unlock_after_fork`](Self::unlock_after_fork). Whether
    /// any region has several views.
    pub(crate) fn lock_for_fork(&self) -> bool {
        loop {
            let records = self.records();
            if records.claims == 0 {
                let has_views = records.regions.iter().any(Region::has_several_views);
                core::mem::forget(records);
                return has_views;
            }
            drop(records);
            core::hint::spin_loop();
        }
    }

    /// # Safety
    /// This thread took the lock with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(crate) unsafe fn unlock_after_fork(&self) {
        // SAFETY: the caller says that the lock is its own.
        unsafe { self.records.force_unlock() };
    }

    /// Takes all access from regions whose pages are lost, unless an earlier fork took it. Where their addresses
    /// can't be `reserved` they may be somebody else's by now: such a region is forgotten, and shown to
    /// `forgotten`. Lookups of their pages no longer lead to a heap's chunk. Whether there were any.
    pub(crate) fn revise_lost(
        &self,
        page_size: usize,
        is_lost: impl Fn(&Region) -> bool,
        reserved: impl Fn(Span) -> bool,
        forgotten: impl Fn(&Region),
    ) -> bool {
        let mut records = self.records();
        let mut has_lost = false;
        for index in records.regions.indexes() {
            let has_access = |region: &Region| {
                self.pages.get(region.base).is_some_and(|page| page.protection != Protection::NONE)
            };
            let region = records.regions.get(index).copied().filter(has_access).filter(&is_lost);
            let Some(region) = region else { continue };
            has_lost = true;
            let pages = region.pages(page_size);
            if reserved(pages) {
                let page =
                    Page { protection: Protection::NONE, region: index, is_other_view: false, chunk: 0 };
                self.pages.fill(pages.range(), page);
            } else {
                self.pages.hide(pages.range());
                self.pages.remove_hidden(pages.range(), index);
                records.regions.remove(index);
                forgotten(&region);
            }
        }
        has_lost
    }

    /// Shows every region with several views to `revise`. Where that fails the records say that no view has
    /// any access left.
    pub(crate) fn revise_views(
        &self,
        page_size: usize,
        mut revise: impl FnMut(&Region) -> Result<(), Error>,
    ) {
        let records = self.records();
        for region in records.regions.iter().filter(|region| region.has_several_views()) {
            if revise(region).is_err() {
                for view in region.all_views(page_size) {
                    for (run, page) in self.pages.runs(view.range()) {
                        self.pages.fill(run, Page { protection: Protection::NONE, ..page });
                    }
                }
            }
        }
    }
}

/// The right to use a region for a while; dropping it gives the region back.
pub struct Claim<'a, P: Platform> {
    registry: &'a Registry,
    platform: P,
    index: Index,
    region: Region,
}

impl<P: Platform> Claim<'_, P> {
    /// The region as it is: nobody else changes it meanwhile.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Runs of equal pages inside the region.
    pub fn runs(&self, span: Span) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        self.registry.runs(span.range())
    }

    /// Whether every page of `span` has a protection that `accepts` likes.
    pub fn all_pages(&self, span: Span, accepts: impl Fn(Protection) -> bool) -> bool {
        let pages = span.pages(self.platform.page_size());
        self.runs(pages).all(|(_, page)| accepts(page.protection))
    }

    /// Makes a later [`record_protection`](Self::record_protection) of these pages unable to fail.
    pub fn prepare(&self, pages: Span) -> Result<(), Error> {
        self.registry.prepare(pages, self.platform)
    }

    /// Records what the pages allow now. The pages were prepared.
    pub fn record_protection(&self, pages: Span, protection: Protection) {
        self.registry.record(pages, protection);
    }

    /// Records that an instruction cache may hold something of the region from now on.
    pub fn record_published(&mut self) {
        self.update(|region| region.was_published = true);
    }

    /// Records a further read-execute view of the whole region.
    pub fn record_executable_view(&mut self, view: Span) -> Result<(), Error> {
        let mut records = self.registry.records();
        let Records { regions, pool, .. } = &mut *records;
        self.registry.pages.reserve(view.range(), || pool.take(self.platform, UNIT))?;
        if let Some(region) = regions.get_mut(self.index) {
            region.executable_view = view.start();
            self.region = *region;
        }
        self.registry.fill_views(self.index, &self.region, self.platform.page_size());
        Ok(())
    }

    /// Unmaps the read-execute view. If that fails, nothing has changed.
    ///
    /// # Safety
    /// Nothing uses the view.
    pub unsafe fn release_view(&mut self, view: Span) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.unmap_hidden(view) }?;
        self.update(|region| region.executable_view = 0);
        Ok(())
    }

    /// Unmaps the region's pages and forgets the region. If that fails, nothing has changed.
    /// Returns how many bytes were unmapped: a further view that can't be is lost, since without its
    /// base nobody could ask for it again.
    ///
    /// # Safety
    /// The claim is exclusive, and nothing uses the pages.
    pub unsafe fn release(self) -> Result<usize, Error> {
        let page_size = self.platform.page_size();
        let pages = self.region.pages(page_size);
        // SAFETY: the caller's promise, passed on.
        unsafe { self.unmap_hidden(pages) }?;
        let mut unmapped = pages.length();
        for (view, _) in self.region.other_views(page_size) {
            // The base is gone already, so a momentary shortage gets a second chance.
            // SAFETY: as above: the view is the region's too.
            match unsafe { self.unmap_hidden(view).or_else(|_| self.unmap_hidden(view)) } {
                Ok(()) => unmapped += view.length(),
                Err(_) => self.forget(view),
            }
        }
        let mut records = self.registry.records();
        records.regions.remove(self.index);
        records.claims -= 1;
        drop(records);
        core::mem::forget(self);
        Ok(unmapped)
    }

    fn forget(&self, pages: Span) {
        let _writer = self.registry.records();
        self.registry.pages.hide(pages.range());
        self.registry.pages.remove_hidden(pages.range(), self.index);
    }

    /// The pages are hidden before they are unmapped, since another thread's new mapping may get the
    /// addresses as soon as they are free.
    ///
    /// # Safety
    /// The pages are the region's, and nothing uses them.
    unsafe fn unmap_hidden(&self, pages: Span) -> Result<(), Error> {
        let map = &self.registry.pages;
        {
            let _writer = self.registry.records();
            map.hide(pages.range());
        }
        // SAFETY: the caller's promise, passed on; the claim keeps others out.
        let result = unsafe { self.platform.unmap(pages) };
        let _writer = self.registry.records();
        match result {
            Ok(()) => map.remove_hidden(pages.range(), self.index),
            Err(_) => map.show(pages.range()),
        }
        result
    }

    fn update(&mut self, change: impl FnOnce(&mut Region)) {
        let mut records = self.registry.records();
        if let Some(region) = records.regions.get_mut(self.index) {
            change(region);
            self.region = *region;
        }
    }
}

impl<P: Platform> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        let mut records = self.registry.records();
        records.claims -= 1;
        if let Some(region) = records.regions.get_mut(self.index) {
            region.users = if region.users == EXCLUSIVE { 0 } else { region.users - 1 };
        }
    }
}
