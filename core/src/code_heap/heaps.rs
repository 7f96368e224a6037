//! The heaps of a process, and what they share: the records of chunks.

use super::blocks::Block;
use super::chunk::{Chunk, LONGEST_CHUNK};
use super::records::{ChunkRecords, Shared, record};
use super::shard::{SHARDS, Shard};
use crate::error::{Error, Result};
use crate::header::RtExecMemoryStats;
use crate::lock::Lock;
use crate::memory::Table;
use crate::near::Latest;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::Protection;
use crate::registry::{Region, Registry};
use crate::space::AddressSpace;
use crate::span::Span;
use crate::sync::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use core::ptr;

/// What one heap may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of code pages, a second view not counted.
    pub bytes: usize,
    /// How many of them are asked of the system at a time, 4 MiB and a 64th of physical memory at most; rounded
    /// up to pages. Where memory is short it asks for less.
    pub chunk_bytes: usize,
    /// Whether the thread that adds a chunk makes what has filled up huge, up to 4 MiB each time, which takes it some
    /// milliseconds: for a program that is never idle. Others call [`Runtime::promote`](crate::Runtime::promote).
    pub huge_pages: bool,
}

impl Limits {
    /// No limit but the system's.
    pub const DEFAULT: Self = Self { bytes: usize::MAX, chunk_bytes: LONGEST_CHUNK, huge_pages: false };
}

/// A chunk of a code heap, drawn: see [`Runtime::each_chunk`](crate::Runtime::each_chunk).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPicture {
    /// Its first address.
    pub address: usize,
    /// Bytes of its pages.
    pub length: usize,
    /// What is in each of 64 equal parts: `#` live blocks, `+` live blocks in half of it at least, `-` in less, `.` nothing,
    /// `,` nothing now, but what cores may have fetched before.
    pub parts: [u8; 64],
}

/// How many chunks that were found last are remembered.
const RECENT: usize = 64;

/// All heaps of a runtime.
pub(crate) struct Heaps {
    /// The chunks' records by number.
    pub(super) chunks: ChunkRecords,
    /// ChunkRecords that were looked up before, by [`recent_entry`]. Only a hint: whoever uses it asks the chunk whether it
    /// holds the address.
    recent: [AtomicPtr<Chunk>; RECENT],
    pub(super) shared: Lock<Shared>,
    /// Where a chunk was placed that does not lie behind the others; and one that had to be near something else.
    pub(super) latest: Latest,
    pub(super) latest_near: Latest,
    /// Whether there may be retired chunks that nobody is about to unmap. Only a hint to look for them.
    pub(super) has_left: AtomicBool,
    /// The number of the chunk from which on pages are made huge next. Only a hint.
    pub(super) next_to_promote: AtomicUsize,
    pub(super) default: Heap,
    /// The other heaps. One that is dropped waits there for its next user.
    others: Table<Heap, 4>,
}

/// One heap.
pub(crate) struct Heap {
    /// The number of its first shard: no two heaps share one.
    pub(super) first_shard: u32,
    pub(super) limit: AtomicUsize,
    pub(super) chunk_bytes: AtomicUsize,
    pub(super) promotes: AtomicBool,
    /// Bytes of code pages.
    mapped: AtomicUsize,
    /// The policy's number once it is decided, else [`UNDECIDED`].
    pub(super) policy: AtomicI32,
    pub(super) shards: [Lock<Shard>; SHARDS],
    /// One thread at a time grows the heap: what it was charged for is there when the next one looks. It comes before
    /// all other locks. It guards no record, so a fork does not wait for it.
    pub(super) growth: Lock<()>,
    in_use: AtomicBool,
}

const UNDECIDED: i32 = -1;

/// Where [`Heaps::recent`] has what was found near an address: chunks are usually 4 MiB long.
fn recent_entry(address: usize) -> usize {
    address >> 22 & (RECENT - 1)
}

impl Heaps {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Table::new(),
            recent: [const { AtomicPtr::new(ptr::null_mut()) }; RECENT],
            shared: Lock::new(Shared::new()),
            latest: Latest::new(),
            latest_near: Latest::new(),
            has_left: AtomicBool::new(false),
            next_to_promote: AtomicUsize::new(0),
            default: Heap::new(0),
            others: Table::new(),
        }
    }

    /// A heap for a new user.
    pub(super) fn add(&self, limits: Limits, platform: impl Platform) -> Result<&Heap> {
        let pool = &mut self.shared.lock(platform).pool;
        let heap = match self.others.iter().find(|heap| !heap.in_use.load(Ordering::Acquire)) {
            Some(idle) => idle,
            None => {
                // SAFETY: the lock keeps others from adding.
                let index = unsafe {
                    self.others.add(pool, platform, |index| Heap::new((index + 1) * SHARDS as u32))
                }?;
                self.others.get(index).ok_or(Error::NoMemory)?
            }
        };
        heap.in_use.store(true, Ordering::Relaxed);
        heap.limit.store(limits.bytes, Ordering::Relaxed);
        heap.chunk_bytes.store(limits.chunk_bytes.max(1), Ordering::Relaxed);
        heap.promotes.store(limits.huge_pages, Ordering::Relaxed);
        Ok(heap)
    }

    fn all(&self) -> impl Iterator<Item = &Heap> {
        core::iter::once(&self.default).chain(self.others.iter())
    }

    /// Every record, of a chunk or a free one.
    pub(super) fn records(&self) -> impl Iterator<Item = &'static Chunk> {
        self.chunks.indexes().filter_map(|number| record(&self.chunks, number))
    }

    /// The chunk that a region is, if it is one.
    pub(crate) fn chunk_of(&self, region: &Region) -> Option<&'static Chunk> {
        record(&self.chunks, u32::from(region.chunk).checked_sub(1)?)
    }

    /// The live block of any heap that holds an address. Takes no lock and allocates nothing.
    #[inline]
    pub(crate) fn find(&self, address: i64, registry: &Registry<impl Platform>) -> Option<Block> {
        let address = usize::try_from(address).ok()?;
        self.chunk_at(address, registry)?.find(address)
    }

    /// The chunk of any heap that holds an address: the one that was found near there the last time, or
    /// what the registry says.
    #[inline]
    pub(super) fn chunk_at(
        &self,
        address: usize,
        registry: &Registry<impl Platform>,
    ) -> Option<&'static Chunk> {
        // Acquire: the record is seen as whoever put it there saw it.
        let recent = self.recent.get(recent_entry(address))?.load(Ordering::Acquire);
        // SAFETY: null, or a record, which lives for ever.
        match unsafe { recent.as_ref() }.filter(|chunk| chunk.holds(address)) {
            Some(chunk) => Some(chunk),
            None => self.look_up_chunk(address, registry),
        }
    }

    #[cold]
    fn look_up_chunk(&self, address: usize, registry: &Registry<impl Platform>) -> Option<&'static Chunk> {
        let page = registry.page(address).filter(|page| !page.is_other_view)?;
        let chunk = record(&self.chunks, u32::from(page.chunk).checked_sub(1)?)?;
        let recent = self.recent.get(recent_entry(address))?;
        recent.store(ptr::from_ref(chunk).cast_mut(), Ordering::Release);
        Some(chunk)
    }

    pub(super) fn heap_of(&self, chunk: &Chunk) -> &Heap {
        self.all().find(|heap| heap.shard_of(chunk).is_some()).unwrap_or(&self.default)
    }

    /// Retires all chunks of a heap that nobody uses any more.
    pub(super) fn retire_all(&self, heap: &Heap, space: &AddressSpace<impl Platform>) {
        for shard in &heap.shards {
            *shard.lock(space.platform) = Shard::new();
        }
        let is_its = |chunk: &&Chunk| chunk.is_in_use() && heap.shard_of(chunk).is_some();
        for chunk in self.records().filter(is_its) {
            let pages = || Some(Span::from_parts(chunk.base(), chunk.length()));
            let _ = space.end_code(pages, || Ok(()));
            chunk.retire();
        }
    }

    /// Figures of this moment: of all heaps together, nothing else.
    pub(crate) fn figures(&self, platform: impl Platform) -> RtExecMemoryStats {
        let mut figures = RtExecMemoryStats::default();
        let shared = self.shared.lock(platform);
        figures.record_bytes = shared.record_bytes() as i64;
        figures.code_clusters = shared.clusters.iter().count() as i64;
        drop(shared);
        for chunk in self.records().filter(|chunk| !chunk.is_free()) {
            figures.code_chunks += 1;
            figures.code_chunk_bytes += chunk.length() as i64;
            figures.code_blocks += i64::from(chunk.blocks.live());
            figures.code_bytes += chunk.blocks.live_bytes() as i64;
            figures.huge_code_bytes += chunk.backing.huge_bytes() as i64;
        }
        figures
    }

    /// Each chunk that is mapped. Takes no lock: what changes meanwhile is drawn as it was or as it is.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = ChunkPicture> {
        self.records().filter(|chunk| !chunk.is_free()).map(draw)
    }

    /// Whether this thread holds a lock of a heap's.
    pub(crate) fn has_own_lock(&self, platform: impl Platform) -> bool {
        let is_growing = self.all().any(|heap| heap.growth.is_own(platform));
        let mut shards = self.all().flat_map(|heap| &heap.shards);
        is_growing || self.shared.is_own(platform) || shards.any(|shard| shard.is_own(platform))
    }

    /// Takes all locks, until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self, platform: impl Platform) {
        // First the one under which heaps are added. Nobody waits for it while holding a shard's.
        self.shared.lock_for_fork(platform);
        for shard in self.all().flat_map(|heap| &heap.shards) {
            shard.lock_for_fork(platform);
        }
    }

    /// # Safety
    /// This thread took the locks with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(crate) unsafe fn unlock_after_fork(&self, platform: impl Platform) {
        // The first store to a private page that both have gives one of them another one. Nobody notes huge pages before
        // the locks are free. A free record's tables are left alone: the system may have their memory.
        let is_private = |chunk: &&Chunk| !chunk.is_free() && !chunk.has_second_view();
        self.records().filter(is_private).for_each(|chunk| chunk.change_memory());
        for shard in self.all().flat_map(|heap| &heap.shards) {
            // SAFETY: the caller says that the lock is its own.
            unsafe { shard.unlock_after_fork(platform) };
        }
        // SAFETY: the caller says that the lock is its own.
        unsafe { self.shared.unlock_after_fork(platform) };
    }

    /// In a child: chunks that are not here are forgotten, with their blocks. Those that threads had in hand which are
    /// not here, to add them to a heap or to unmap them, wait to be unmapped again. Blocks of chunks without any
    /// access can't be written any more, and no others come there. Each heap is charged for what it has.
    ///
    /// # Safety
    /// As for [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) unsafe fn recover<P: Platform>(&self, registry: &Registry<P>, platform: P) {
        for heap in self.all() {
            heap.mapped.store(0, Ordering::Relaxed);
            heap.growth.void();
        }
        self.has_left.store(true, Ordering::Relaxed);
        // SAFETY: the caller says that the lock is its own.
        let shared = unsafe { self.shared.held_for_fork() };
        for chunk in self.records().filter(|chunk| !chunk.is_free()) {
            let heap = self.heap_of(chunk);
            // SAFETY: the caller says that the lock is its own.
            let shard = unsafe { heap.shards[chunk.shard() as usize % SHARDS].held_for_fork() };
            let Some(page) = registry.page(chunk.base()).filter(|page| page.chunk == chunk.link) else {
                shard.remove(chunk);
                shared.give_record(chunk, platform);
                continue;
            };
            heap.mapped.fetch_add(chunk.length(), Ordering::Relaxed);
            if !chunk.is_in_use() {
                chunk.retire();
            } else if page.protection == Protection::NONE {
                shard.withdraw(chunk);
            }
        }
    }
}

impl Heap {
    const fn new(first_shard: u32) -> Self {
        let limits = Limits::DEFAULT;
        Self {
            first_shard,
            limit: AtomicUsize::new(limits.bytes),
            chunk_bytes: AtomicUsize::new(limits.chunk_bytes),
            promotes: AtomicBool::new(limits.huge_pages),
            mapped: AtomicUsize::new(0),
            policy: AtomicI32::new(UNDECIDED),
            shards: [const { Lock::new(Shard::new()) }; SHARDS],
            growth: Lock::new(()),
            in_use: AtomicBool::new(false),
        }
    }

    /// Bytes of code pages.
    pub(super) fn mapped(&self) -> usize {
        self.mapped.load(Ordering::Relaxed)
    }

    /// Its policy, if that is decided.
    #[inline]
    pub(super) fn policy(&self) -> Result<Policy> {
        Policy::from_number(self.policy.load(Ordering::Relaxed))
    }

    /// Which of its shards a chunk belongs to, if to one.
    pub(super) fn shard_of(&self, chunk: &Chunk) -> Option<usize> {
        let shard = chunk.shard().wrapping_sub(self.first_shard) as usize;
        (shard < SHARDS).then_some(shard)
    }

    /// Counts the pages of a chunk that is about to be mapped, if the limit allows them.
    pub(super) fn charge(&self, bytes: usize) -> Result {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |mapped: usize| mapped.checked_add(bytes).filter(|sum| *sum <= limit);
        let charged = self.mapped.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        charged.map(drop).map_err(|_| Error::OverLimit)
    }

    pub(super) fn refund(&self, bytes: usize) {
        self.mapped.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Nobody uses the heap any more.
    pub(super) fn retire(&self) {
        self.policy.store(UNDECIDED, Ordering::Relaxed);
        self.in_use.store(false, Ordering::Release);
    }
}

fn draw(chunk: &'static Chunk) -> ChunkPicture {
    let (address, length) = (chunk.base(), chunk.length());
    let granules = if chunk.blocks.is_single() { 1 } else { chunk.granules() };
    let mut parts = [0; 64];
    for (number, part) in parts.iter_mut().enumerate() {
        let first = number * granules / 64;
        let inside = first..((number + 1) * granules / 64).max(first + 1);
        let used = inside.clone().filter(|granule| chunk.find(chunk.address_of(*granule)).is_some()).count();
        *part = match (used, inside.len() - used) {
            (0, _) if chunk.blocks.was_fetched(inside) => b',',
            (0, _) => b'.',
            (_, 0) => b'#',
            (used, free) if used >= free => b'+',
            _ => b'-',
        };
    }
    ChunkPicture { address, length, parts }
}
