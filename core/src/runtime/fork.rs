//! Forking: a child gets locks that nobody holds, and dual memory of its own.
//!
//! The memory behind two views is shared memory, which a fork shares instead of copying. Left so, what
//! the child writes would run in its parent. An adapter on a system with `fork` calls the three methods
//! around each one.
//!
//! Pages behind a write switch may stay with the parent: that depends on the system and on the kind of
//! program, so the child looks. What it doesn't have it keeps as regions without any access, so that it can free
//! them: calls into them fail as *not executable*. Code heaps of such pages start anew; where their chunks
//! were nothing else is ever mapped, so that no address of an old block comes to be a new one's.

use super::Runtime;
use crate::error::Error;
use crate::platform::{Memory, Platform, View};
use crate::protection::Protection;
use crate::registry::Region;
use crate::span::Span;
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;

impl<P: Platform> Runtime<P> {
    /// Waits until no thread is in the middle of an operation, and keeps it so. Whether a child will have
    /// memory to copy: its parent must not write to that before it is done.
    ///
    /// Whoever forks inside a value operation that this library has called waits for itself.
    pub fn before_fork(&self) -> bool {
        self.values.lock_for_fork();
        self.heaps.lock_for_fork();
        self.registry.lock_for_fork()
    }

    /// Lets other threads go on.
    ///
    /// # Safety
    /// This thread called [`before_fork`](Self::before_fork), or is the copy of the one that did.
    pub unsafe fn after_fork_in_parent(&self) {
        // SAFETY: the locks are held since `before_fork`.
        unsafe {
            self.registry.unlock_after_fork();
            self.heaps.unlock_after_fork();
            self.values.unlock_after_fork();
        }
    }

    /// Gives the child memory of its own. Where there is none left, a region loses all access: code that
    /// fails to run is better than code that another process can change.
    ///
    /// # Safety
    /// As for [`after_fork_in_parent`](Self::after_fork_in_parent); no other thread runs yet.
    pub unsafe fn after_fork_in_child(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.after_fork_in_parent() };
        let page_size = self.page_size();
        let has_lost = self.registry.revise_lost(
            page_size,
            |region| self.has_write_switch(region) && !self.has_code(region.pages(page_size)),
            |pages| self.reserve(pages),
            |region| {
                self.counters.unmapped(region.pages(page_size).length());
                if region.kind.is_exec_memory() {
                    self.counters.freed(region.size);
                }
            },
        );
        if has_lost {
            self.heaps.forget_lost_chunks();
        }
        self.registry.revise_views(page_size, |region| {
            self.copy_memory(region, page_size).inspect_err(|_| {
                self.has_lost_views.store(true, Ordering::Relaxed);
                for view in region.all_views(page_size) {
                    // SAFETY: the pages are this region's. If even this fails, nothing is left to try.
                    let _ = unsafe { self.platform.protect(view, Protection::NONE) };
                }
            })
        });
    }

    /// Whether the system has mapped executable memory at all of these pages. If in doubt, no.
    fn has_code(&self, pages: Span) -> bool {
        let mut known = pages.start();
        let looked = self.platform.mappings(known, &mut |mapping| {
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
        let Ok(views) = self.platform.map(pages.length(), nothing, Some(pages.start())) else { return false };
        if views.address != pages.start() {
            // SAFETY: mapped just now, and nobody has seen it. If it can't be unmapped it is lost.
            let _ = unsafe { self.platform.unmap(Span::from_parts(views.address, pages.length())) };
        }
        views.address == pages.start()
    }

    fn copy_memory(&self, region: &Region, page_size: usize) -> Result<(), Error> {
        let pages = region.pages(page_size);
        let source = match region.writable_view {
            0 => region.executable_view,
            view => view,
        };
        let source = Span::from_parts(source, pages.length());
        let base = self.registry.runs(pages.range()).map(|(run, page)| View {
            offset: run.start - pages.start(),
            pages: Span::from_parts(run.start, run.len()),
            protection: page.protection,
        });
        let others =
            region.other_views(page_size).map(|(pages, protection)| View { offset: 0, pages, protection });
        let mut views = base.chain(others);
        let mut unshare = |used: &mut dyn Iterator<Item = Span>| {
            // SAFETY: the views are this region's, and this is the process's only thread.
            unsafe { self.platform.unshare(source, used, &mut views) }
        };
        match self.heaps.used_parts(region) {
            Some(mut parts) => unshare(&mut parts),
            None => unshare(&mut core::iter::once(source)),
        }
    }
}
