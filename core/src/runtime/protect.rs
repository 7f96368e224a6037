//! Changing protection, and making what was written executable on every core.

use super::Runtime;
use crate::error::Error;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::Protection;
use crate::registry::{Access, Claim, Kind, Wanted};
use crate::span::Span;

/// A change of protection that stopped half-way.
struct Stopped {
    error: Error,
    /// Pages before this address have `protection` now; the run of pages that starts here may have it in part.
    at: usize,
    protection: Protection,
}

impl<P: Platform> Runtime<P> {
    /// Makes the pages that the range touches read-execute, with coherent caches.
    pub fn make_executable(&self, address: i64, size: i64) -> Result<(), Error> {
        self.set_protection(address, size, Protection::RX)
    }

    /// Makes the pages that the range touches read-write.
    pub fn make_writable(&self, address: i64, size: i64) -> Result<(), Error> {
        self.set_protection(address, size, Protection::RW)
    }

    /// Sets the protection of exactly the pages that the range touches. Adding EXEC makes caches coherent
    /// first; WRITE together with EXEC is *refused* unless the policy is `rwx`.
    pub fn set_protection(&self, address: i64, size: i64, wanted: Protection) -> Result<(), Error> {
        self.check_writable_code(wanted)?;
        let Some(span) = self.page_range(address, size)? else { return Ok(()) };
        let mut claim = match wanted.contains(Protection::WRITE) {
            true => {
                let claim = self.space.claim_to_write(Wanted::Pages(span), Access::Exclusive)?;
                if claim.region().has_several_views() {
                    self.space.check_not_forking()?;
                }
                claim
            }
            false => {
                self.space.registry.claim(Wanted::Pages(span), Access::Exclusive, self.space.platform)?
            }
        };
        self.space.check_not_withdrawn(claim.region())?;
        let pages = span.pages(self.page_size());
        if self.has_write_switch(claim.region()) {
            return self.confirm_protection(&mut claim, pages, wanted);
        }
        claim.prepare(pages)?;
        let new_view = self.keep_executable_view(&mut claim, wanted)?;
        match self.change_pages(&mut claim, pages, wanted) {
            Ok(()) => claim.record_protection(pages, wanted),
            Err(stopped) => {
                self.restore_pages(&claim, pages, &stopped);
                if let Some(view) = new_view {
                    self.drop_view(&mut claim, view);
                }
                return Err(stopped.error);
            }
        }
        Ok(())
    }

    /// The protection of pages behind a write switch can't be changed. What they have already may be asked
    /// for, so that a caller need not know the policy to make code executable.
    fn confirm_protection(
        &self,
        claim: &mut Claim<'_, P>,
        pages: Span,
        wanted: Protection,
    ) -> Result<(), Error> {
        if wanted != Protection::RX || !claim.all_pages(pages, |page| page == Protection::RX) {
            return Err(Error::Unsupported);
        }
        self.publish(claim, pages)
    }

    /// Refuses WRITE together with EXEC unless the policy allows it.
    pub(super) fn check_writable_code(&self, wanted: Protection) -> Result<(), Error> {
        if wanted.is_writable_code() && self.space.policy.fix(self.space.platform)? != Policy::Rwx {
            return Err(Error::Refused);
        }
        Ok(())
    }

    /// The steps of a change.
    fn change_pages(&self, claim: &mut Claim<'_, P>, pages: Span, wanted: Protection) -> Result<(), Stopped> {
        // Cache maintenance reads the pages, so they are readable while it runs.
        let step = match wanted.contains(Protection::EXEC) {
            true => wanted | Protection::READ,
            false => wanted,
        };
        let stopped = |at| move |error| Stopped { error, at, protection: step };
        for (run, page) in claim.runs(pages) {
            // A system may refuse EXEC even to pages that have it.
            if page.protection != step {
                let pages = Span::from_parts(run.start, run.len());
                self.apply(claim, pages, step).map_err(stopped(run.start))?;
            }
        }
        if wanted.contains(Protection::EXEC) {
            self.publish(claim, pages).map_err(stopped(pages.end()))?;
        }
        if wanted != step {
            self.apply(claim, pages, wanted).map_err(stopped(pages.end()))?;
        }
        Ok(())
    }

    /// Code memory with two views is about to lose EXEC for the first time: where the system won't let the
    /// pages have it again, a read-execute view is kept aside. Returns that view if it is new.
    fn keep_executable_view(
        &self,
        claim: &mut Claim<'_, P>,
        wanted: Protection,
    ) -> Result<Option<Span>, Error> {
        let region = *claim.region();
        if region.writable_view == 0
            || region.executable_view != 0
            || wanted.contains(Protection::EXEC)
            || self.space.policy.can_add_exec(self.space.platform)?
        {
            return Ok(None);
        }
        let all = region.pages(self.page_size());
        // SAFETY: the region has two views, so its memory is of the kind that can be mapped again.
        let view = unsafe { self.space.platform.map_again(all, None) }?;
        let view = Span::from_parts(view, all.length());
        // The view has the first page's protection, which may be EXEC alone.
        let readable = match claim.all_pages(all, |page| page == Protection::RX) {
            true => Ok(()),
            // SAFETY: the view was mapped above and nobody has seen it.
            false => unsafe { self.space.platform.protect(view, Protection::RX) },
        };
        if let Err(error) = readable.and_then(|()| claim.record_executable_view(view)) {
            // SAFETY: as above.
            let _ = unsafe { self.space.platform.unmap(view) };
            return Err(error);
        }
        self.space.counters.mapped(all.length());
        Ok(Some(view))
    }

    /// Unmaps a view of a claimed region. If the system can't, it stays and is unmapped with the region.
    fn drop_view(&self, claim: &mut Claim<'_, P>, view: Span) {
        // SAFETY: the view is the region's own, and the claim is exclusive.
        if unsafe { claim.release_view(view) }.is_ok() {
            self.space.counters.unmapped(view.length());
        }
    }

    /// Gives pages a protection: by mapping the executable view over them where there is one, else by
    /// changing the mapping.
    fn apply(&self, claim: &Claim<'_, P>, pages: Span, protection: Protection) -> Result<(), Error> {
        let region = claim.region();
        if protection.contains(Protection::EXEC) && region.executable_view != 0 {
            let offset = pages.start() - region.base;
            let source = Span::from_parts(region.executable_view + offset, pages.length());
            // SAFETY: both are views of this region's memory, at the same offset; the claim is exclusive.
            unsafe { self.space.platform.map_again(source, Some(pages.start())) }?;
            if protection == Protection::RX {
                return Ok(());
            }
        }
        // SAFETY: the pages are the region's, and the claim is exclusive: no copy of ours is under way.
        unsafe { self.space.platform.protect(pages, protection) }
    }

    /// Puts back what the registry says, after a change that stopped half-way. The pages had these
    /// protections before, so the system has no new ground to refuse them; if it does all the same, the
    /// registry learns what they are left with.
    fn restore_pages(&self, claim: &Claim<'_, P>, pages: Span, stopped: &Stopped) {
        for (run, page) in claim.runs(pages).take_while(|(run, _)| run.start <= stopped.at) {
            let run = Span::from_parts(run.start, run.len());
            if self.apply(claim, run, page.protection).is_err() && run.start() < stopped.at {
                claim.record_protection(run, stopped.protection);
            }
        }
    }

    /// After it, every core executes what was written to the range.
    pub fn flush_icache(&self, address: i64, size: i64) -> Result<(), Error> {
        let Some(span) = self.page_range(address, size)? else { return Ok(()) };
        let mut claim =
            self.space.registry.claim(Wanted::Pages(span), Access::Shared, self.space.platform)?;
        if !claim.all_pages(span, |page| page.contains(Protection::READ)) {
            return Err(Error::WrongProtection);
        }
        self.publish(&mut claim, span)
    }

    /// Makes caches coherent for a readable range of a region.
    ///
    /// Other cores need a step of their own only if they may have fetched these bytes before: not where nothing was
    /// published yet, since nobody could jump there, unless code was freed since, whose addresses it may have got.
    fn publish(&self, claim: &mut Claim<'_, P>, span: Span) -> Result<(), Error> {
        let region = *claim.region();
        let written = match region.writable_view {
            0 => span.start(),
            view => view + (span.start() - region.base),
        };
        // SAFETY: the range is mapped (the claim holds it) and readable through both views.
        unsafe { self.space.platform.flush_icache(written, span.start(), span.length()) };
        // A file's pages may hold code that ran before this mapping existed in the registry's eyes.
        let part = span.start() - region.base..span.end() - region.base;
        let may_be_fetched = region.published.intersects(&part) || region.kind == Kind::File;
        self.space.freed_code.drop_fetched(may_be_fetched, self.space.platform)?;
        claim.record_published(part);
        Ok(())
    }
}
