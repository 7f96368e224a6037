//! Allocating and freeing code memory.

use super::Runtime;
use crate::error::Error;
use crate::near::Reach;
use crate::platform::{Memory, Platform, Views};
use crate::policy::Policy;
use crate::protection::Protection;
use crate::registry::{Access, Kind, Region};
use crate::span::{Span, round_up};

impl<P: Platform> Runtime<P> {
    /// Memory of `size` bytes that can be written through this library and executed, as the policy
    /// provides it. Returns its address.
    pub fn alloc_exec(&self, size: i64) -> Result<usize, Error> {
        self.alloc_code(size, None)
    }

    /// As [`alloc_exec`](Self::alloc_exec), wholly within `max_distance` bytes of `target`.
    pub fn alloc_exec_near(&self, size: i64, target: i64, max_distance: i64) -> Result<usize, Error> {
        let reach = Reach::new(target, max_distance)?;
        self.alloc_code(size, Some(reach))
    }

    fn alloc_code(&self, size: i64, reach: Option<Reach>) -> Result<usize, Error> {
        let size = self.allocation_size(size)?;
        let policy = self.policy.fix(self.platform)?;
        let views = self.map(size, policy.code_memory(), reach)?;
        let region = Region { writable_view: views.writable, ..Region::new(Kind::Code, views.address, size) };
        self.register(region, policy.code_protection())
    }

    /// Read-write memory of `size` bytes, to be made executable later. Returns its address.
    pub fn alloc_rw(&self, size: i64) -> Result<usize, Error> {
        let size = self.allocation_size(size)?;
        let policy = self.policy.fix(self.platform)?;
        let region = if policy == Policy::Dual && !self.policy.can_add_exec(self.platform)? {
            // The caller gets the writable view; the executable one is kept for later.
            let views = self.map(size, Memory::Dual, None)?;
            Region { executable_view: views.address, ..Region::new(Kind::Data, views.writable, size) }
        } else {
            let views = self.map(size, Memory::Private(Protection::RW), None)?;
            Region::new(Kind::Data, views.address, size)
        };
        self.register(region, Protection::RW)
    }

    /// Frees memory of [`alloc_exec`](Self::alloc_exec) or [`alloc_rw`](Self::alloc_rw): its base, and
    /// the size that was requested, or that rounded up to pages.
    pub fn free_exec(&self, address: i64, size: i64) -> Result<(), Error> {
        let page_size = self.page_size();
        self.release(Span::new(address, size)?, |region, given| {
            if !region.kind.is_exec_memory() {
                Err(Error::NotOwned)
            } else if given == region.size || given == round_up(region.size, page_size) {
                Ok(())
            } else {
                Err(Error::WrongSize)
            }
        })
    }

    /// Unmaps the region whose base is the span's start, if `check` accepts it and the given size.
    pub(super) fn release(
        &self,
        span: Span,
        check: impl Fn(&Region, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let check = |region: &Region| match region.base == span.start() {
            true => check(region, span.length()),
            false => Err(Error::NotOwned),
        };
        let claim = self.registry.claim_if(span.start(), Access::Exclusive, self.platform, check)?;
        let region = *claim.region();
        let was_fetched = region.was_published && self.platform.may_run_on_other_cores();
        let unmapped = self.freed_code.unmap(was_fetched, || {
            // SAFETY: the claim is exclusive and the pages are the region's own, hidden from lookups.
            claim.release(|pages| unsafe { self.platform.unmap(pages) })
        })?;
        self.counters.unmapped(unmapped);
        if region.kind.is_exec_memory() {
            self.counters.freed(region.size);
        }
        Ok(())
    }

    /// Enters a freshly mapped region. If there is no memory for that, its pages are unmapped again.
    pub(crate) fn register(&self, region: Region, protection: Protection) -> Result<usize, Error> {
        let page_size = self.page_size();
        if let Err(error) = self.registry.insert(region, protection, self.platform) {
            for view in region.all_views(page_size) {
                // SAFETY: nobody has seen these pages. If even this fails they are lost, and nothing else is.
                let _ = unsafe { self.platform.unmap(view) };
            }
            return Err(error);
        }
        self.counters.mapped(region.all_views(page_size).map(Span::length).sum());
        if region.kind.is_exec_memory() {
            self.counters.allocated(region.size);
        }
        Ok(region.base)
    }

    /// Maps pages for `size` bytes, anywhere or within reach.
    fn map(&self, size: usize, memory: Memory, reach: Option<Reach>) -> Result<Views, Error> {
        let length = round_up(size, self.page_size());
        match reach {
            None => self.platform.map(length, memory, None),
            Some(reach) => reach.map(self.platform, size, memory),
        }
    }

    /// A requested size as a number of bytes, checked against the limit.
    pub(crate) fn allocation_size(&self, size: i64) -> Result<usize, Error> {
        match usize::try_from(size) {
            Ok(0) | Err(_) => Err(Error::InvalidArgument),
            Ok(size) => self.check_limit(size).map(|()| size),
        }
    }
}
