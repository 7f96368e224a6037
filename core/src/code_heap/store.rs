//! The ways into a chunk's bytes, by policy.
//!
//! All are unsafe alike: the block that they are about is live, and the lock of its shard is held, so that it stays so
//! and nobody else works on it.
#![allow(clippy::missing_safety_doc, reason = "the head of this file says it for all")]

use super::blocks::Block;
use super::chunk::Chunk;
use crate::error::{Error, Result};
use crate::icache::TRAP;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::Protection;
use crate::space::AddressSpace;
use crate::span::Span;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::Ordering;

impl Chunk {
    /// Calls `write` with an address where the bytes of `span`, which lie in `block`, can be written; in the middle of a
    /// fork also with that of a copy for the child. If it fails, `write` was not called, or the pages could not be made
    /// executable again.
    pub(super) unsafe fn store(
        &'static self,
        block: Block,
        span: Span,
        policy: Policy,
        space: &AddressSpace<impl Platform>,
        write: &mut dyn FnMut(usize),
    ) -> Result {
        match policy {
            Policy::Dual => {
                // SAFETY: the caller's promise, passed on.
                let view = unsafe { self.view_to_write(block, span.start(), space) }?;
                space.write_for_child(span.start(), span.length(), write)?;
                write(view);
            }
            Policy::Jit => space.platform.with_jit_writes(&mut || write(span.start())),
            Policy::Toggle => {
                // SAFETY: the caller's promise, passed on.
                unsafe { self.restore_exec(span, policy, space) }?;
                // Written it is also if the pages can't be made executable again.
                self.blocks.dirty.set(self.granule_of(block.address));
                // Who executes the block meanwhile has to reckon with that.
                let pages = span.pages(space.page_size());
                // SAFETY: no other block lies on the pages, and the lock keeps other writers of this one out.
                unsafe { space.flip(pages, &mut || write(span.start())) }?;
            }
            Policy::Rwx | Policy::Auto => write(span.start()),
        }
        self.blocks.dirty.set(self.granule_of(block.address));
        Ok(())
    }

    /// Where the byte at an address can be written so that no other process sees it, as the rest of the block behind it.
    /// *Unsupported* without a second view. A store to a page that the system has no memory for would end the process,
    /// so all of the block has some.
    pub(super) unsafe fn view_to_write<P: Platform>(
        &'static self,
        block: Block,
        address: usize,
        space: &AddressSpace<P>,
    ) -> Result<usize> {
        let view = self.view_of(address).ok_or(Error::Unsupported)?;
        let (backing, length) = (&self.backing, self.length());
        if backing.is_withdrawn.load(Ordering::Relaxed) {
            return Err(Error::WrongProtection);
        }
        if P::CAN_FORK && backing.is_in_common.load(Ordering::Relaxed) {
            // SAFETY: nobody writes to the chunk, by the lock. A view of it was not lent: that makes it this process's own.
            unsafe { space.separate(&self.region(), self.written_parts()) }?;
            backing.is_in_common.store(space.is_forking(), Ordering::Relaxed);
        }
        let offset = block.address - self.base();
        // SAFETY: the chunk stays as long as a block in it, by the lock.
        let bring_in = |parts| unsafe { space.populate(parts, true) };
        backing.populate(offset..offset + block.size, length, bring_in)?;
        Ok(view)
    }

    /// Sees to it that pages of a block can be read and executed: an earlier flip may have stopped half-way. Those that
    /// a fork has taken can't.
    pub(super) unsafe fn restore_exec(
        &self,
        span: Span,
        policy: Policy,
        space: &AddressSpace<impl Platform>,
    ) -> Result {
        if self.backing.is_withdrawn.load(Ordering::Relaxed) {
            return Err(Error::WrongProtection);
        }
        if policy != Policy::Toggle {
            return Ok(());
        }
        let pages = span.pages(space.page_size());
        let is_code = |protection: Protection| protection.contains(Protection::RX);
        if space.registry.runs(pages).all(|(_, page)| is_code(page.protection)) {
            return Ok(());
        }
        // SAFETY: under policy `toggle` the pages are this block's alone.
        unsafe { space.platform.protect(pages, Protection::RX) }?;
        space.registry.record(pages, Protection::RX);
        Ok(())
    }

    /// Flushes a range of a block whose pages can be read and executed. Whether other cores may have fetched from there
    /// before, and have to be told.
    pub(super) unsafe fn publish(
        &self,
        block: Block,
        span: Span,
        space: &AddressSpace<impl Platform>,
    ) -> bool {
        // SAFETY: the caller's promise, passed on.
        unsafe { self.flush(span, space) };
        // Under policy `rwx` the caller may have written without us.
        self.blocks.dirty.set(self.granule_of(block.address));
        self.blocks.record_fetched(self.granules_of(span))
    }

    unsafe fn flush(&self, span: Span, space: &AddressSpace<impl Platform>) {
        let written = self.view_of(span.start()).unwrap_or(span.start());
        // SAFETY: the lock keeps the block, whose pages are readable by both views.
        unsafe { space.platform.flush_icache(written, span.start(), span.length()) };
    }

    /// Fills granules of a block that are about to be freed with traps: what a pointer to freed code should meet. This core
    /// meets them from now on; others at the latest when the address is published anew.
    pub(super) unsafe fn fill_with_traps(
        &'static self,
        block: Block,
        granules: Range<usize>,
        policy: Policy,
        space: &AddressSpace<impl Platform>,
    ) -> Result {
        let start = self.address_of(granules.start);
        let whole = Span::from_parts(start, self.address_of(granules.end) - start);
        // SAFETY: the caller's promise, passed on. `store` gives an address where all of it can be written; it is as aligned
        // as the granules, since views differ by whole pages.
        unsafe {
            let mut fill = |target| write_traps(target, whole.length());
            self.store(block, whole, policy, space, &mut fill)?;
            self.flush(whole, space);
        }
        if !space.platform.may_run_on_other_cores() {
            self.blocks.fetched.clear_all(granules);
        }
        Ok(())
    }
}

/// # Safety
/// The bytes can be written, and lie in whole granules.
unsafe fn write_traps(target: usize, length: usize) {
    let [a, b, c, d] = TRAP;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let target = ptr::with_exposed_provenance_mut::<u64>(target);
    for index in 0..length / size_of::<u64>() {
        // SAFETY: the caller's promise; granules are multiples of a word.
        unsafe { target.add(index).write(word) };
    }
}
