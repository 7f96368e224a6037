//! The operations of the contract, each a method that reads as its story.
//!
//! [`Runtime`] is the address space with its regions, the code heaps and the values. The C symbols are thin shells
//! around these methods ([`crate::abi`]); Rust callers use them directly and get a [`Result`].

mod access;
mod announce;
pub(crate) mod call;
mod exec_memory;
pub(crate) mod files;
mod fork;
mod protect;
pub(crate) mod report;
mod unwind_records;

use crate::code_heap::{Block, CodeHeap, Heaps, Limits};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::Hardening;
use crate::registry::{Kind, Region};
use crate::space::AddressSpace;
use crate::span::Span;
use crate::value::Values;

/// A process's code memory and mapped files. One lives in a static of each adapter; tests make their own.
///
/// Memory is handed out as a number. Who makes a pointer of it answers for that: also for freeing or changing the
/// memory while the pointer is used. The library's own uses wait for each other.
pub struct Runtime<P: Platform> {
    pub(crate) space: AddressSpace<P>,
    pub(crate) heaps: Heaps,
    pub(crate) values: Values<P>,
}

impl<P: Platform> Runtime<P> {
    /// A runtime without any region.
    pub const fn new(platform: P) -> Self {
        Self { space: AddressSpace::new(platform), heaps: Heaps::new(), values: Values::new(platform) }
    }

    /// Bytes in a page of the running system.
    pub fn page_size(&self) -> usize {
        self.space.page_size()
    }

    /// The policy in force, or the wish while there is none. (A code heap that has two views under `auto` puts no
    /// policy in force.) *Unknown policy* if the wish is a name in `EXECMEM_POLICY` which is none.
    pub fn policy(&self) -> Result<Policy> {
        self.space.policy.get(self.space.platform)
    }

    /// Wishes for a policy, instead of what `EXECMEM_POLICY` says. Once one is in force any other is *refused*.
    pub fn set_policy(&self, policy: Policy) -> Result {
        self.space.policy.set(policy)
    }

    /// What regions and chunks are hardened with, or will be.
    pub fn hardening(&self) -> Hardening {
        self.space.hardening.get()
    }

    /// Hardens all regions and chunks, from the first one on: with all that is wished for, or it is *unsupported*. Once one
    /// was about to be mapped, any other wish is *refused*.
    pub fn set_hardening(&self, wish: Hardening) -> Result {
        self.space.hardening.set(wish, self.space.platform)
    }

    /// Sets the limit for a single allocation in bytes.
    pub fn set_limit(&self, bytes: usize) {
        self.space.set_limit(bytes);
    }

    /// The default code heap: the one of the `rt_code_*` symbols.
    pub fn code_heap(&self) -> CodeHeap<'_, P> {
        CodeHeap::default_of(&self.heaps, &self.space)
    }

    /// A further code heap.
    pub fn new_code_heap(&self, limits: Limits) -> Result<CodeHeap<'_, P>> {
        CodeHeap::new(&self.heaps, &self.space, limits)
    }

    /// Makes up to `budget` bytes of the code of all heaps huge, where nearly all of them are written; 0 makes none. How
    /// many are huge now. For a moment when the program is idle: two mebibytes take some milliseconds.
    pub fn promote(&self, budget: i64) -> Result<usize> {
        let budget = usize::try_from(budget).map_err(|_| Error::InvalidArgument)?;
        self.heaps.promote(budget, None, &self.space)?;
        Ok(self.heaps.huge_bytes())
    }

    /// The live block of any code heap that holds an address. Takes no lock and allocates nothing: a signal
    /// handler, a profiler or an unwinder may ask.
    #[inline]
    pub fn find_block(&self, address: i64) -> Option<Block> {
        self.heaps.find(address, &self.space.registry)
    }

    /// Whether the region's pages are behind the write switch of each thread: code memory of policy `jit`. Of
    /// code heaps all those without a second view have the process's policy.
    fn has_write_switch(&self, region: &Region) -> bool {
        let is_code = P::HAS_WRITE_SWITCH
            && matches!(region.kind, Kind::Code | Kind::HeapChunk)
            && !region.has_several_views();
        is_code && self.policy() == Ok(Policy::Jit)
    }

    /// The range of an operation on pages. `None`: it is empty, and in a live region or at its end.
    fn page_range(&self, address: i64, size: i64) -> Result<Option<Span>> {
        Span::unless_empty(address, size, |address| {
            let page = self.space.registry.page(address as usize);
            page.is_some_and(|page| !page.is_other_view && page.chunk == 0)
        })
    }

    /// Notes a failed call: the thread's last error and the count of failures.
    #[cold]
    #[inline(never)]
    pub fn note_failure(&self, error: Error) {
        self.space.counters.failed_calls.add(1);
        self.space.platform.set_last_error(error as i32);
    }

    /// The code of the calling thread's last failed call; 0 if none has failed.
    pub fn last_error(&self) -> i32 {
        self.space.platform.last_error()
    }
}
