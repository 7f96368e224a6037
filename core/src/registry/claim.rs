//! Claims: the right to use a region for a while, so that a copy can't race with an unmap.
//!
//! Who asks for a region that others use waits in a queue, and nobody overtakes: whoever waits for exclusive use
//! stops later ones from sharing, and the other way round.

use super::page_map::Page;
use super::{Records, Region, Registry, Wanted};
use crate::error::Error;
use crate::lock::{Guard, SPINS};
use crate::memory::{Index, UNIT};
use crate::platform::Platform;
use crate::protection::Protection;
use crate::span::Span;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, Ordering};

/// Whether others may use the region at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Yes, if they share it too.
    Shared,
    /// No.
    Exclusive,
}

/// The value of [`Use::users`] while one exclusive user has the region.
const EXCLUSIVE: u32 = u32::MAX;

/// Who uses a region now, and who waits for it.
#[derive(Clone, Copy, Default)]
pub(super) struct Use {
    /// 0 nobody, n shared users, or [`EXCLUSIVE`].
    users: u32,
    /// The ticket of whoever is first in the queue, and the next one to be drawn. Equal: nobody waits.
    first: u16,
    next: u16,
}

impl Use {
    pub(super) fn is_in_use(self) -> bool {
        self.users != 0
    }

    pub(super) fn is_exclusive(self) -> bool {
        self.users == EXCLUSIVE
    }

    fn is_free_for(self, access: Access) -> bool {
        match access {
            Access::Shared => self.users < EXCLUSIVE - 1,
            Access::Exclusive => self.users == 0,
        }
    }

    fn begin(&mut self, access: Access) {
        match access {
            Access::Shared => self.users += 1,
            Access::Exclusive => self.users = EXCLUSIVE,
        }
    }

    /// There may be none to end: a fork in the middle of an operation, in a signal handler, makes all claims void
    /// in the child, that of its own thread too.
    fn end(&mut self) {
        self.users = if self.is_exclusive() { 0 } else { self.users.saturating_sub(1) };
    }
}

/// How those who wait hear that a claim has ended, or that the queue has moved on.
pub(super) struct Wakeups(AtomicU32);

impl Wakeups {
    pub(super) const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn announce(&self, platform: impl Platform) {
        self.0.fetch_add(1, Ordering::Release);
        platform.wake(&self.0, true);
    }

    fn wait(&self, seen: u32, platform: impl Platform) {
        let has_changed = || self.0.load(Ordering::Acquire) != seen;
        for _ in 0..SPINS {
            if has_changed() {
                return;
            }
            core::hint::spin_loop();
        }
        while !has_changed() {
            platform.wait(&self.0, seen);
        }
    }
}

/// A place in a region's queue.
#[derive(Clone, Copy)]
struct Ticket {
    region: Index,
    /// Of the region's record: its number may be another region's by now.
    generation: u32,
    number: u16,
}

impl Registry {
    /// Claims a live region. Waits while others use it. *Refused* in a thread that holds all locks for a fork:
    /// others can't give up their claims before it has forked.
    pub fn claim<P: Platform>(
        &self,
        wanted: Wanted,
        access: Access,
        platform: P,
    ) -> Result<Claim<'_, P>, Error> {
        let mut records = self.records(platform);
        let index = self.find(wanted)?;
        let record = records.regions.get_mut(index).ok_or(Error::NotOwned)?;
        wanted.check(&record.region, platform.page_size())?;
        if record.usage.first == record.usage.next && record.usage.is_free_for(access) {
            record.usage.begin(access);
            return Ok(Claim { registry: self, platform, index, region: record.region });
        }
        drop(records);
        self.claim_in_turn(wanted, access, platform)
    }

    #[cold]
    fn claim_in_turn<P: Platform>(
        &self,
        wanted: Wanted,
        access: Access,
        platform: P,
    ) -> Result<Claim<'_, P>, Error> {
        let mut ticket = None;
        loop {
            let mut records = self.records(platform);
            records.waiters -= usize::from(ticket.is_some());
            let is_for_fork = records.is_for_fork();
            // A region whose unmapping is under way has no pages to find it by, but may yet stay.
            let is_valid =
                |ticket: &Ticket| records.regions.generation(ticket.region) == Some(ticket.generation);
            let own = ticket.filter(is_valid);
            let index = match own {
                Some(ticket) => ticket.region,
                None => self.find(wanted)?,
            };
            let generation = records.regions.generation(index).ok_or(Error::NotOwned)?;
            let record = records.regions.get_mut(index).ok_or(Error::NotOwned)?;
            wanted.check(&record.region, platform.page_size())?;
            let usage = &mut record.usage;
            let number = own.map_or(usage.next, |ticket| ticket.number);
            if number == usage.first && usage.is_free_for(access) {
                usage.begin(access);
                let region = record.region;
                if own.is_some() {
                    usage.first = usage.first.wrapping_add(1);
                    self.announce(records, platform);
                }
                return Ok(Claim { registry: self, platform, index, region });
            }
            if is_for_fork {
                return Err(Error::Refused);
            }
            if own.is_none() {
                usage.next = usage.next.wrapping_add(1);
                ticket = Some(Ticket { region: index, generation, number });
            }
            records.waiters += 1;
            let seen = self.wakeups.0.load(Ordering::Acquire);
            drop(records);
            self.wakeups.wait(seen, platform);
        }
    }

    fn find(&self, wanted: Wanted) -> Result<Index, Error> {
        let page = self.pages.get(wanted.address()).filter(|page| !page.is_other_view);
        Ok(page.ok_or(Error::NotOwned)?.region)
    }

    /// Gives the lock back, and tells those who wait that something has changed.
    fn announce<P: Platform>(&self, records: Guard<'_, Records, P>, platform: P) {
        let somebody_waits = records.waiters > 0;
        drop(records);
        if somebody_waits {
            self.wakeups.announce(platform);
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
        self.registry.record(pages, protection, self.platform);
    }

    /// Records that cores may fetch these bytes, counted from the region's start, from now on.
    pub fn record_published(&mut self, part: Range<usize>) {
        if !self.region.published.contains(&part) {
            self.update(|region| region.published.add(&part));
        }
    }

    /// Records that the memory is this process's alone.
    pub(crate) fn record_own(&mut self) {
        self.update(|region| region.is_in_common = false);
    }

    /// Records a further read-execute view of the whole region.
    pub fn record_executable_view(&mut self, view: Span) -> Result<(), Error> {
        let mut records = self.registry.records(self.platform);
        let Records { regions, pool, .. } = &mut *records;
        self.registry.pages.reserve(view.range(), &mut || pool.take(self.platform, UNIT))?;
        if let Some(record) = regions.get_mut(self.index) {
            record.region.executable_view = view.start();
            self.region = record.region;
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
        let mut records = self.registry.records(self.platform);
        records.regions.remove(self.index);
        self.registry.announce(records, self.platform);
        core::mem::forget(self);
        Ok(unmapped)
    }

    fn forget(&self, pages: Span) {
        let _writer = self.registry.records(self.platform);
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
            let _writer = self.registry.records(self.platform);
            map.hide(pages.range());
        }
        // SAFETY: the caller's promise, passed on; the claim keeps others out.
        let result = unsafe { self.platform.unmap(pages) };
        let _writer = self.registry.records(self.platform);
        match result {
            Ok(()) => map.remove_hidden(pages.range(), self.index),
            Err(_) => map.show(pages.range()),
        }
        result
    }

    fn update(&mut self, change: impl FnOnce(&mut Region)) {
        let mut records = self.registry.records(self.platform);
        if let Some(record) = records.regions.get_mut(self.index) {
            change(&mut record.region);
            self.region = record.region;
        }
    }
}

impl<P: Platform> Drop for Claim<'_, P> {
    fn drop(&mut self) {
        let mut records = self.registry.records(self.platform);
        if let Some(record) = records.regions.get_mut(self.index) {
            record.usage.end();
        }
        self.registry.announce(records, self.platform);
    }
}
