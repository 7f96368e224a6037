//! Forking. An adapter on a system with `fork` calls the three methods around each one.
//!
//! The thread that forks takes the locks that guard records, and waits for nothing else: not for operations on regions,
//! and in a heap at most for the piece of a write, or the copy of a chunk, that another thread is in the middle of. The
//! locks' order is that of [`Runtime::before_fork`]; other threads hold several shards of a heap at most, in the order of
//! their numbers, and then the registry.
//!
//! Dual memory stays in common until somebody writes to it ([`separation`](crate::space)), but for what may
//! be written at this very moment without asking: pages that callers can store to, views that were handed out, and
//! regions that an operation is using. Of those the parent makes a private copy before the fork, which the child moves
//! to memory of its own. Where there was no memory for it the child's region loses all access: code that fails to run
//! is better than code that another process can change.
//!
//! Of a region that is *withheld* (`Advice::DontFork`) the system gives a child nothing. So nothing is copied of it, it is not
//! in common afterwards, and the child forgets it.
//!
//! Pages behind a write switch may stay with the parent: that depends on the system and on the kind of
//! program, so the child looks. What it doesn't have it keeps as regions without any access, so that it can free
//! them: calls into them fail as *not executable*. Code heaps of such pages start anew; where their chunks
//! were nothing else is ever mapped, so that no address of an old block comes to be a new one's.

use super::Runtime;
use crate::error::Result;
use crate::memory::Index;
use crate::platform::{Memory, Platform, Views};
use crate::protection::Protection;
use crate::registry::{Forked, Frozen, Record, Region};
use crate::span::Span;
use crate::sync::Ordering;
use core::ops::ControlFlow;

impl<P: Platform> Runtime<P> {
    /// Takes all locks, so that no record is in the middle of a change, and copies what can't wait.
    ///
    /// Handlers of the program's own may write in this thread until the process has forked, and on both sides
    /// before ours run. What they write then is copied each time, and again after the fork.
    ///
    /// False, with nothing done: this is a signal handler, and the thread had one of the locks when the signal came. It
    /// would wait for itself.
    #[must_use]
    pub fn before_fork(&self) -> bool {
        let platform = self.space.platform;
        let (values, regions) = (&self.values.contents, &self.space.registry.records);
        if values.is_own(platform) || self.heaps.has_own_lock(platform) || regions.is_own(platform) {
            return false;
        }
        values.lock_for_fork(platform);
        self.heaps.lock_for_fork(platform);
        regions.lock_for_fork(platform);
        self.space.fork_is_under_way.store(true, Ordering::Release);
        // SAFETY: this thread has taken the lock just now.
        let mut frozen = unsafe { self.space.registry.frozen() };
        let mut next = 0;
        while let Some((index, record)) = frozen.next_from(next) {
            next = index + 1;
            let region = record.region;
            if !region.has_several_views() || region.is_sealed || region.forked.contains(Forked::WITHHELD) {
                continue;
            }
            if !self.may_be_stored_to(&frozen, index, &record) {
                self.heaps.chunk_of(&region).into_iter().for_each(|chunk| chunk.mark_in_common());
                frozen.update(index, |region| {
                    region.forked.insert(Forked::IN_COMMON);
                    region.forked.remove(Forked::LACKS_COPY);
                });
                continue;
            }
            // The child will have a copy, or no access: whose the memory is does not change.
            let source = region.shown(self.page_size());
            let copied = self.copy_used(&region, source, Memory::Private(Protection::RW)).and_then(|copy| {
                // SAFETY: mapped just now, and nobody has seen it.
                unsafe { frozen.keep_copy(index, Span::from_parts(copy.address, source.length())) }
            });
            frozen.update(index, |region| region.forked.set(Forked::LACKS_COPY, copied.is_err()));
        }
        true
    }

    /// Lets other threads go on.
    ///
    /// # Safety
    /// This thread called [`before_fork`](Self::before_fork), which said yes, and did not fork or is the parent.
    pub unsafe fn after_fork_in_parent(&self) {
        self.space.fork_is_under_way.store(false, Ordering::Release);
        // SAFETY: the locks are held since `before_fork`; what they guard is not in use any more.
        unsafe {
            self.space.registry.frozen().take_copies(|_, _, _, _| {});
            self.unlock_after_fork();
        }
    }

    /// Makes a child's records say what it has, and gives it memory of its own where that can't wait.
    ///
    /// # Safety
    /// This thread is the copy, in a forked child, of one that called [`before_fork`](Self::before_fork), which said yes.
    /// No other thread of the child uses this runtime yet.
    pub unsafe fn after_fork_in_child(&self) {
        self.space.fork_is_under_way.store(false, Ordering::Release);
        // SAFETY: the locks are held since `before_fork`.
        let mut frozen = unsafe { self.space.registry.frozen() };
        let mut next = 0;
        while let Some((index, Record { region, usage })) = frozen.next_from(next) {
            next = index + 1;
            if region.forked.contains(Forked::WITHHELD) {
                // Nothing is there, or what the program's own handlers have mapped since.
                frozen.forget(index);
                self.space.platform.forget_announced(region.pages(self.page_size()));
            } else if region.is_sealed {
                // The child's pages are sealed as well, and what the records say of them is so.
            } else if frozen.is_being_unmapped(index, &region) {
                frozen.forget(index);
            } else if self.has_write_switch(&region) {
                self.revise_code_behind_switch(&mut frozen, index, &region);
            } else if !region.has_several_views() {
                if usage.is_exclusive() {
                    self.restore_protection(&mut frozen, &region);
                }
            } else if region.forked.contains(Forked::LACKS_COPY) {
                self.withdraw_access(&mut frozen, index, &region);
            }
        }
        frozen.take_copies(|frozen, copied, index, region| {
            self.heaps.chunk_of(&region).into_iter().for_each(|chunk| chunk.change_memory());
            let copy = self.copy_used(&region, copied, Memory::Dual);
            // SAFETY: the region holds what it held when the copy was made, but for what handlers before the fork wrote
            // to both; no other thread runs.
            if copy.and_then(|copy| unsafe { self.space.show(copy, &region) }).is_err() {
                self.withdraw_access(frozen, index, &region);
            }
        });
        frozen.void_claims();
        self.space.freed_code.forget_threads();
        self.space.counters.count_anew(frozen.regions(), self.page_size());
        // SAFETY: this thread is the copy of the one that took the locks; `frozen` is not used any more.
        unsafe {
            self.heaps.recover(&self.space.registry, self.space.platform);
            self.unlock_after_fork();
        }
    }

    /// # Safety
    /// As for [`after_fork_in_parent`](Self::after_fork_in_parent).
    unsafe fn unlock_after_fork(&self) {
        // SAFETY: the caller's promise.
        unsafe {
            self.space.registry.records.unlock_after_fork(self.space.platform);
            self.heaps.unlock_after_fork(self.space.platform);
            self.values.contents.unlock_after_fork(self.space.platform);
        }
    }

    /// Whether somebody may be storing to a region's shared memory at this moment.
    fn may_be_stored_to(&self, frozen: &Frozen<'_, P>, index: Index, record: &Record) -> bool {
        let region = &record.region;
        if frozen.is_being_unmapped(index, region) || region.forked.contains(Forked::WITHDRAWN) {
            return false;
        }
        if let Some(chunk) = self.heaps.chunk_of(region) {
            return chunk.is_lent();
        }
        let mut runs = self.space.registry.runs(region.pages(self.page_size()));
        record.usage.is_in_use() || runs.any(|(_, page)| page.protection.contains(Protection::WRITE))
    }

    /// Copies what a region's memory holds from `source`, a view or a copy of all of it.
    fn copy_used(&self, region: &Region, source: Span, memory: Memory) -> Result<Views> {
        let shift = source.start().wrapping_sub(region.shown(self.page_size()).start());
        let moved = |part: Span| Span::from_parts(part.start().wrapping_add(shift), part.length());
        // SAFETY: this thread holds the locks, which keep the region. Others may be storing to a view of it directly: each
        // byte that they store at this moment is in the copy or not, as it would be in a private page.
        unsafe {
            match self.heaps.chunk_of(region) {
                Some(chunk) => self.space.copy(source, chunk.written_parts().map(moved), memory),
                None => self.space.copy(source, core::iter::once(source), memory),
            }
        }
    }

    fn withdraw_access(&self, frozen: &mut Frozen<'_, P>, index: Index, region: &Region) {
        frozen.update(index, |region| region.forked.insert(Forked::WITHDRAWN));
        for view in region.all_views(self.page_size()) {
            // SAFETY: the pages are this region's. If even this fails, nothing is left to try.
            let _ = unsafe { self.space.platform.protect(view, Protection::NONE) };
            frozen.record_no_access(view);
        }
    }

    /// Another thread was about to change the pages' protection, or had changed some: they get what is recorded.
    fn restore_protection(&self, frozen: &mut Frozen<'_, P>, region: &Region) {
        for (run, page) in self.space.registry.runs(region.pages(self.page_size())) {
            // SAFETY: the pages are this region's, and no other thread runs.
            if unsafe { self.space.platform.protect(run, page.protection) }.is_err() {
                frozen.record_no_access(run);
            }
        }
    }

    /// Takes all access from a region behind a write switch whose pages the child has not got, unless an earlier
    /// fork took it. Where its addresses can't be reserved they may be somebody else's by now, and it is forgotten.
    fn revise_code_behind_switch(&self, frozen: &mut Frozen<'_, P>, index: Index, region: &Region) {
        let pages = region.pages(self.page_size());
        let page = self.space.registry.page(region.base);
        let had_access = page.is_some_and(|page| page.protection != Protection::NONE);
        if !had_access || self.has_code(pages) {
            return;
        }
        match self.reserve(pages) {
            true => frozen.record_absent(pages),
            false => frozen.forget(index),
        }
    }

    /// Whether the system has mapped executable memory at all of these pages. If in doubt, no.
    fn has_code(&self, pages: Span) -> bool {
        let mut known = pages.start();
        let looked = self.space.platform.mappings(known, &mut |mapping| {
            if mapping.start > known || !mapping.protection.contains(Protection::EXEC) {
                return ControlFlow::Break(());
            }
            known = mapping.end;
            if known < pages.end() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        looked.is_ok() && known >= pages.end()
    }

    /// Takes free addresses, so that nobody else gets them. Whether that was possible.
    fn reserve(&self, pages: Span) -> bool {
        let nothing = Memory::Private(Protection::NONE);
        let Ok(views) = self.space.platform.map(pages.length(), nothing, Some(pages.start())) else {
            return false;
        };
        if views.address != pages.start() {
            // SAFETY: mapped just now, and nobody has seen it.
            unsafe { views.unmap(pages.length(), self.space.platform) };
        }
        views.address == pages.start()
    }
}
