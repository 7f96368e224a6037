//! Claims: the right to use a region for a while, so that a copy can't race with an unmap.

use super::page_map::Change;
use super::queue::Access;
use super::records::{Handle, Records, Registry};
use super::region::{Forked, Kind, Region};
use crate::error::{Error, Result};
use crate::lock::Guard;
use crate::memory::Index;
use crate::platform::{PageRequest, Platform};
use crate::protection::{Advice, Protection};
use crate::span::Span;
use core::ops::Range;

/// Which live region an operation is for. Any other one is *not owned*.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// The one whose pages hold these bytes: for protection, lock, advice and sync a region ends with its last
    /// page (contract, section 1.4).
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

    fn check(self, region: &Region, page_size: usize) -> Result {
        let (kind, requested, pages) = (region.kind, region.requested(), region.pages(page_size));
        let starts_at = |address| region.base == address;
        let (is_it, has_size) = match self {
            Self::Pages(span) => (kind != Kind::HeapChunk && pages.contains(span), true),
            Self::Bytes(address, span) => {
                let holds = requested.contains(span) && requested.range().contains(&address);
                (kind != Kind::HeapChunk && holds, true)
            }
            Self::ExecMemory(span) => {
                let has_size = [requested.length(), pages.length()].contains(&span.length());
                (kind.is_exec_memory() && starts_at(span.start()), has_size)
            }
            Self::Mapping(span) => {
                (kind.is_mapping() && starts_at(span.start()), span.length() == requested.length())
            }
            Self::HeapChunk(base) => (kind == Kind::HeapChunk && starts_at(base), true),
        };
        match (is_it, has_size) {
            (true, true) => Ok(()),
            (true, false) => Err(Error::WrongSize),
            (false, _) => Err(Error::NotOwned),
        }
    }
}

/// A place in a region's queue.
#[derive(Clone, Copy)]
struct Ticket {
    region: Handle,
    number: u16,
}

impl Records {
    fn draw_ticket(&mut self, index: Index) -> Option<Ticket> {
        let region = self.handle(index)?;
        Some(Ticket { region, number: self.regions.get_mut(index)?.usage.draw_ticket() })
    }
}

impl<P: Platform> Registry<P> {
    /// Claims a live region. Waits while others use it. *Refused* in a thread that holds all locks for a fork:
    /// others can't give up their claims before it has forked.
    pub(crate) fn claim(&self, wanted: Wanted, access: Access) -> Result<Claim<'_, P>> {
        let mut records = self.lock();
        let mut ticket: Option<Ticket> = None;
        loop {
            // A region whose unmapping is under way has no pages to find it by, but may yet stay.
            let index = match ticket {
                Some(ticket) => ticket.region.index,
                None => self.find(wanted)?,
            };
            let record = records.regions.get_mut(index).ok_or(Error::NotOwned)?;
            wanted.check(&record.region, self.page_size())?;
            if record.usage.begin(ticket.map(|ticket| ticket.number), access) {
                let region = record.region;
                if ticket.is_some() {
                    self.unlock_and_wake(records);
                }
                return Ok(Claim { registry: self, index, region });
            }
            (records, ticket) = self.wait(records, index, ticket)?;
        }
    }

    /// Waits until something has changed. The place in the queue, if the region is still there.
    #[cold]
    #[inline(never)]
    fn wait<'a>(
        &'a self,
        mut records: Guard<'a, Records, P>,
        index: Index,
        ticket: Option<Ticket>,
    ) -> Result<(Guard<'a, Records, P>, Option<Ticket>)> {
        if records.is_for_fork() {
            return Err(Error::Refused);
        }
        let ticket = ticket.or_else(|| records.draw_ticket(index));
        records.waiters += 1;
        let seen = self.wakeups.count();
        drop(records);
        self.wakeups.wait(seen, self.platform);
        records = self.lock();
        records.waiters -= 1;
        let ticket = ticket.filter(|ticket| records.is_live(ticket.region));
        Ok((records, ticket))
    }

    fn find(&self, wanted: Wanted) -> Result<Index> {
        let page = self.pages.get(wanted.address()).filter(|page| !page.is_other_view);
        Ok(page.ok_or(Error::NotOwned)?.region)
    }

    /// Gives the lock back, and tells those who wait that something has changed.
    fn unlock_and_wake(&self, records: Guard<'_, Records, P>) {
        let somebody_waits = records.waiters > 0;
        drop(records);
        if somebody_waits {
            self.wakeups.wake_all(self.platform);
        }
    }
}

/// The right to use a region for a while; dropping it gives the region back.
pub(crate) struct Claim<'a, P: Platform> {
    registry: &'a Registry<P>,
    index: Index,
    region: Region,
}

impl<P: Platform> Claim<'_, P> {
    /// The region as it is: nobody else changes it meanwhile.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Whether every page of `span` has a protection that `accepts` likes.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn all_pages(&self, span: Span, accepts: &dyn Fn(Protection) -> bool) -> bool {
        let pages = span.pages(self.registry.page_size());
        self.registry.runs(pages).all(|(_, page)| accepts(page.protection))
    }

    /// Records that cores may fetch these bytes, counted from the region's start, from now on. Whether they might before:
    /// others who share the region may have recorded it since the claim began.
    pub(crate) fn record_published(&mut self, part: Range<usize>) -> bool {
        if self.region.published.with(&part) == self.region.published {
            return true;
        }
        let mut was_published = false;
        self.update(|region| {
            was_published = region.published.intersects(&part);
            region.published = region.published.with(&part);
        });
        was_published
    }

    /// Records that the memory is this process's alone.
    pub(crate) fn record_own(&mut self) {
        self.update(|region| region.forked.remove(Forked::IN_COMMON));
    }

    /// Keeps the region from children that are forked from now on. The lock is held meanwhile: a fork comes before or
    /// after. *Refused* if an unwinder knows its code.
    pub(crate) fn withhold(&mut self) -> Result {
        let mut records = self.registry.lock();
        let record = records.regions.get_mut(self.index).ok_or(Error::NotOwned)?;
        if record.region.forked.contains(Forked::UNWOUND) {
            return Err(Error::Refused);
        }
        // SAFETY: the pages are the region's, which is claimed; what they hold stays.
        let request = |view, request| unsafe { self.registry.platform.request(view, request) };
        let region = record.region;
        let views =
            || region.all_views(self.registry.page_size()).map(|view| self.registry.whole(&region, view));
        for (done, view) in views().enumerate() {
            if let Err(error) = request(view, PageRequest::Advise(Advice::DontFork)) {
                // What can't be taken back a child lacks, as after an unmapping that a program makes on its own.
                views().take(done).for_each(|view| _ = request(view, PageRequest::Fork));
                return Err(error);
            }
        }
        record.region.forked.insert(Forked::WITHHELD);
        Ok(())
    }

    /// Records that an unwinder is given records of code in the region. *Refused* if children don't get it.
    pub(crate) fn record_unwound(&mut self) -> Result {
        let mut is_withheld = false;
        self.update(|region| {
            is_withheld = region.forked.contains(Forked::WITHHELD);
            region.forked.set(Forked::UNWOUND, !is_withheld);
        });
        if is_withheld { Err(Error::Refused) } else { Ok(()) }
    }

    /// Records whether nothing changes the pages any more.
    pub(crate) fn record_sealed(&mut self, is_sealed: bool) {
        self.update(|region| region.is_sealed = is_sealed);
    }

    /// Records a further read-execute view of the whole region.
    pub(crate) fn record_executable_view(&mut self, view: Span) -> Result {
        let mut records = self.registry.lock();
        let Records { regions, pool, .. } = &mut *records;
        self.registry.prepare_from(view, pool)?;
        if let Some(record) = regions.get_mut(self.index) {
            record.region.executable_view = view.start();
            self.region = record.region;
        }
        self.registry.set_views(self.index, &self.region);
        Ok(())
    }

    /// Unmaps a view beside the one at the base. If that fails, nothing has changed.
    ///
    /// # Safety
    /// Nothing uses the view.
    pub(crate) unsafe fn release_view(&mut self, view: Span) -> Result {
        // SAFETY: the caller says that nothing uses the view.
        unsafe { self.unmap_hidden(view) }?;
        self.update(|region| {
            let views = [&mut region.writable_view, &mut region.executable_view];
            views.into_iter().filter(|place| **place == view.start()).for_each(|place| *place = 0);
        });
        Ok(())
    }

    /// Unmaps the region's pages and forgets the region. If that fails, nothing has changed. Returns how many bytes
    /// were unmapped: a further view that can't be is lost, since without its base nobody could ask for it again.
    ///
    /// # Safety
    /// The claim is exclusive, and nothing uses the pages.
    pub(crate) unsafe fn release(self) -> Result<usize> {
        let page_size = self.registry.page_size();
        let pages = self.region.pages(page_size);
        // SAFETY: the caller says that nothing uses the region's pages, and these are its own.
        unsafe { self.unmap_hidden(pages) }?;
        let mut unmapped = pages.length();
        for (view, _) in self.region.other_views(page_size) {
            // The base is gone already, so a momentary shortage gets a second chance.
            // SAFETY: the view shows the region's memory, which nothing uses by the caller's word.
            match unsafe { self.unmap_hidden(view).or_else(|_| self.unmap_hidden(view)) } {
                Ok(()) => unmapped += view.length(),
                Err(_) => self.registry.change(view, Change::Remove(self.index)),
            }
        }
        let mut records = self.registry.lock();
        records.regions.remove(self.index, self.registry.platform);
        self.registry.unlock_and_wake(records);
        core::mem::forget(self);
        Ok(unmapped)
    }

    /// The pages are hidden before they are unmapped, since another thread's new mapping may get the
    /// addresses as soon as they are free.
    ///
    /// # Safety
    /// The pages are the region's, and nothing uses them.
    unsafe fn unmap_hidden(&self, pages: Span) -> Result {
        self.registry.change(pages, Change::Hide);
        // SAFETY: the caller says that nothing uses the pages, and they came from the platform as all of a region's.
        let result = unsafe { self.registry.platform.unmap(self.registry.whole(&self.region, pages)) };
        let change = if result.is_ok() { Change::Remove(self.index) } else { Change::Show };
        self.registry.change(pages, change);
        result
    }

    fn update(&mut self, change: impl FnOnce(&mut Region)) {
        if let Some(record) = self.registry.lock().regions.get_mut(self.index) {
            change(&mut record.region);
            self.region = record.region;
        }
    }
}

impl<P: Platform> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        let mut records = self.registry.lock();
        if let Some(record) = records.regions.get_mut(self.index) {
            record.usage.end();
        }
        self.registry.unlock_and_wake(records);
    }
}
