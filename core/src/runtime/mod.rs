//! The operations of the contract, each a method that reads as its story.
//!
//! [`Runtime`] holds a process's regions, its policy and its counters. The C symbols are thin shells
//! around these methods ([`crate::abi`]); Rust callers use them directly and get a [`Result`].

mod access;
mod atfork;
mod exec_memory;
mod files;
mod fork;
mod freed_code;
mod protect;
mod separation;

pub use atfork::AtFork;
pub use files::MapRequest;

use crate::code_heap::Heaps;
use crate::error::Error;
use crate::platform::Platform;
use crate::policy::{Choice, Policy};
use crate::registry::{Kind, Region, Registry};
use crate::report::Counters;
use crate::span::Span;
use crate::value::Values;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use freed_code::FreedCode;

/// A process's code memory and mapped files. One lives in a static of each adapter; tests make their own.
pub struct Runtime<P: Platform> {
    pub(crate) platform: P,
    pub(crate) registry: Registry,
    pub(crate) heaps: Heaps,
    pub(crate) policy: Choice,
    /// The most bytes that a single allocation may have; 0 stands for physical memory.
    limit: AtomicUsize,
    pub(crate) freed_code: FreedCode,
    /// Twice the number of forks, and odd around one: see [`separation`].
    epoch: AtomicU32,
    /// Whether there was no memory to note what became of a copy for a child.
    has_missing_notes: AtomicBool,
    /// Whether this process is a forked child that could not get memory of its own for all views.
    pub(crate) has_withdrawn_views: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) values: Values<P>,
}

impl<P: Platform> Runtime<P> {
    /// A runtime without any region.
    pub const fn new(platform: P) -> Self {
        Self {
            platform,
            registry: Registry::new(),
            heaps: Heaps::new(),
            policy: Choice::new(),
            limit: AtomicUsize::new(0),
            freed_code: FreedCode::new(),
            epoch: AtomicU32::new(0),
            has_missing_notes: AtomicBool::new(false),
            has_withdrawn_views: AtomicBool::new(false),
            counters: Counters::new(),
            values: Values::new(platform),
        }
    }

    /// Bytes in a page of the running system.
    pub fn page_size(&self) -> usize {
        self.platform.page_size()
    }

    /// The policy in force, or the one that is wished for as long as nothing was allocated. *Unknown policy* if
    /// that is a name in `EXECMEM_POLICY` which is none.
    pub fn policy(&self) -> Result<Policy, Error> {
        self.policy.get(self.platform)
    }

    /// Wishes for a policy, instead of what `EXECMEM_POLICY` says. Once one is in force any other is
    /// *refused*.
    pub fn set_policy(&self, policy: Policy) -> Result<(), Error> {
        self.policy.set(policy)
    }

    /// Sets the limit for a single allocation in bytes.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Whether the region's pages are behind the write switch of each thread: code memory of policy `jit`. Of
    /// code heaps all those without a second view have the process's policy.
    fn has_write_switch(&self, region: &Region) -> bool {
        let is_code = matches!(region.kind, Kind::Code | Kind::HeapChunk) && !region.has_several_views();
        is_code && self.policy.get(self.platform) == Ok(Policy::Jit)
    }

    /// The range of an operation on pages. `None`: it is empty, and in a live region or at its end.
    fn page_range(&self, address: i64, size: i64) -> Result<Option<Span>, Error> {
        Span::unless_empty(address, size, |address| {
            let page = self.registry.page(address as usize);
            page.is_some_and(|page| !page.is_other_view && page.chunk == 0)
        })
    }

    /// Checks the size of a single allocation against the limit.
    fn check_limit(&self, size: usize) -> Result<(), Error> {
        let limit = match self.limit.load(Ordering::Relaxed) {
            0 => self.platform.physical_memory(),
            limit => limit,
        };
        if size > limit { Err(Error::OverLimit) } else { Ok(()) }
    }

    /// Notes a failed call: the thread's last error and the count of failures.
    #[cold]
    #[inline(never)]
    pub fn note_failure(&self, error: Error) {
        self.counters.failed_calls.fetch_add(1, Ordering::Relaxed);
        self.platform.set_last_error(error as i32);
    }
}
