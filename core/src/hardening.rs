//! Hardening that a program asks for, chosen once for each process, and how regions are mapped with it.

use crate::error::{Error, Result};
use crate::platform::{Memory, Platform, Views};
use crate::protection::Hardening;
use crate::sync::{AtomicI32, Ordering};

/// The process's choice: open until the first region is about to be mapped, then fixed.
pub(crate) struct Chosen(AtomicI32);

/// Beside the wish: it is in force.
const IN_FORCE: i32 = 1 << 30;

impl Chosen {
    pub(crate) const fn new() -> Self {
        Self(AtomicI32::new(0))
    }

    /// What is on, or wished for.
    pub(crate) fn get(&self) -> Hardening {
        Hardening::from_bits_truncate(self.0.load(Ordering::Acquire))
    }

    /// Sets the wish, if the system can do all of it. Once one is in force only that one is accepted.
    pub(crate) fn set(&self, wish: Hardening, platform: impl Platform) -> Result {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            if seen & IN_FORCE != 0 {
                return if seen == wish.bits() | IN_FORCE { Ok(()) } else { Err(Error::Refused) };
            }
            platform.try_hardening(wish)?;
            match self.0.compare_exchange(seen, wish.bits(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => seen = other,
            }
        }
    }

    /// How regions are mapped: as was wished for. From now on that is so for all.
    pub(crate) fn mapper<P: Platform>(&self, platform: P) -> Mapper<P> {
        if P::HARDENING.is_empty() {
            return Mapper { platform, hardening: Hardening::empty() };
        }
        if self.0.load(Ordering::Acquire) & IN_FORCE == 0 {
            self.0.fetch_or(IN_FORCE, Ordering::AcqRel);
        }
        Mapper { platform, hardening: self.get() }
    }
}

/// What regions are mapped by.
#[derive(Clone, Copy)]
pub(crate) struct Mapper<P> {
    pub(crate) platform: P,
    pub(crate) hardening: Hardening,
}

impl<P: Platform> Mapper<P> {
    /// Without some of it.
    pub(crate) fn without(self, hardening: Hardening) -> Self {
        Self { hardening: self.hardening.difference(hardening), ..self }
    }

    /// Bytes without access before and behind each view of a region.
    pub(crate) fn guard(self) -> usize {
        match P::HARDENING.contains(Hardening::GUARDS) && self.hardening.contains(Hardening::GUARDS) {
            true => self.platform.page_size(),
            false => 0,
        }
    }

    /// As [`Pages::map`](crate::platform::Pages::map).
    pub(crate) fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views> {
        match P::HARDENING.is_empty() || self.hardening.is_empty() {
            true => self.platform.map(length, memory, at),
            false => self.platform.map_hardened(length, memory, at, self.hardening),
        }
    }

    /// Unmaps what was just mapped. What can't be unmapped is lost, and nothing else is.
    ///
    /// # Safety
    /// [`map`](Self::map) gave the views for this length, and nobody uses them.
    pub(crate) unsafe fn unmap(self, views: Views, length: usize) {
        // SAFETY: the caller's promise; each view lies between its guards.
        unsafe { views.widened(self.guard()).unmap(length + 2 * self.guard(), self.platform) };
    }
}
