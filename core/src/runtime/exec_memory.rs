//! Allocating and freeing code memory.

use super::Runtime;
use crate::error::{Error, Result};
use crate::near::Reach;
use crate::platform::{Memory, Platform, Views};
use crate::policy::Policy;
use crate::protection::{Hardening, Protection};
use crate::registry::{Access, Claim, Forked, Kind, Region, Wanted};
use crate::span::{Span, round_up};

impl<P: Platform> Runtime<P> {
    /// Memory of `size` bytes that can be written through this library and executed, as the policy
    /// provides it. Returns its address.
    pub fn alloc_exec(&self, size: i64) -> Result<usize> {
        self.alloc_code(size, |size, memory| self.space.map(size, memory))
    }

    /// As [`alloc_exec`](Self::alloc_exec), wholly within `max_distance` bytes of `target`.
    pub fn alloc_exec_near(&self, size: i64, target: i64, max_distance: i64) -> Result<usize> {
        let reach = Reach::new(target, max_distance)?;
        let map = |size, memory| self.space.latest_near.map(reach, self.space.mapper(), size, memory);
        self.alloc_code(size, map)
    }

    fn alloc_code(&self, size: i64, map: impl Fn(usize, Memory) -> Result<Views>) -> Result<usize> {
        let size = self.space.allocation_size(size)?;
        self.alloc_by_policy(size, |policy| {
            let views = map(size, policy.code_memory())?;
            let mut region = Region::new(Kind::Code, views.address, size);
            region.writable_view = views.writable;
            region.forked.set(Forked::IN_COMMON, views.writable != 0 && self.space.is_forking());
            self.space.register(region, self.space.hardened(policy.code_protection()))
        })
    }

    /// Read-write memory of `size` bytes, to be made executable later. Returns its address.
    pub fn alloc_rw(&self, size: i64) -> Result<usize> {
        let size = self.space.allocation_size(size)?;
        self.alloc_by_policy(size, |policy| {
            let region = if policy == Policy::Dual && !self.space.policy.can_add_exec(self.space.platform)? {
                self.space.check_not_forking()?;
                // The caller gets the writable view, so that it has no key; the executable one is kept for later.
                let mapper = self.space.mapper().without(Hardening::KEYS);
                let views = mapper.map(round_up(size, self.page_size()), Memory::Dual, None)?;
                Region { executable_view: views.address, ..Region::new(Kind::Data, views.writable, size) }
            } else {
                let views = self.space.map(size, Memory::Private(Protection::RW))?;
                Region::new(Kind::Data, views.address, size)
            };
            self.space.register(region, Protection::RW)
        })
    }

    /// Read-write memory of `size` bytes wholly within `max_distance` bytes of `target`: data that code there refers
    /// to. Where private pages can't become executable, it stays data. Returns its address.
    pub fn alloc_rw_near(&self, size: i64, target: i64, max_distance: i64) -> Result<usize> {
        let reach = Reach::new(target, max_distance)?;
        let size = self.space.allocation_size(size)?;
        self.alloc_by_policy(size, |_| {
            let memory = Memory::Private(Protection::RW);
            let views = self.space.latest_near.map(reach, self.space.mapper(), size, memory)?;
            self.space.register(Region::new(Kind::Data, views.address, size), Protection::RW)
        })
    }

    /// Memory of the policy, which is in force as soon as the first is there: a shortage chooses nothing.
    fn alloc_by_policy(&self, size: usize, alloc: impl Fn(Policy) -> Result<usize>) -> Result<usize> {
        loop {
            let (wish, policy) = self.space.policy.tried_out(self.space.platform)?;
            let address = alloc(policy)?;
            if self.space.policy.put_in_force(wish, policy)? == policy {
                return Ok(address);
            }
            // Another thread's first memory came with another policy, meanwhile.
            self.release(Wanted::ExecMemory(Span::from_parts(address, size)))?;
        }
    }

    /// Frees memory of [`alloc_exec`](Self::alloc_exec) or [`alloc_rw`](Self::alloc_rw): its base, and
    /// the size that was requested, or that rounded up to pages.
    pub fn free_exec(&self, address: i64, size: i64) -> Result {
        self.release(Wanted::ExecMemory(Span::new(address, size)?))
    }

    /// Seals code memory: nobody can change or free it any more, neither this library nor the rest of the process. Takes
    /// what [`free_exec`](Self::free_exec) does; no page may be writable. A view by which it could be written goes.
    pub fn seal(&self, address: i64, size: i64) -> Result {
        let wanted = Wanted::ExecMemory(Span::new(address, size)?);
        let mut claim = self.space.registry.claim(wanted, Access::Exclusive)?;
        let pages = claim.region().pages(self.page_size());
        if !claim.region().is_sealed {
            drop(claim);
            claim = self.space.claim_to_write(wanted, Access::Exclusive)?;
            if self.has_write_switch(claim.region()) {
                return Err(Error::Unsupported);
            }
            if !claim.all_pages(pages, &|page| !page.contains(Protection::WRITE)) {
                return Err(Error::WrongProtection);
            }
            // Recorded before: a fork in between leaves the region alone.
            claim.record_sealed(true);
            // SAFETY: the pages are the region's, whose claim is exclusive; the caller wants no change any more.
            unsafe { self.space.platform.seal(self.space.registry.whole(claim.region(), pages)) }
                .inspect_err(|_| claim.record_sealed(false))?;
        }
        // If one can't be unmapped, another call tries it again.
        while let Some((view, _)) = claim.region().other_views(self.page_size()).next() {
            // SAFETY: the claim is exclusive, and what this view was for is refused from now on.
            unsafe { claim.release_view(view) }?;
            self.space.counters.unmapped(view.length());
        }
        Ok(())
    }

    /// Unmaps a region.
    pub(super) fn release(&self, wanted: Wanted) -> Result {
        let claim = self.space.registry.claim(wanted, Access::Exclusive)?;
        if P::CAN_SEAL && claim.region().is_sealed {
            return Err(Error::Refused);
        }
        if !self.space.platform.has_announced() {
            return self.release_claimed(claim);
        }
        let pages = claim.region().pages(self.page_size());
        self.space.end_code(|| Some(pages), || self.release_claimed(claim))
    }

    fn release_claimed(&self, claim: Claim<'_, P>) -> Result {
        let region = *claim.region();
        let was_fetched = !region.published.is_empty() && self.space.platform.may_run_on_other_cores();
        let unmapped = self.space.freed_code.unmap(was_fetched, || {
            // SAFETY: the claim is exclusive, so nothing of ours uses the pages; nobody else may, by the caller's own word.
            unsafe { claim.release() }
        })?;
        self.space.counters.released(&region, unmapped);
        Ok(())
    }
}
