//! The ways into a block's bytes, by policy.

use super::blocks::Block;
use super::chunk::Chunk;
use super::heaps::Heap;
use crate::error::{Error, Result};
use crate::icache::TRAP;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::Protection;
use crate::space::AddressSpace;
use crate::span::Span;
use crate::sync::Ordering;
use core::ops::Range;
use core::ptr;

/// A live block that stays so, and that nobody else works on: the lock of its shard is held.
pub(super) struct LockedBlock<'a, P: Platform, L> {
    pub(super) heap: &'a Heap,
    pub(super) space: &'a AddressSpace<P>,
    pub(super) chunk: &'static Chunk,
    pub(super) block: Block,
    /// What holds the lock.
    pub(super) lock: L,
}

impl<P: Platform, L> LockedBlock<'_, P, L> {
    /// Calls `write` with an address where the bytes of `span`, which lie in the block, can be written; in the middle of a
    /// fork also with that of a copy for the child. If it fails, `write` was not called, or the pages could not be made
    /// executable again.
    pub(super) fn store(&self, span: Span, write: &mut dyn FnMut(usize)) -> Result {
        match self.heap.policy()? {
            Policy::Dual => {
                let view = self.view_to_write(span.start())?;
                self.space.write_for_child(span.start(), span.length(), write)?;
                self.space.platform.with_view_writes(&mut || write(view));
            }
            Policy::Jit => self.space.platform.with_jit_writes(&mut || write(span.start())),
            Policy::Toggle => {
                self.restore_exec(span)?;
                // Written it is also if the pages can't be made executable again.
                self.mark_dirty();
                // Who executes the block meanwhile has to reckon with that.
                let pages = span.pages(self.space.page_size());
                // SAFETY: no other block lies on the pages, and the lock keeps other writers of this one out.
                unsafe { self.space.flip(pages, &mut || write(span.start())) }?;
            }
            Policy::Rwx | Policy::Auto => write(span.start()),
        }
        self.mark_dirty();
        Ok(())
    }

    /// There may be code in it.
    pub(super) fn mark_dirty(&self) {
        self.chunk.blocks.dirty.set(self.chunk.granule_of(self.block.address));
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.chunk.blocks.dirty.is_set(self.chunk.granule_of(self.block.address))
    }

    /// Where the byte at an address can be written so that no other process sees it, as the rest of the block behind it.
    /// *Unsupported* without a second view. A store to a page that the system has no memory for would end the process,
    /// so all of the block has some.
    pub(super) fn view_to_write(&self, address: usize) -> Result<usize> {
        let (chunk, space) = (self.chunk, self.space);
        let view = chunk.view_of(address).ok_or(Error::Unsupported)?;
        if chunk.backing.is_withdrawn.load(Ordering::Relaxed) {
            return Err(Error::WrongProtection);
        }
        if P::CAN_FORK && chunk.backing.is_in_common.load(Ordering::Relaxed) {
            // SAFETY: nobody writes to the chunk, by the lock: a chunk that was lent is copied at the fork, and never in common.
            unsafe { space.separate(&chunk.region(), chunk.written_parts()) }?;
            chunk.change_memory();
            chunk.backing.is_in_common.store(space.is_forking(), Ordering::Relaxed);
        }
        let offset = self.block.address - chunk.base();
        // SAFETY: the chunk stays as long as a block in it, by the lock.
        let bring_in = |parts| unsafe { space.populate(parts, true) };
        chunk.backing.populate(offset..offset + self.block.size, chunk.length(), bring_in)?;
        Ok(view)
    }

    /// Sees to it that pages of the block can be read and executed: an earlier flip may have stopped half-way. Those that
    /// a fork has taken can't.
    pub(super) fn restore_exec(&self, span: Span) -> Result {
        if self.chunk.backing.is_withdrawn.load(Ordering::Relaxed) {
            return Err(Error::WrongProtection);
        }
        if self.heap.policy()? != Policy::Toggle {
            return Ok(());
        }
        let pages = span.pages(self.space.page_size());
        let is_code = |protection: Protection| protection.contains(Protection::RX);
        let code = self.space.hardened(Protection::RX);
        if self.space.registry.runs(pages).all(|(_, page)| is_code(page.protection)) {
            return Ok(());
        }
        // SAFETY: under policy `toggle` the pages are this block's alone.
        unsafe { self.space.platform.protect(pages, code) }?;
        self.space.registry.record(pages, code);
        Ok(())
    }

    /// Flushes a range of the block whose pages can be read and executed. Whether other cores may have fetched from there
    /// before, and have to be told.
    pub(super) fn publish(&self, span: Span) -> bool {
        // Under these policies the caller may have written without us.
        if matches!(self.heap.policy(), Ok(Policy::Rwx | Policy::Jit)) {
            self.mark_dirty();
        }
        // What was never written has nothing to flush, and perhaps no memory yet.
        if self.is_dirty() {
            self.flush(span);
        }
        self.chunk.blocks.record_fetched(self.chunk.granules_of(span))
    }

    fn flush(&self, span: Span) {
        let written = self.chunk.view_of(span.start()).unwrap_or(span.start());
        // SAFETY: the lock keeps the block, whose pages are readable by both views.
        unsafe { self.space.platform.flush_icache(written, span.start(), span.length()) };
    }

    /// Fills granules of the block that are about to be freed with traps: what a pointer to freed code should meet. This
    /// core meets them from now on; others at the latest when the address is published anew.
    pub(super) fn fill_with_traps(&self, granules: Range<usize>) -> Result {
        if !self.chunk.is_for_others() {
            return Ok(());
        }
        let start = self.chunk.address_of(granules.start);
        let whole = Span::from_parts(start, self.chunk.address_of(granules.end) - start);
        // SAFETY: `store` gives an address where all of it can be written; granules are multiples of a trap.
        self.store(whole, &mut |target| unsafe {
            let traps = ptr::with_exposed_provenance_mut::<[u8; TRAP.len()]>(target);
            (0..whole.length() / TRAP.len()).for_each(|index| traps.add(index).write(TRAP));
        })?;
        self.flush(whole);
        if !self.space.platform.may_run_on_other_cores() {
            self.chunk.blocks.fetched.clear_all(granules);
        }
        Ok(())
    }
}
