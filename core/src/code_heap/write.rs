//! The ways into a block's bytes, and from there to what cores execute.

use super::CodeHeap;
use super::bits::{clear, set};
use super::blocks::Block;
use super::chunk::Chunk;
use super::shard::Shard;
use crate::error::Error;
use crate::icache::TRAP;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::Protection;
use crate::span::Span;
use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

/// A long copy gives the shard's lock back after so many bytes.
const PIECE: usize = 64 * 1024;

impl<P: Platform> CodeHeap<'_, P> {
    /// Copies `length` bytes from `source` to `address + offset`, all inside the live block that holds
    /// `address`, or nothing. Returns the number of bytes. What was written is code after
    /// [`publish`](Self::publish).
    ///
    /// # Safety
    /// `source` is readable for `length` bytes.
    pub unsafe fn write(
        &self,
        address: i64,
        source: *const u8,
        length: i64,
        offset: i64,
    ) -> Result<usize, Error> {
        if length == 0 {
            return self.check_empty(address, offset).map(|()| 0);
        }
        let span = Span::at_offset(address, offset, length)?;
        if source.is_null() {
            return Err(Error::InvalidArgument);
        }
        // A flip may fail: then nothing must have been written yet.
        let most = if self.policy()? == Policy::Toggle { span.length() } else { PIECE };
        let mut done = 0;
        while done < span.length() {
            self.with_block(address, |chunk, block| {
                check_inside(block, span)?;
                let piece = Span::from_parts(span.start() + done, most.min(span.length() - done));
                let mut copied = Ok(());
                self.store(chunk, chunk.whole_of(block), piece, &mut |target| {
                    // SAFETY: `source` by the caller; `store` gives an address where the piece can be written.
                    copied =
                        unsafe { self.space.copy_from(source.wrapping_add(done), target, piece.length()) };
                })?;
                done += piece.length();
                copied
            })?;
        }
        Ok(done)
    }

    /// An empty range is fine at every offset of a live block, its end included.
    fn check_empty(&self, address: i64, offset: i64) -> Result<(), Error> {
        let end = address.checked_add(offset).filter(|_| offset >= 0).ok_or(Error::InvalidArgument)?;
        self.with_block(address, |_, block| match end as usize <= block.span().end() {
            true => Ok(()),
            false => Err(Error::NotOwned),
        })
    }

    /// Where the byte at an address of a live block can be written directly, as the rest of the block
    /// behind it: a store there costs no call. *Unsupported* unless the heap's policy is `dual`.
    pub fn write_view(&self, address: i64) -> Result<usize, Error> {
        self.with_block(address, |chunk, block| {
            self.space.check_not_forking()?;
            let view = self.view_to_write(chunk, address as usize)?.ok_or(Error::Unsupported)?;
            self.populate(chunk, chunk.whole_of(block))?;
            set(chunk.tables.marks, chunk.granule_of(block.address));
            chunk.is_lent.store(true, Ordering::Relaxed);
            Ok(view)
        })
    }

    /// After it any core may execute the bytes, which lie in one live block; also where other code was
    /// executed before.
    pub fn publish(&self, address: i64, size: i64) -> Result<(), Error> {
        let Some(span) = self.range(address, size)? else { return Ok(()) };
        let was_executed = self.make_coherent(span)?;
        self.synchronize(was_executed)
    }

    /// The same for many ranges, with one cross-core step at most. All of them, or none.
    pub fn publish_all(&self, ranges: impl Iterator<Item = (i64, i64)> + Clone) -> Result<(), Error> {
        let was_executed = self.make_all_coherent(ranges)?;
        self.synchronize(was_executed)
    }

    /// [`make_coherent`](Self::make_coherent) for all ranges, or for none: everything that can fail comes first,
    /// and no block can be freed before all is done.
    fn make_all_coherent(&self, ranges: impl Iterator<Item = (i64, i64)> + Clone) -> Result<bool, Error> {
        let mut shards = 0;
        for (address, size) in ranges.clone() {
            if let Some(span) = self.range(address, size)? {
                let (_, index) = self.shard_of(span.start() as i64)?;
                shards |= 1 << index;
            }
        }
        let ranges = ranges.filter(|(_, size)| *size != 0);
        let _locks = self.heap.lock_several(shards, self.space.platform);
        for (address, size) in ranges.clone() {
            let span = Span::new(address, size)?;
            self.locked_block(span, shards)?;
            self.restore_exec(span)?;
        }
        let mut was_executed = false;
        for (address, size) in ranges {
            let span = Span::new(address, size)?;
            let (chunk, block) = self.locked_block(span, shards)?;
            was_executed |= self.flush(chunk, block, span);
        }
        Ok(was_executed)
    }

    /// The live block that holds a range, in one of the shards whose locks are held: bits by their numbers. What
    /// lies in another one has only come there since they were taken.
    fn locked_block(&self, span: Span, shards: u32) -> Result<(&'static Chunk, Block), Error> {
        let (chunk, index) = self.shard_of(span.start() as i64)?;
        if shards >> index & 1 == 0 {
            return Err(Error::NotOwned);
        }
        let block = self.block_of(chunk, self.heap.shard(index), span.start() as i64)?;
        check_inside(block, span)?;
        Ok((chunk, block))
    }

    /// The range of a publication. `None`: it is empty, and in a live block or at its end.
    fn range(&self, address: i64, size: i64) -> Result<Option<Span>, Error> {
        Span::unless_empty(address, size, |address| self.with_block(address, |_, _| Ok(())).is_ok())
    }

    /// Replaces one aligned word of eight bytes of a live block, and publishes it. Other threads execute
    /// the old word or the new one, never a mixture. Under policy `toggle` it is *unsupported*: while the
    /// page is being written nobody could execute it.
    pub fn patch(&self, address: i64, word: u64) -> Result<(), Error> {
        const BYTES: i64 = size_of::<u64>() as i64;
        let span = Span::new(address, BYTES)?;
        if address % BYTES != 0 {
            return Err(Error::InvalidArgument);
        }
        if self.policy()? == Policy::Toggle {
            return Err(Error::Unsupported);
        }
        let before = self.exchange(span, None, word)?;
        let published = self.make_coherent(span).and_then(|was_executed| self.synchronize(was_executed));
        published.inspect_err(|_| {
            // Unless somebody else's word is there by now.
            let _ = self.exchange(span, Some(word), before).and_then(|_| self.make_coherent(span));
        })
    }

    /// Stores a word in a block, if the one that is `expected` is there. The one that was there.
    fn exchange(&self, span: Span, expected: Option<u64>, word: u64) -> Result<u64, Error> {
        self.with_block(span.start() as i64, |chunk, block| {
            check_inside(block, span)?;
            let mut before = 0;
            self.store(chunk, chunk.whole_of(block), span, &mut |target| {
                let target = ptr::with_exposed_provenance_mut(target);
                // SAFETY: `store` gives an address where the word can be written; it is as aligned as the
                // span, since views differ by whole pages.
                let place = unsafe { AtomicU64::from_ptr(target) };
                before = match expected {
                    None => place.swap(word, Ordering::AcqRel),
                    Some(expected) => place
                        .compare_exchange(expected, word, Ordering::AcqRel, Ordering::Acquire)
                        .unwrap_or_else(|found| found),
                };
            })?;
            Ok(before)
        })
    }

    /// Makes instruction caches coherent with what was written. Whether other cores may have fetched from
    /// there before, and have to be told.
    fn make_coherent(&self, span: Span) -> Result<bool, Error> {
        self.with_block(span.start() as i64, |chunk, block| {
            check_inside(block, span)?;
            self.restore_exec(span)?;
            Ok(self.flush(chunk, block, span))
        })
    }

    /// Flushes a range of a live block that can be read and executed. The lock of its shard is held. Whether
    /// other cores may have fetched from there before.
    fn flush(&self, chunk: &Chunk, block: Block, span: Span) -> bool {
        let written = chunk.view_of(span.start()).unwrap_or(span.start());
        // SAFETY: the lock keeps the block, and the caller has seen to it that its pages are readable, by both
        // views.
        unsafe { self.space.platform.flush_icache(written, span.start(), span.length()) };
        // Under policy `rwx` the caller may have written without us.
        set(chunk.tables.marks, chunk.granule_of(block.address));
        let written = Block { address: span.start(), size: span.length() };
        chunk.record_executed(chunk.granules_of(written))
    }

    /// Tells the other cores if they have to be. What was freed before has then left them too.
    fn synchronize(&self, was_executed: bool) -> Result<(), Error> {
        let runtime = self.space;
        runtime.freed_code.drop_fetched(was_executed, runtime.platform)?;
        if was_executed {
            let step = runtime.freed_code.finished();
            let renew = |shard: &Shard| shard.lock(runtime.platform).renew(step, &self.heaps.directory);
            self.heap.shards.iter().for_each(renew);
        }
        Ok(())
    }

    /// Fills a block that is about to be freed with traps: what a pointer to freed code should meet. This
    /// core meets them from now on; others at the latest when the address is published anew.
    pub(super) fn remove_code(&self, chunk: &'static Chunk, granules: Range<usize>) -> Result<(), Error> {
        // A single block's pages go back to the system: what is left there is a fault.
        if !chunk.is_for_one() {
            let bytes = chunk.bytes_of(granules.clone());
            self.store(chunk, bytes, bytes, &mut |target| fill_with_traps(target, bytes.length()))?;
            let written = chunk.view_of(bytes.start()).unwrap_or(bytes.start());
            // SAFETY: the chunk's pages are readable, by both views.
            unsafe { self.space.platform.flush_icache(written, bytes.start(), bytes.length()) };
            let (runtime, platform) = (self.space, self.space.platform);
            let step = platform.may_run_on_other_cores().then(|| runtime.freed_code.next_step());
            chunk.record_freed(granules.clone(), step);
        }
        clear(chunk.tables.marks, granules.start);
        Ok(())
    }

    /// Does something with the live block that holds an address, which can't be freed meanwhile.
    fn with_block<R>(
        &self,
        address: i64,
        work: impl FnOnce(&'static Chunk, Block) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (chunk, shard) = self.chunk_of(address)?;
        let _roster = shard.lock(self.space.platform);
        let block = self.block_of(chunk, shard, address)?;
        work(chunk, block)
    }

    /// Calls `write` with an address where the bytes of `span` can be written, which lie in a block whose
    /// bytes are `whole`. If it fails, `write` was not called, or the pages could not be made executable again.
    fn store(
        &self,
        chunk: &'static Chunk,
        whole: Span,
        span: Span,
        write: &mut dyn FnMut(usize),
    ) -> Result<(), Error> {
        match self.policy()? {
            Policy::Dual => {
                let view = self.view_to_write(chunk, span.start())?.ok_or(Error::WrongProtection)?;
                self.populate(chunk, whole)?;
                self.space.write_for_child(span.start(), span.length(), write)?;
                write(view);
            }
            Policy::Jit => self.space.platform.with_jit_writes(&mut || write(span.start())),
            Policy::Toggle => {
                self.restore_exec(span)?;
                // Who executes the block meanwhile has to reckon with that.
                let pages = span.pages(self.space.page_size());
                // SAFETY: no other block lies on the pages, and the shard's lock keeps other writers of this one out.
                unsafe { self.space.flip(pages, &mut || write(span.start())) }?;
            }
            Policy::Rwx | Policy::Auto => write(span.start()),
        }
        set(chunk.tables.marks, chunk.granule_of(whole.start()));
        Ok(())
    }

    /// Where the byte at an address can be written so that no other process sees it, if there is a second view. The
    /// lock of the chunk's shard is held.
    fn view_to_write(&self, chunk: &'static Chunk, address: usize) -> Result<Option<usize>, Error> {
        let Some(view) = chunk.view_of(address) else { return Ok(None) };
        self.check_view(view)?;
        if self.space.is_in_common(chunk.epoch.load(Ordering::Relaxed)) {
            let epoch = self.space.epoch();
            self.space.separate(&chunk.region(), chunk.backed_parts())?;
            chunk.epoch.store(epoch, Ordering::Relaxed);
        }
        Ok(Some(view))
    }

    /// A child that got no memory of its own after a fork has views without any access.
    fn check_view(&self, view: usize) -> Result<(), Error> {
        if !self.space.has_withdrawn_views.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.space.registry.page(view) {
            Some(page) if page.protection.contains(Protection::WRITE) => Ok(()),
            _ => Err(Error::WrongProtection),
        }
    }

    /// Brings in the pages of a block's write view. A store to a page that the system has no memory for
    /// would end the process.
    fn populate(&self, chunk: &Chunk, whole: Span) -> Result<(), Error> {
        let Some(parts) = chunk.unpopulated(whole) else { return Ok(()) };
        let pages = chunk.view_of_parts(parts.clone()).ok_or(Error::WrongProtection)?;
        self.space.populate(pages, true)?;
        chunk.record_populated(parts);
        Ok(())
    }

    /// Sees to it that a block's pages can be read and executed: an earlier flip may have stopped half-way, or
    /// a fork have taken them.
    fn restore_exec(&self, span: Span) -> Result<(), Error> {
        if self.policy()? != Policy::Toggle && !self.space.has_withdrawn_views.load(Ordering::Relaxed) {
            return Ok(());
        }
        let pages = span.pages(self.space.page_size());
        let registry = &self.space.registry;
        let is_code = |protection: Protection| protection.contains(Protection::RX);
        if registry.runs(pages.range()).all(|(_, page)| is_code(page.protection)) {
            return Ok(());
        }
        if self.policy()? != Policy::Toggle {
            return Err(Error::WrongProtection);
        }
        // SAFETY: under policy `toggle` the pages are this block's alone.
        unsafe { self.space.platform.protect(pages, Protection::RX) }?;
        registry.record(pages, Protection::RX, self.space.platform);
        Ok(())
    }
}

fn check_inside(block: Block, span: Span) -> Result<(), Error> {
    if block.span().contains(span) { Ok(()) } else { Err(Error::NotOwned) }
}

/// Both are multiples of the smallest granule.
fn fill_with_traps(target: usize, length: usize) {
    let [a, b, c, d] = TRAP;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let target = ptr::with_exposed_provenance_mut::<u64>(target);
    for index in 0..length / size_of::<u64>() {
        // SAFETY: the caller can write the bytes, and they are aligned.
        unsafe { target.add(index).write(word) };
    }
}
