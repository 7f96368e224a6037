//! Changing protection, and making what was written executable on every core.

use super::Runtime;
use crate::error::{Error, Result};
use crate::platform::{Memory, PageRequest, Platform};
use crate::policy::Policy;
use crate::protection::{Advice, Hardening, Protection};
use crate::registry::{Access, Claim, Forked, Kind, Region, Wanted};
use crate::span::Span;

impl<P: Platform> Runtime<P> {
    /// Makes the pages that the range touches read-execute, with coherent caches. Under [`Hardening::BTI`] they ask for
    /// landing pads.
    pub fn make_executable(&self, address: i64, size: i64) -> Result {
        self.set_protection(address, size, self.space.hardened(Protection::RX))
    }

    /// Makes the pages that the range touches read-write.
    pub fn make_writable(&self, address: i64, size: i64) -> Result {
        self.set_protection(address, size, Protection::RW)
    }

    /// Sets the protection of exactly the pages that the range touches. Adding EXEC makes caches coherent
    /// first; WRITE together with EXEC is *refused* unless the policy is `rwx`.
    pub fn set_protection(&self, address: i64, size: i64, wanted: Protection) -> Result {
        self.check_protection(wanted)?;
        let Some(span) = self.page_range(address, size)? else { return Ok(()) };
        let mut claim = self.claim_to_protect(span, wanted)?;
        let pages = span.pages(self.page_size());
        if self.has_write_switch(claim.region()) {
            // Their protection can't be changed. What they have already may be asked for, so that a caller need not
            // know the policy to make code executable.
            if wanted != Protection::RX || !claim.all_pages(pages, &|page| page == Protection::RX) {
                return Err(Error::Unsupported);
            }
            return self.publish(&mut claim, pages);
        }
        self.space.registry.prepare(pages)?;
        let new_view = self.keep_executable_view(&mut claim, wanted)?;
        // Cache maintenance reads the pages, so they are readable while it runs.
        let first = if wanted.contains(Protection::EXEC) { wanted | Protection::READ } else { wanted };
        let region = *claim.region();
        let apply = |pages, protection| self.apply(&region, pages, protection);
        let (at, mut changed) = self.space.change_runs(pages, first, &apply);
        if changed.is_ok() && wanted.contains(Protection::EXEC) {
            changed = self.publish(&mut claim, pages);
        }
        if changed.is_ok() && wanted != first {
            changed = apply(pages, wanted);
        }
        if changed.is_ok() {
            self.space.registry.record(pages, wanted);
            return Ok(());
        }
        // What came of it, the registry says.
        let _ = self.space.restore_runs(pages, first, at, &apply);
        if let Some(view) = new_view {
            // If the system can't unmap it, it stays, and is unmapped with the region.
            // SAFETY: the view was made above, for pages to regain EXEC from, and none does.
            if unsafe { claim.release_view(view) }.is_ok() {
                self.space.counters.unmapped(view.length());
            }
        }
        changed
    }

    fn claim_to_protect(&self, span: Span, wanted: Protection) -> Result<Claim<'_, P>> {
        let (pages, access) = (Wanted::Pages(span), Access::Exclusive);
        if !wanted.contains(Protection::WRITE) {
            let claim = self.space.registry.claim(pages, access)?;
            return self.space.check_changeable(claim.region()).map(|()| claim);
        }
        let claim = self.space.claim_to_write(pages, access)?;
        if claim.region().has_several_views() {
            self.space.check_not_forking()?;
        }
        Ok(claim)
    }

    /// Refuses WRITE together with EXEC unless the policy allows it, and landing pads that nobody looks for.
    pub(super) fn check_protection(&self, wanted: Protection) -> Result {
        if wanted.is_writable_code() && self.space.policy.fix(self.space.platform)? != Policy::Rwx {
            return Err(Error::Refused);
        }
        if !wanted.contains(Protection::BTI) {
            return Ok(());
        }
        if !P::HARDENING.contains(Hardening::BTI) {
            return Err(Error::Unsupported);
        }
        self.space.platform.try_hardening(Hardening::BTI)?;
        if wanted.contains(Protection::EXEC) { Ok(()) } else { Err(Error::InvalidArgument) }
    }

    /// Code memory with two views is about to lose EXEC for the first time: where the system won't let the
    /// pages have it again, a read-execute view is kept aside. Returns that view if it is new.
    fn keep_executable_view(&self, claim: &mut Claim<'_, P>, wanted: Protection) -> Result<Option<Span>> {
        let region = *claim.region();
        if region.writable_view == 0
            || region.executable_view != 0
            || wanted.contains(Protection::EXEC)
            || self.space.policy.can_add_exec(self.space.platform)?
        {
            return Ok(None);
        }
        let all = region.pages(self.page_size());
        let place = match region.is_guarded {
            true => Some(self.space.map(all.length(), Memory::Private(Protection::NONE))?.address),
            false => None,
        };
        let unmap = |view| {
            // SAFETY: it was mapped here, and nobody has seen it.
            let _ = unsafe { self.space.platform.unmap(self.space.registry.whole(&region, view)) };
        };
        // SAFETY: the region has two views, so its memory is of the kind that can be mapped again; what is at the place was
        // mapped for that.
        let view = unsafe { self.space.platform.map_again(all, place) }.inspect_err(|_| {
            place.into_iter().for_each(|place| unmap(Span::from_parts(place, all.length())))
        })?;
        let view = Span::from_parts(view, all.length());
        // The view has the first page's protection, which may be EXEC alone.
        let readable = match claim.all_pages(all, &|page| page == Protection::RX) {
            true => Ok(()),
            // SAFETY: the view was mapped above, and nobody has seen it.
            false => unsafe { self.space.platform.protect(view, Protection::RX) },
        };
        let known = readable.and_then(|()| match place {
            // The view is withheld as what it shows is, the pages around it are not.
            Some(_) if region.forked.contains(Forked::WITHHELD) => {
                let whole = self.space.registry.whole(&region, view);
                // SAFETY: mapped above, and nobody has seen them.
                unsafe { self.space.platform.request(whole, PageRequest::Advise(Advice::DontFork)) }
            }
            _ => Ok(()),
        });
        if let Err(error) = known.and_then(|()| claim.record_executable_view(view)) {
            unmap(view);
            return Err(error);
        }
        self.space.counters.mapped(all.length());
        Ok(Some(view))
    }

    /// Gives pages of a region whose claim is exclusive a protection: by mapping the executable view over them where
    /// there is one, else by changing the mapping.
    fn apply(&self, region: &Region, pages: Span, protection: Protection) -> Result {
        if protection.contains(Protection::EXEC) && region.executable_view != 0 {
            let offset = pages.start() - region.base;
            let source = Span::from_parts(region.executable_view + offset, pages.length());
            // SAFETY: both are views of this region's memory, at the same offset, and the claim is exclusive.
            unsafe { self.space.platform.map_again(source, Some(pages.start())) }?;
            if protection == Protection::RX {
                return Ok(());
            }
        }
        // SAFETY: the pages are the region's, and the claim is exclusive: no copy of ours is under way.
        unsafe { self.space.platform.protect(pages, protection) }
    }

    /// After it, every core executes what was written to the range.
    pub fn flush_icache(&self, address: i64, size: i64) -> Result {
        let Some(span) = self.page_range(address, size)? else { return Ok(()) };
        let mut claim = self.space.registry.claim(Wanted::Pages(span), Access::Shared)?;
        if !claim.all_pages(span, &|page| page.contains(Protection::READ)) {
            return Err(Error::WrongProtection);
        }
        self.publish(&mut claim, span)
    }

    /// Makes caches coherent for a readable range of a region.
    ///
    /// Other cores need a step of their own only if they may have fetched these bytes before: not where nothing was
    /// published yet, since nobody could jump there, unless code was freed since, whose addresses it may have got.
    fn publish(&self, claim: &mut Claim<'_, P>, span: Span) -> Result {
        let region = *claim.region();
        let written = match region.writable_view {
            0 => span.start(),
            view => view + (span.start() - region.base),
        };
        // SAFETY: the claim keeps the range mapped. It is readable here, as the callers have seen to, and in the
        // read-write view always.
        unsafe { self.space.platform.flush_icache(written, span.start(), span.length()) };
        // Recorded before the step: of two that publish the same bytes at once, one makes a step behind both flushes.
        let was_published = claim.record_published(span.start() - region.base..span.end() - region.base);
        // A file's pages may hold code that ran before this mapping existed in the registry's eyes.
        let may_be_fetched = was_published || region.kind == Kind::File;
        self.space.freed_code.drop_fetched(may_be_fetched, self.space.platform)
    }
}
