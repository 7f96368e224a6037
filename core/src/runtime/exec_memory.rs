//! Allocating and freeing code memory.

use super::Runtime;
use crate::error::Error;
use crate::near::Reach;
use crate::platform::{Memory, Platform, Views};
use crate::policy::Policy;
use crate::protection::Protection;
use crate::registry::{Access, Kind, Region, Wanted};
use crate::span::{Span, round_up};

impl<P: Platform> Runtime<P> {
    /// Memory of `size` bytes that can be written through this library and executed, as the policy
    /// provides it. Returns its address.
    pub fn alloc_exec(&self, size: i64) -> Result<usize, Error> {
        self.alloc_code(size, |size, memory| self.map(size, memory))
    }

    /// As [`alloc_exec`](Self::alloc_exec), wholly within `max_distance` bytes of `target`.
    pub fn alloc_exec_near(&self, size: i64, target: i64, max_distance: i64) -> Result<usize, Error> {
        let reach = Reach::new(target, max_distance)?;
        self.alloc_code(size, |size, memory| reach.map(self.platform, size, memory))
    }

    fn alloc_code(
        &self,
        size: i64,
        map: impl FnOnce(usize, Memory) -> Result<Views, Error>,
    ) -> Result<usize, Error> {
        let size = self.allocation_size(size)?;
        let policy = self.policy.fix(self.platform)?;
        let views = map(size, policy.code_memory())?;
        let epoch = self.epoch();
        let region =
            Region { writable_view: views.writable, epoch, ..Region::new(Kind::Code, views.address, size) };
        self.register(region, policy.code_protection())
    }

    /// Read-write memory of `size` bytes, to be made executable later. Returns its address.
    pub fn alloc_rw(&self, size: i64) -> Result<usize, Error> {
        let size = self.allocation_size(size)?;
        let policy = self.policy.fix(self.platform)?;
        let region = if policy == Policy::Dual && !self.policy.can_add_exec(self.platform)? {
            self.check_not_forking()?;
            // The caller gets the writable view; the executable one is kept for later.
            let views = self.map(size, Memory::Dual)?;
            let epoch = self.epoch();
            Region { executable_view: views.address, epoch, ..Region::new(Kind::Data, views.writable, size) }
        } else {
            let views = self.map(size, Memory::Private(Protection::RW))?;
            Region::new(Kind::Data, views.address, size)
        };
        self.register(region, Protection::RW)
    }

    /// Frees memory of [`alloc_exec`](Self::alloc_exec) or [`alloc_rw`](Self::alloc_rw): its base, and
    /// the size that was requested, or that rounded up to pages.
    pub fn free_exec(&self, address: i64, size: i64) -> Result<(), Error> {
        self.release(Wanted::ExecMemory(Span::new(address, size)?))
    }

    /// Unmaps a region.
    pub(super) fn release(&self, wanted: Wanted) -> Result<(), Error> {
        let claim = self.registry.claim(wanted, Access::Exclusive, self.platform)?;
        let region = *claim.region();
        let was_fetched = !region.published.is_empty() && self.platform.may_run_on_other_cores();
        let unmapped = self.freed_code.unmap(was_fetched, || {
            // SAFETY: the claim is exclusive and the pages are the region's own.
            unsafe { claim.release() }
        })?;
        self.counters.unmapped(unmapped);
        if region.kind.is_exec_memory() {
            self.counters.freed(region.size);
        }
        if region.kind == Kind::File {
            self.counters.count_file(-1);
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
        if region.kind == Kind::File {
            self.counters.count_file(1);
        }
        Ok(region.base)
    }

    /// Maps pages for `size` bytes, anywhere.
    pub(super) fn map(&self, size: usize, memory: Memory) -> Result<Views, Error> {
        self.platform.map(round_up(size, self.page_size()), memory, None)
    }

    /// A requested size as a number of bytes, checked against the limit.
    pub(crate) fn allocation_size(&self, size: i64) -> Result<usize, Error> {
        match usize::try_from(size) {
            Ok(0) | Err(_) => Err(Error::InvalidArgument),
            Ok(size) => self.check_limit(size).map(|()| size),
        }
    }
}
