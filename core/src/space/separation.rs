//! Copies of dual memory: what a process has in common with another one after a fork, and how it gets its own.
//!
//! The memory behind two views is shared memory, which a fork shares instead of copying: left so, what one process
//! writes would run in the other. So at a fork all of it is marked as in common, on both sides. Whoever is about to
//! write to such memory first copies it and puts the copy behind all its views, while other threads execute in them.
//! Whether the other process still lives can't be known, so a copy is the price of the first write after a fork, and
//! `fork` itself copies nothing of it.
//!
//! Memory that somebody may be storing to while the process forks can't wait: see
//! [`before_fork`](crate::Runtime::before_fork). Between that and the fork itself, nothing that is copied becomes the
//! process's own: it will be in common again at once.

use super::address_space::AddressSpace;
use crate::error::{Error, Result};
use crate::platform::{Memory, PageRequest, Platform, Views};
use crate::protection::{Advice, Hardening, Protection};
use crate::registry::{Access, Claim, Forked, Region, Wanted};
use crate::span::Span;
use crate::sync::Ordering;
use core::ptr;

impl<P: Platform> AddressSpace<P> {
    /// Claims a region to write to it, or to make it writable. What it had in common with another process is its
    /// own then; for that the claim becomes exclusive.
    #[inline]
    pub(crate) fn claim_to_write(&self, wanted: Wanted, access: Access) -> Result<Claim<'_, P>> {
        let claim = self.registry.claim(wanted, access)?;
        self.check_changeable(claim.region())?;
        match P::CAN_FORK && claim.region().forked.contains(Forked::IN_COMMON) {
            false => Ok(claim),
            true => self.claim_own(claim, wanted, access),
        }
    }

    #[cold]
    fn claim_own<'a>(
        &'a self,
        mut claim: Claim<'a, P>,
        wanted: Wanted,
        access: Access,
    ) -> Result<Claim<'a, P>> {
        if access != Access::Exclusive {
            drop(claim);
            return self.claim_to_write(wanted, Access::Exclusive);
        }
        let region = *claim.region();
        // SAFETY: the claim is exclusive, so the region stays and nobody writes to it.
        unsafe { self.separate(&region, core::iter::once(region.shown(self.page_size()))) }?;
        if !self.is_forking() {
            // Another thread that forks meanwhile copies a region that is claimed for its child.
            claim.record_own();
        }
        Ok(claim)
    }

    /// Whether this thread is about to fork, or has just forked, and a handler of the program's own is calling.
    /// Others wait here until the fork is over.
    #[inline]
    pub(crate) fn is_forking(&self) -> bool {
        P::CAN_FORK && self.fork_is_under_way.load(Ordering::Acquire) && self.registry.is_held_for_fork()
    }

    /// Refuses to hand out memory that can be stored to without asking, in the middle of a fork: whose it is can't
    /// be said then.
    pub(crate) fn check_not_forking(&self) -> Result {
        if self.is_forking() { Err(Error::Refused) } else { Ok(()) }
    }

    /// Writes to a region's copy for a child, if it has one, what is about to be written to the region at
    /// `address`: a handler before the fork writes for both processes. A handler after it, in the parent, does the same
    /// without harm, since the copy is private.
    pub(crate) fn write_for_child(
        &self,
        address: usize,
        length: usize,
        write: &mut dyn FnMut(usize),
    ) -> Result {
        if self.is_forking()
            && let Some(copy) = self.registry.copy_for_child(address)
        {
            let pages = Span::from_parts(copy, length).pages(self.page_size());
            // SAFETY: the copy stays until this thread's own handler after the fork.
            unsafe { self.populate(pages, true) }?;
            write(copy);
        }
        Ok(())
    }

    /// Refuses to change what was sealed, and memory that this process has in common with another one and could not copy at
    /// the fork.
    #[inline]
    pub(crate) fn check_changeable(&self, region: &Region) -> Result {
        match (P::CAN_FORK && region.forked.contains(Forked::WITHDRAWN), P::CAN_SEAL && region.is_sealed) {
            (true, _) => Err(Error::WrongProtection),
            (_, true) => Err(Error::Refused),
            _ => Ok(()),
        }
    }

    /// Puts a copy of a region's memory behind all its views. If it fails the views show what they did, and may be
    /// given a copy later.
    ///
    /// # Safety
    /// The region stays mapped, the parts are parts of its view [`shown`](Region::shown), and nobody writes to it.
    pub(crate) unsafe fn separate(&self, region: &Region, used: impl Iterator<Item = Span>) -> Result {
        // SAFETY: the caller's promise, passed on; the copy is the region's.
        unsafe {
            let copy = self.copy(region.shown(self.page_size()), used, Memory::Dual)?;
            self.show(copy, region)
        }
    }

    /// Maps a copy of `source`, of which only the parts that are `used` hold anything but zeros.
    ///
    /// # Safety
    /// The source stays mapped, the parts of it can be read, and nobody writes to them.
    pub(crate) unsafe fn copy(
        &self,
        source: Span,
        used: impl Iterator<Item = Span>,
        memory: Memory,
    ) -> Result<Views> {
        // It comes between the guards of what it is a copy of.
        let copy = self.mapper().without(Hardening::GUARDS).map(source.length(), memory, None)?;
        let start = if copy.writable != 0 { copy.writable } else { copy.address };
        for part in used {
            let offset = part.start() - source.start();
            let target = Span::from_parts(start + offset, part.length());
            // SAFETY: the part by the caller's promise; the copy was mapped above, and is nobody else's.
            unsafe {
                let populated = self.populate(part, false).and_then(|()| self.populate(target, true));
                if let Err(error) = populated {
                    copy.unmap(source.length(), self.platform);
                    return Err(error);
                }
                let to = ptr::with_exposed_provenance_mut::<u8>(target.start());
                self.platform.with_view_writes(&mut || {
                    ptr::copy_nonoverlapping(ptr::with_exposed_provenance(part.start()), to, part.length());
                });
                if copy.writable != 0 {
                    // What cores execute at the old addresses comes from this memory soon. They may have fetched the
                    // same bytes there already: no other core has to be told.
                    self.platform.flush_icache(target.start(), copy.address + offset, part.length());
                }
            }
        }
        Ok(copy)
    }

    /// Puts a copy's memory behind all views of a region, with the protection that the registry knows. The copy's
    /// own views are gone afterwards, also if it fails.
    ///
    /// # Safety
    /// It is a [`copy`](Self::copy) of this region in dual memory, nobody has written to either since, and nobody does now.
    pub(crate) unsafe fn show(&self, copy: Views, region: &Region) -> Result {
        let pages = region.pages(self.page_size());
        let mut writable_is_left = true;
        let mut moved = 0;
        let shown = (|| {
            // SAFETY: all pages at the targets are the region's, which show the same bytes afterwards, by the caller's
            // promise. Nobody else knows of the copy.
            unsafe {
                let whole = |view| Span::from_parts(view, pages.length());
                if region.forked.contains(Forked::WITHHELD) {
                    for view in [copy.address, copy.writable] {
                        self.platform.request(whole(view), PageRequest::Advise(Advice::DontFork))?;
                    }
                }
                if region.executable_view != 0 {
                    self.platform.map_again(whole(copy.address), Some(region.executable_view))?;
                }
                // Before anything of it is moved: if this fails, all is what the registry says.
                for (run, page) in
                    self.registry.runs(pages).filter(|(_, page)| page.protection != Protection::RX)
                {
                    let source = copy.address + (run.start() - region.base);
                    self.platform.protect(Span::from_parts(source, run.length()), page.protection)?;
                }
                // Before the base: what can't be written to yet shows the same as before.
                if region.writable_view != 0 {
                    self.platform.move_onto(whole(copy.writable), region.writable_view)?;
                    writable_is_left = false;
                }
                for (run, _) in self.registry.runs(pages) {
                    let source = Span::from_parts(copy.address + moved, run.length());
                    self.platform.move_onto(source, run.start())?;
                    moved += run.length();
                }
            }
            Ok(())
        })();
        let left = [
            (copy.address + moved, pages.length() - moved),
            (copy.writable, if writable_is_left { pages.length() } else { 0 }),
        ];
        for (start, length) in left.into_iter().filter(|(_, length)| *length > 0) {
            // SAFETY: the copy's own views, which nobody else has seen. What can't be unmapped is lost.
            let _ = unsafe { self.platform.unmap(Span::from_parts(start, length)) };
        }
        shown
    }
}
