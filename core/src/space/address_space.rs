//! The address space: mapping, entering and changing pages, whatever they are for.

use super::counters::Counters;
use super::freed_code::FreedCode;
use crate::error::{Error, Result};
use crate::hardening::{Chosen, Mapper};
use crate::near::Latest;
use crate::platform::{Memory, PageRequest, Platform, Views};
use crate::policy::Choice;
use crate::protection::{Hardening, Protection};
use crate::registry::{Region, Registry};
use crate::span::{Span, round_up};
use crate::sync::{AtomicBool, AtomicUsize, Ordering};
use core::ptr;

/// The address space of a process, and what this library has in it.
pub(crate) struct AddressSpace<P: Platform> {
    pub(crate) platform: P,
    pub(crate) registry: Registry<P>,
    pub(crate) policy: Choice,
    pub(crate) hardening: Chosen,
    pub(crate) freed_code: FreedCode,
    pub(crate) counters: Counters,
    /// Of regions.
    pub(crate) latest_near: Latest,
    /// The most bytes that a single allocation may have; 0 stands for physical memory.
    limit: AtomicUsize,
    /// Whether a thread is between the handlers that it runs before and after a fork.
    pub(crate) fork_is_under_way: AtomicBool,
}

impl<P: Platform> AddressSpace<P> {
    pub(crate) const fn new(platform: P) -> Self {
        Self {
            platform,
            registry: Registry::new(platform),
            policy: Choice::new(),
            hardening: Chosen::new(),
            freed_code: FreedCode::new(),
            counters: Counters::new(),
            latest_near: Latest::new(),
            limit: AtomicUsize::new(0),
            fork_is_under_way: AtomicBool::new(false),
        }
    }

    pub(crate) fn page_size(&self) -> usize {
        self.platform.page_size()
    }

    /// Sets the limit for a single allocation in bytes.
    pub(crate) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// A requested size as a number of bytes, checked against the limit.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn allocation_size(&self, size: i64) -> Result<usize> {
        let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or(Error::InvalidArgument)?;
        let limit = match self.limit.load(Ordering::Relaxed) {
            0 => self.platform.physical_memory(),
            limit => limit,
        };
        if size > limit { Err(Error::OverLimit) } else { Ok(size) }
    }

    /// What regions are mapped by. Whoever asks is about to map one.
    pub(crate) fn mapper(&self) -> Mapper<P> {
        self.hardening.mapper(self.platform)
    }

    /// What pages of code allow that allow so much, with the hardening that was wished for.
    pub(crate) fn hardened(&self, code: Protection) -> Protection {
        match P::HARDENING.contains(Hardening::BTI) && self.hardening.get().contains(Hardening::BTI) {
            true => code | Protection::BTI,
            false => code,
        }
    }

    /// Maps pages for `size` bytes of a region, anywhere.
    pub(crate) fn map(&self, size: usize, memory: Memory) -> Result<Views> {
        self.mapper().map(round_up(size, self.page_size()), memory, None)
    }

    /// Enters a freshly mapped region. If that can't be, its pages are unmapped again.
    pub(crate) fn register(&self, mut region: Region, protection: Protection) -> Result<usize> {
        let page_size = self.page_size();
        region.is_guarded = !region.kind.is_mapping() && self.mapper().guard() != 0;
        let mut entered = Ok(());
        if P::HARDENING.contains(Hardening::BTI) && protection.contains(Protection::BTI) {
            // What is mapped allows no more than the policy says.
            // SAFETY: nobody has seen these pages.
            entered = unsafe { self.platform.protect(region.pages(page_size), protection) };
        }
        if let Err(error) = entered.and_then(|()| self.registry.insert(region, protection)) {
            for view in region.all_views(page_size).map(|view| self.registry.whole(&region, view)) {
                // SAFETY: nobody has seen these pages. If even this fails they are lost, and nothing else is.
                let _ = unsafe { self.platform.unmap(view) };
            }
            return Err(error);
        }
        self.counters.entered(&region, page_size);
        Ok(region.base)
    }

    /// Ends code. What was said about it goes before, since the records of an unwinder may lie in it, and comes back if
    /// `end` fails. With nobody listening that costs a look at one word. Calls of other libraries are made here: the
    /// caller holds no lock.
    // Where nobody can listen nothing is left of it.
    #[inline(always)]
    pub(crate) fn end_code<T>(
        &self,
        code: impl FnOnce() -> Option<Span>,
        end: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.platform.has_announced() {
            return end();
        }
        let Some(code) = code() else { return end() };
        let (mut end, mut result) = (Some(end), Err(Error::NotOwned));
        self.platform.while_retracted(code, &mut || {
            if let Some(end) = end.take() {
                result = end();
            }
            result.is_ok()
        });
        result
    }

    /// Brings in pages of code memory. Touching one that the system has no memory for would end the process.
    ///
    /// # Safety
    /// The pages are mapped by this library, and stay so meanwhile.
    pub(crate) unsafe fn populate(&self, pages: Span, for_write: bool) -> Result {
        // SAFETY: the caller's promise; populating changes no contents.
        match unsafe { self.platform.request(pages, PageRequest::Populate { for_write }) } {
            Ok(()) | Err(Error::Unsupported) => Ok(()),
            // What a file would be too short for.
            Err(Error::Io) => Err(Error::NoMemory),
            Err(error) => Err(error),
        }
    }

    /// Writes while pages are read-write. If they can't be made what they were again they stay read-write, and the
    /// registry says so.
    ///
    /// # Safety
    /// The pages are a live region's, and nobody else changes their protection meanwhile.
    pub(crate) unsafe fn flip(&self, pages: Span, write: &mut dyn FnMut()) -> Result {
        self.registry.prepare(pages)?;
        // SAFETY: the pages are a region's, and the caller's alone.
        let protect = |pages, protection| unsafe { self.platform.protect(pages, protection) };
        let (at, changed) = self.change_runs(pages, Protection::RW, &protect);
        if changed.is_ok() {
            write();
        }
        changed.and(self.restore_runs(pages, Protection::RW, at, &protect))
    }

    /// Gives pages of a region another protection than the registry says. Pages before the address that it returns have
    /// it then. If it fails, the run of equal pages that starts there may have it in part.
    pub(crate) fn change_runs(
        &self,
        pages: Span,
        step: Protection,
        apply: &dyn Fn(Span, Protection) -> Result,
    ) -> (usize, Result) {
        for (run, page) in self.registry.runs(pages) {
            // A system may refuse EXEC even to pages that have it.
            let applied = if page.protection == step { Ok(()) } else { apply(run, step) };
            if applied.is_err() {
                return (run.start(), applied);
            }
        }
        (pages.end(), Ok(()))
    }

    /// Puts back what the registry says, after a change that came to an address. The pages had these protections
    /// before, so the system has no new ground to refuse them, and a momentary shortage gets a second chance; if it
    /// does all the same, the registry learns what they are left with.
    pub(crate) fn restore_runs(
        &self,
        pages: Span,
        step: Protection,
        at: usize,
        apply: &dyn Fn(Span, Protection) -> Result,
    ) -> Result {
        let mut result = Ok(());
        for (run, page) in self.registry.runs(pages).take_while(|(run, _)| run.start() <= at) {
            let restored = apply(run, page.protection).or_else(|_| apply(run, page.protection));
            if restored.is_err() && run.start() < at {
                self.registry.record(run, step);
                result = restored;
            }
        }
        result
    }

    /// Whether an address of the caller's may be in a mapped file.
    pub(crate) fn may_be_files(&self, address: usize) -> bool {
        self.counters.files.get() != 0 && self.registry.page(address).is_some()
    }

    /// Copies bytes of the caller's to memory that is writable. Where they lie in memory of ours it may be a mapped file's,
    /// which others may truncate.
    ///
    /// `own` is the memory that is written, at `at`, which is seen at `target`. Bytes of the same memory are read where it is
    /// written: nothing else shows that the two overlap.
    ///
    /// # Safety
    /// `source` is readable, by its protection, and `target` writable, for `length` bytes. They may overlap. At the same
    /// distance from `target` all of `own` is readable.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) unsafe fn copy_into(
        &self,
        own: Span,
        at: usize,
        source: *const u8,
        target: usize,
        length: usize,
    ) -> Result {
        let mut from = source.expose_provenance();
        if own.start() <= from && from < own.end() && length <= own.end() - from {
            from = from.wrapping_add(target.wrapping_sub(at));
        }
        // SAFETY: the caller's promise.
        unsafe {
            if self.may_be_files(from) {
                return self.platform.copy_guarded(from, target, length);
            }
            ptr::copy(
                ptr::with_exposed_provenance::<u8>(from),
                ptr::with_exposed_provenance_mut(target),
                length,
            );
        }
        Ok(())
    }
}
