//! The records of chunks, which serve one chunk after another, and lists of them.

use super::chunk::Chunk;
use crate::clusters::Clusters;
use crate::error::{Error, Result};
use crate::free_space::LONGEST;
use crate::memory::{Arrays, Index, Pool, Table, bring_in};
use crate::platform::Platform;
use crate::span::Span;
use crate::sync::{AtomicPtr, Ordering};
use core::ptr;

/// The records by number.
pub(super) type ChunkRecords = Table<Chunk, 16>;

/// A page word has 16 bits for a chunk's number + 1.
const MOST_CHUNKS: u32 = u16::MAX as u32;

/// From one granule to those of the longest chunk.
const CAPACITIES: usize = LONGEST.ilog2() as usize + 1;

/// What heaps share under one lock: only growing and shrinking take it.
pub(super) struct Shared {
    /// Memory of records, and bytes of it that the system has back.
    pub(super) pool: Pool,
    dropped: usize,
    /// Records without a chunk, by the logarithm of how many granules they have room for.
    free: [List; CAPACITIES],
    pub(super) clusters: Clusters,
}

impl Shared {
    pub(super) const fn new() -> Self {
        Self {
            pool: Pool::new(),
            dropped: 0,
            free: [const { List::new() }; CAPACITIES],
            clusters: Clusters::new(),
        }
    }

    /// Bytes of memory that the records take.
    pub(super) fn record_bytes(&self) -> usize {
        self.pool.mapped() - self.dropped
    }

    /// A free record for a chunk of so many granules, or a new one.
    pub(super) fn free_record(
        &mut self,
        chunks: &ChunkRecords,
        granules: usize,
        platform: impl Platform,
    ) -> Result<&'static Chunk> {
        let free = self.free_of(granules);
        if let Some(chunk) = free.iter().next() {
            free.remove(chunk);
            self.dropped -= chunk.take_tables_back(platform);
            return Ok(chunk);
        }
        let is_first = chunks.indexes().is_empty();
        if chunks.indexes().end >= MOST_CHUNKS {
            return Err(Error::NoMemory);
        }
        let mut arrays = Arrays::measuring();
        Chunk::lay_out(0, &mut arrays, granules);
        let length = arrays.used();
        let memory = self.pool.take(platform, length)?;
        if !is_first && granules > 1 {
            bring_in(Span::from_parts(memory.addr().get(), length), platform);
        }
        // SAFETY: the pool gave `length` zeroed bytes for ever; its lock keeps others from adding.
        let number = unsafe {
            let mut arrays = Arrays::over(memory, length);
            let pool = &mut self.pool;
            chunks.add(pool, platform, |number| Chunk::lay_out(number, &mut arrays, granules))
        };
        let number = number.inspect_err(|_| self.pool.put_back(memory))?;
        record(chunks, number).ok_or(Error::NoMemory)
    }

    /// Takes back the record of a chunk that is gone. Of the free ones of a length, the one that came last keeps the
    /// memory of its tables, so that who maps and unmaps one chunk costs the system no more.
    pub(super) fn give_record<P: Platform>(&mut self, chunk: &'static Chunk, platform: P) {
        self.clusters.leave(chunk.cluster.swap(Clusters::NONE, Ordering::Relaxed));
        chunk.forget();
        let free = self.free_of(chunk.blocks.room());
        let first = free.iter().next();
        free.push(chunk);
        if P::DROPS_PAGES
            && let Some(first) = first
        {
            self.dropped += first.drop_tables(platform);
        }
    }

    /// The free records with room for so many granules, a power of two.
    fn free_of(&mut self, granules: usize) -> &mut List {
        &mut self.free[granules.trailing_zeros() as usize % CAPACITIES]
    }
}

/// The record of a number.
#[inline]
pub(super) fn record(chunks: &ChunkRecords, number: Index) -> Option<&'static Chunk> {
    // SAFETY: the table's memory is the pool's, which gives none back.
    chunks.get(number).map(|chunk| unsafe { &*ptr::from_ref(chunk) })
}

/// A list of chunks, each of which is in one list at most. Whoever changes it holds its lock.
pub(super) struct List(AtomicPtr<Chunk>);

impl List {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn push(&mut self, chunk: &'static Chunk) {
        chunk.next.store(self.0.load(Ordering::Relaxed), Ordering::Relaxed);
        self.0.store(ptr::from_ref(chunk).cast_mut(), Ordering::Relaxed);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'static Chunk> + use<> {
        core::iter::successors(chunk_at(&self.0), |chunk| chunk_at(&chunk.next))
    }

    /// Takes a chunk out if it is in.
    pub(super) fn remove(&mut self, chunk: &'static Chunk) {
        let mut place = &self.0;
        while let Some(found) = chunk_at(place) {
            if ptr::eq(found, chunk) {
                return place.store(chunk.next.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            place = &found.next;
        }
    }
}

fn chunk_at(place: &AtomicPtr<Chunk>) -> Option<&'static Chunk> {
    // SAFETY: `push` stored null or a record, and records live for ever.
    unsafe { place.load(Ordering::Relaxed).as_ref() }
}
