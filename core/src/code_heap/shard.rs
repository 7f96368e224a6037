//! Shards: a heap's chunks are dealt out to several locks, so that threads need not queue at one.

use super::chunk::Chunk;
use super::directory::Directory;
use super::free_space::FreeSpace;
use crate::error::Error;
use crate::near::Reach;
use crate::platform::Platform;
use core::sync::atomic::{AtomicUsize, Ordering};

/// How many shards a heap has.
pub(super) const SHARDS: usize = 8;

/// A lock, the chunks under it, and what is free in them. Shards don't share cache lines.
#[repr(align(128))]
pub(super) struct Shard {
    contents: spin::Mutex<Contents>,
    /// Live blocks and their bytes: changed under the lock, read without.
    blocks: AtomicUsize,
    bytes: AtomicUsize,
    record_bytes: AtomicUsize,
}

/// What the lock protects, beside the records of the shard's chunks.
pub(super) struct Contents {
    pub(super) free: FreeSpace,
    chunks: u32,
    /// Blocks that are in use: between two free blocks is at least one of them, or a chunk's end.
    held: u32,
}

/// What is asked of a shard.
#[derive(Clone, Copy)]
pub(super) struct Request {
    /// Bytes.
    pub(super) size: usize,
    pub(super) granules: u32,
    pub(super) reach: Option<Reach>,
}

/// A block that a shard gave.
pub(super) struct Given {
    pub(super) address: usize,
    /// Whether its chunk was empty before.
    pub(super) was_empty: bool,
}

pub(super) type Guard<'a> = spin::MutexGuard<'a, Contents>;

impl Shard {
    pub(super) const fn new() -> Self {
        Self {
            contents: spin::Mutex::new(Contents { free: FreeSpace::new(), chunks: 0, held: 0 }),
            blocks: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            record_bytes: AtomicUsize::new(0),
        }
    }

    pub(super) fn lock(&self) -> Guard<'_> {
        self.contents.lock()
    }

    pub(super) fn try_lock(&self) -> Option<Guard<'_>> {
        self.contents.try_lock()
    }

    /// # Safety
    /// This thread leaked the guard of [`lock`](Self::lock), or is the copy of the one that did.
    pub(super) unsafe fn force_unlock(&self) {
        // SAFETY: the caller says that the lock is its own.
        unsafe { self.contents.force_unlock() };
    }

    /// Live blocks, and the bytes that were requested for them.
    pub(super) fn live(&self) -> (usize, usize) {
        (self.blocks.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Bytes of the records of free blocks.
    pub(super) fn record_bytes(&self) -> usize {
        self.record_bytes.load(Ordering::Relaxed)
    }

    /// A block of the shard's free space, if there is one that fits.
    #[inline]
    pub(super) fn alloc(
        &self,
        contents: &mut Contents,
        request: Request,
        directory: &Directory,
        platform: impl Platform,
    ) -> Result<Option<Given>, Error> {
        self.reserve(contents, platform)?;
        let taken = match request.reach {
            None => contents.free.take(request.granules, directory),
            Some(reach) => contents.free.take_near(request.granules, reach, directory),
        };
        let Some(taken) = taken else { return Ok(None) };
        contents.held += 1;
        let granule = taken.granule as usize;
        taken.chunk.start_block(granule, request.size);
        self.count(1, request.size);
        Ok(Some(Given { address: taken.chunk.address_of(granule), was_empty: taken.was_empty }))
    }

    /// Room for the record of one more free block, and for one more chunk: freeing never needs memory.
    fn reserve(&self, contents: &mut Contents, platform: impl Platform) -> Result<(), Error> {
        contents.free.reserve(contents.held + contents.chunks + 2, platform)?;
        self.record_bytes.store(contents.free.bytes(), Ordering::Relaxed);
        Ok(())
    }

    /// Adds an empty chunk.
    pub(super) fn add_chunk(
        &self,
        contents: &mut Contents,
        chunk: &'static Chunk,
        platform: impl Platform,
    ) -> Result<(), Error> {
        self.reserve(contents, platform)?;
        contents.chunks += 1;
        contents.free.add(chunk, 0, chunk.granules(), false);
        Ok(())
    }

    /// Takes an empty chunk away: the given one, or any.
    pub(super) fn remove_empty(
        &self,
        contents: &mut Contents,
        wanted: Option<&Chunk>,
        directory: &Directory,
    ) -> Option<&'static Chunk> {
        let chunk = contents.free.take_empty(wanted, directory)?;
        contents.chunks -= 1;
        Some(chunk)
    }

    /// Gives granules back to the free space. Whether their chunk is empty now.
    pub(super) fn give_back(
        &self,
        contents: &mut Contents,
        chunk: &Chunk,
        granules: core::ops::Range<usize>,
        was_executed: bool,
    ) -> bool {
        contents.held -= 1;
        contents.free.add(chunk, granules.start as u32, granules.len() as u32, was_executed)
    }

    /// Counts a block that came alive (1) or died (-1). The lock is held, so these are plain additions.
    pub(super) fn count(&self, blocks: isize, size: usize) {
        let bytes = size as isize * blocks;
        let add = |counter: &AtomicUsize, change: isize| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add_signed(change), Ordering::Relaxed);
        };
        add(&self.blocks, blocks);
        add(&self.bytes, bytes);
    }

    /// Forgets all chunks and blocks.
    pub(super) fn clear(&self, contents: &mut Contents) {
        contents.free.clear();
        (contents.chunks, contents.held) = (0, 0);
        self.blocks.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

/// The shard that a thread tries first. Threads' stacks lie megabytes apart, one behind the other; golden-ratio
/// hashing deals neighbours out to different shards. A wrong guess costs time, not correctness.
#[inline]
pub(super) fn preferred() -> usize {
    let on_stack = 0u8;
    let megabytes = (&raw const on_stack).addr() as u64 >> 21;
    (megabytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize % SHARDS
}
