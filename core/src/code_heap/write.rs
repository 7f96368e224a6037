//! Writing, patching and publishing: from a block's bytes to what cores execute.

use super::shard::SHARDS;
use super::{CodeHeap, byte_at};
use crate::error::{Error, Result};
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::Hardening;
use crate::span::Span;
use crate::sync::{AtomicU64, Ordering};
use core::ptr;

/// A long copy gives the shard's lock back after so many bytes.
const PIECE: usize = 64 * 1024;

impl<P: Platform> CodeHeap<'_, P> {
    /// Copies `length` bytes from `source` to `address + offset`, all inside the live block that holds
    /// `address`, or nothing. Returns the number of bytes. What was written is code after
    /// [`publish`](Self::publish).
    ///
    /// # Safety
    /// `source` is readable for `length` bytes.
    pub unsafe fn write(&self, address: i64, source: *const u8, length: i64, offset: i64) -> Result<usize> {
        if length == 0 {
            // An empty range is fine at every offset of a live block, its end included.
            let bytes = if offset == 0 { byte_at(address) } else { Span::at_offset(address, 0, offset) }?;
            return self.lock_block(bytes).map(|_| 0);
        }
        let span = Span::at_offset(address, offset, length)?;
        let from_address = Span::new(address, offset + length)?;
        if source.is_null() {
            return Err(Error::InvalidArgument);
        }
        // A flip may fail: then nothing must have been written yet.
        let policy = self.policy()?;
        let most = if policy == Policy::Toggle { span.length() } else { PIECE };
        // What is moved up inside of the block is read before it is written over.
        let is_backwards = source.addr() < span.start();
        let mut done = 0;
        while done < span.length() {
            let length = most.min(span.length() - done);
            let offset = if is_backwards { span.length() - done - length } else { done };
            let piece = Span::from_parts(span.start() + offset, length);
            let found =
                self.lock_block_after(from_address, |chunk| chunk.expect_write(piece.start(), length))?;
            let (source, block) = (source.wrapping_add(offset), found.block.span());
            let mut copied = Ok(());
            found.store(piece, &mut |target| {
                // SAFETY: `source` by the caller; `store` gives an address where the piece can be written, and the rest of the
                // block be read.
                copied =
                    unsafe { self.space.copy_into(block, piece.start(), source, target, piece.length()) };
            })?;
            copied?;
            done += piece.length();
        }
        Ok(done)
    }

    /// Where the byte at an address of a live block can be written directly, as the rest of the block
    /// behind it: a store there costs no call. *Unsupported* unless the heap's policy is `dual`, and if only this library
    /// has the key of such views.
    pub fn write_view(&self, address: i64) -> Result<usize> {
        let found = self.lock_block(byte_at(address)?)?;
        if P::HARDENING.contains(Hardening::KEYS) && self.space.hardening.get().contains(Hardening::KEYS) {
            return Err(Error::Unsupported);
        }
        self.space.check_not_forking()?;
        let view = found.view_to_write(address as usize)?;
        found.mark_dirty();
        found.chunk.backing.is_lent.store(true, Ordering::Relaxed);
        Ok(view)
    }

    /// After it any core may execute the bytes, which lie in one live block; also where other code was
    /// executed before.
    pub fn publish(&self, address: i64, size: i64) -> Result {
        let Some(span) = self.range(address, size)? else { return Ok(()) };
        self.space.freed_code.drop_fetched(self.make_coherent(span)?, self.space.platform)
    }

    /// The same for many ranges, with one cross-core step at most. All of them, or none: everything else that can fail
    /// comes first, and no block can be freed before all are flushed.
    pub fn publish_all(&self, ranges: impl Iterator<Item = (i64, i64)> + Clone) -> Result {
        let mut shards = 0u32;
        for (address, size) in ranges.clone() {
            if let Some(span) = self.range(address, size)? {
                shards |= 1 << self.chunk_of(span)?.1;
            }
        }
        // Who holds several locks has taken them in this order.
        let lock = |index| (shards >> index & 1 != 0).then(|| self.shard(index).lock(self.space.platform));
        let locks: [_; SHARDS] = core::array::from_fn(lock);
        let locked = ranges.filter(|(_, size)| *size != 0).map(|(address, size)| {
            let span = Span::new(address, size)?;
            let (chunk, index) = self.chunk_of(span)?;
            // What lies in another shard has only come there since the locks were taken.
            let lock = locks.get(index).and_then(Option::as_ref).ok_or(Error::NotOwned)?;
            Ok((self.block_in(chunk, index, span, lock)?, span))
        });
        for found in locked.clone() {
            let (block, span) = found?;
            block.restore_exec(span)?;
        }
        let mut was_fetched = false;
        for found in locked {
            let (block, span) = found?;
            was_fetched |= block.publish(span);
        }
        drop(locks);
        self.space.freed_code.drop_fetched(was_fetched, self.space.platform)
    }

    /// The range of a publication. `None`: it is empty, and in a live block or at its end.
    fn range(&self, address: i64, size: i64) -> Result<Option<Span>> {
        let is_owned = |address| byte_at(address).and_then(|byte| self.lock_block(byte)).is_ok();
        Span::unless_empty(address, size, is_owned)
    }

    /// Replaces one aligned word of eight bytes of a live block, and publishes it. Other threads execute
    /// the old word or the new one, never a mixture. Under policy `toggle` it is *unsupported*: while the
    /// page is being written nobody could execute it.
    pub fn patch(&self, address: i64, word: u64) -> Result {
        const BYTES: i64 = size_of::<u64>() as i64;
        let span = Span::new(address, BYTES)?;
        if address % BYTES != 0 {
            return Err(Error::InvalidArgument);
        }
        if self.policy()? == Policy::Toggle {
            return Err(Error::Unsupported);
        }
        let before = self.exchange(span, None, word)?;
        self.publish(address, BYTES).inspect_err(|_| {
            // Unless somebody else's word is there by now.
            let _ = self.exchange(span, Some(word), before).and_then(|_| self.make_coherent(span));
        })
    }

    /// Stores a word in a block, if the one that is `expected` is there. The one that was there.
    fn exchange(&self, span: Span, expected: Option<u64>, word: u64) -> Result<u64> {
        let mut before = 0;
        self.lock_block(span)?.store(span, &mut |target| {
            // SAFETY: `store` gives an address where the word can be written; it is as aligned as the span, since views
            // differ by whole pages.
            let place = unsafe { AtomicU64::from_ptr(ptr::with_exposed_provenance_mut(target)) };
            before = match expected {
                None => place.swap(word, Ordering::AcqRel),
                Some(expected) => place
                    .compare_exchange(expected, word, Ordering::AcqRel, Ordering::Acquire)
                    .unwrap_or_else(|found| found),
            };
        })?;
        Ok(before)
    }

    /// Makes instruction caches coherent with what was written. Whether other cores may have fetched from
    /// there before, and have to be told.
    fn make_coherent(&self, span: Span) -> Result<bool> {
        let found = self.lock_block(span)?;
        found.restore_exec(span)?;
        Ok(found.publish(span))
    }
}
