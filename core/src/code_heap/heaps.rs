//! The heaps of a process, and what they share.

use super::Limits;
use super::blocks::Block;
use super::chunk::{Chunk, Owner};
use super::directory::{Directory, Records};
use super::reservation::Reservations;
use super::shard::{Guard, SHARDS, Shard};
use crate::error::Error;
use crate::lock::Lock;
use crate::memory::UNIT;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::registry::Registry;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// All heaps of a runtime.
pub(crate) struct Heaps {
    pub(super) directory: Directory,
    pub(super) shared: Lock<Shared>,
    default: Heap,
    /// The other heaps, a list through `Heap::next`. A heap that is dropped waits there for its next user.
    others: AtomicPtr<Heap>,
}

/// What heaps share under one lock: only growing and shrinking take it.
pub(super) struct Shared {
    pub(super) records: Records,
    pub(super) reservations: Reservations,
}

/// One heap.
pub(crate) struct Heap {
    pub(super) id: u32,
    limit: AtomicUsize,
    chunk_bytes: AtomicUsize,
    /// Bytes of code pages, and the chunks that they are in.
    mapped: AtomicUsize,
    chunks: AtomicUsize,
    /// Chunks that no block lies in.
    empty: AtomicUsize,
    policy: AtomicI32,
    /// Chunks that wait to be unmapped: a list through [`Chunk::next`].
    pub(super) retired: AtomicU32,
    pub(super) shards: [Shard; SHARDS],
    next: AtomicPtr<Heap>,
    in_use: AtomicBool,
}

/// A code heap's figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) blocks: i64,
    pub(crate) bytes: i64,
    pub(crate) chunks: i64,
    pub(crate) chunk_bytes: i64,
    pub(crate) reservations: i64,
    pub(crate) record_bytes: i64,
}

const UNDECIDED: i32 = -1;

impl Heaps {
    pub(crate) const fn new() -> Self {
        Self {
            directory: Directory::new(),
            shared: Lock::new(Shared { records: Records::new(), reservations: Reservations::new() }),
            default: Heap::new(0),
            others: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(super) fn default_heap(&self) -> &Heap {
        &self.default
    }

    /// A heap for a new user.
    pub(super) fn add(&self, limits: Limits, platform: impl Platform) -> Result<&Heap, Error> {
        let mut shared = self.shared.lock(platform);
        let idle = self.others().find(|heap| !heap.in_use.load(Ordering::Relaxed));
        let heap = match idle {
            Some(heap) => heap,
            None => {
                let bytes = size_of::<Heap>().next_multiple_of(UNIT);
                let memory = shared.records.pool().take(platform, bytes)?.cast::<Heap>();
                let first = self.others.load(Ordering::Relaxed);
                // SAFETY: the list's heaps live for ever.
                let id = unsafe { first.as_ref() }.map_or(1, |heap| heap.id + 1);
                // SAFETY: the memory is large enough, aligned to a unit, and ours for ever.
                let heap = unsafe {
                    memory.write(Heap::new(id));
                    memory.as_ref()
                };
                heap.next.store(first, Ordering::Relaxed);
                self.others.store(memory.as_ptr(), Ordering::Release);
                heap
            }
        };
        heap.in_use.store(true, Ordering::Relaxed);
        heap.limit.store(limits.bytes, Ordering::Relaxed);
        heap.chunk_bytes.store(limits.chunk_bytes.max(1), Ordering::Relaxed);
        Ok(heap)
    }

    /// The live block of any heap that holds an address. Takes no lock and allocates nothing.
    #[inline]
    pub(crate) fn find(&self, address: i64, registry: &Registry) -> Option<Block> {
        let address = usize::try_from(address).ok()?;
        self.chunk_at(address, registry)?.find(address)
    }

    /// The chunk of any heap that holds an address: the one that was found near there the last time, or
    /// what the registry says.
    #[inline]
    pub(super) fn chunk_at(&self, address: usize, registry: &Registry) -> Option<&'static Chunk> {
        match self.directory.recent(address).filter(|chunk| chunk.holds(address)) {
            Some(chunk) => Some(chunk),
            None => self.look_up_chunk(address, registry),
        }
    }

    #[cold]
    fn look_up_chunk(&self, address: usize, registry: &Registry) -> Option<&'static Chunk> {
        let page = registry.page(address).filter(|page| !page.is_other_view)?;
        let chunk = self.directory.get(page.chunk.checked_sub(1)?)?;
        self.directory.remember(address, chunk);
        Some(chunk)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Heap> {
        core::iter::once(&self.default).chain(self.others())
    }

    fn others(&self) -> impl Iterator<Item = &Heap> {
        let mut next = self.others.load(Ordering::Acquire);
        core::iter::from_fn(move || {
            // SAFETY: the list's heaps live for ever.
            let heap = unsafe { next.as_ref() }?;
            next = heap.next.load(Ordering::Acquire);
            Some(heap)
        })
    }

    /// Ends all blocks of a heap. All its chunks wait to be unmapped.
    pub(super) fn end_all(&self, heap: &Heap, platform: impl Platform) {
        let used = self.shared.lock(platform).records.used();
        for (index, shard) in heap.shards.iter().enumerate() {
            let mut roster = shard.lock(platform);
            let owner = Owner { heap: heap.id, shard: index as u32 };
            roster.clear(&self.directory);
            for chunk in (0..used).filter_map(|number| self.directory.get(number)) {
                if chunk.owner() == owner {
                    chunk.end_all_blocks();
                    chunk.disown();
                    heap.push_retired(chunk);
                }
            }
        }
    }

    /// Figures of all heaps together.
    pub(crate) fn figures(&self, platform: impl Platform) -> Figures {
        let mut figures = Figures::default();
        for heap in self.all() {
            figures.chunks += heap.chunks.load(Ordering::Relaxed) as i64;
            figures.chunk_bytes += heap.mapped.load(Ordering::Relaxed) as i64;
        }
        let shared = self.shared.lock(platform);
        figures.record_bytes += shared.records.bytes() as i64;
        figures.reservations = shared.reservations.count() as i64;
        let used = shared.records.used();
        drop(shared);
        for chunk in (0..used).filter_map(|number| self.directory.get(number)) {
            figures.blocks += i64::from(chunk.live());
            // Counted when somebody asks, so that freeing a block needs not look at its size.
            figures.bytes += chunk.live_bytes() as i64;
        }
        figures
    }
}

impl Heap {
    const fn new(id: u32) -> Self {
        let limits = Limits::DEFAULT;
        Self {
            id,
            limit: AtomicUsize::new(limits.bytes),
            chunk_bytes: AtomicUsize::new(limits.chunk_bytes),
            mapped: AtomicUsize::new(0),
            chunks: AtomicUsize::new(0),
            empty: AtomicUsize::new(0),
            policy: AtomicI32::new(UNDECIDED),
            retired: AtomicU32::new(0),
            shards: [const { Shard::new() }; SHARDS],
            next: AtomicPtr::new(ptr::null_mut()),
            in_use: AtomicBool::new(false),
        }
    }

    /// The shard of this number.
    #[inline]
    pub(super) fn shard(&self, index: usize) -> &Shard {
        &self.shards[index % SHARDS]
    }

    /// The first shard from `preferred` on whose lock is free; if none is, waits for that one.
    #[inline]
    pub(super) fn lock_any<P: Platform>(
        &self,
        preferred: usize,
        platform: P,
    ) -> (usize, &Shard, Guard<'_, P>) {
        for index in preferred..preferred + SHARDS {
            let shard = self.shard(index);
            if let Some(contents) = shard.try_lock(platform) {
                return (index % SHARDS, shard, contents);
            }
        }
        let shard = self.shard(preferred);
        (preferred, shard, shard.lock(platform))
    }

    /// The locks of the shards whose bits are set. Who holds several has taken them in this order.
    pub(super) fn lock_several<P: Platform>(
        &self,
        shards: u32,
        platform: P,
    ) -> [Option<Guard<'_, P>>; SHARDS] {
        core::array::from_fn(|index| (shards >> index & 1 != 0).then(|| self.shard(index).lock(platform)))
    }

    pub(super) fn policy(&self) -> Option<Policy> {
        Policy::from_number(self.policy.load(Ordering::Relaxed)).ok()
    }

    /// Decides the policy, unless another thread was faster.
    pub(super) fn fix(&self, policy: Policy) -> Policy {
        let decided =
            self.policy.compare_exchange(UNDECIDED, policy as i32, Ordering::Relaxed, Ordering::Relaxed);
        match decided {
            Ok(_) => policy,
            Err(earlier) => Policy::from_number(earlier).unwrap_or(policy),
        }
    }

    pub(super) fn chunk_bytes(&self) -> usize {
        self.chunk_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
    }

    /// Counts the pages of a chunk that is about to be mapped, if the limit allows them.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |mapped: usize| mapped.checked_add(bytes).filter(|sum| *sum <= limit);
        self.mapped.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Error::OverLimit)?;
        self.chunks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The pages are gone.
    pub(super) fn refund(&self, bytes: usize) {
        self.mapped.fetch_sub(bytes, Ordering::Relaxed);
        self.chunks.fetch_sub(1, Ordering::Relaxed);
    }

    /// One empty chunk is kept, so that a block that comes and goes costs no system calls. Whether the one
    /// that has become empty is it.
    pub(super) fn keep_empty_chunk(&self) -> bool {
        self.empty.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(super) fn empty_chunk_added(&self) {
        self.empty.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn empty_chunk_used(&self) {
        self.empty.fetch_sub(1, Ordering::Relaxed);
    }

    /// Puts a chunk on the list of those that wait to be unmapped.
    pub(super) fn push_retired(&self, chunk: &'static Chunk) {
        let link = u32::from(chunk.number) + 1;
        let push = |first: u32| {
            chunk.next.store(first, Ordering::Relaxed);
            Some(link)
        };
        let _ = self.retired.fetch_update(Ordering::AcqRel, Ordering::Acquire, push);
    }

    /// Takes the whole list: its first link.
    pub(super) fn take_retired(&self) -> u32 {
        self.retired.swap(0, Ordering::AcqRel)
    }

    /// In a forked child: counts a chunk that it has, without regard to its limit.
    pub(super) fn count_again(&self, chunk: &Chunk) {
        self.mapped.fetch_add(chunk.mapped(), Ordering::Relaxed);
        self.chunks.fetch_add(1, Ordering::Relaxed);
        if chunk.live() == 0 && chunk.length() > 0 {
            self.empty_chunk_added();
        }
    }

    /// All its chunks are gone, whatever thread was about to add or to remove one.
    pub(super) fn forget_counts(&self) {
        for count in [&self.mapped, &self.chunks, &self.empty] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// Nobody uses the heap any more.
    pub(super) fn retire(&self) {
        self.empty.store(0, Ordering::Relaxed);
        self.policy.store(UNDECIDED, Ordering::Relaxed);
        self.in_use.store(false, Ordering::Release);
    }
}
