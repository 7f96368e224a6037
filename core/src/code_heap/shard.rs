//! Shards: a heap's chunks are dealt out to several locks, so that threads need not queue at one.

use super::chunk::Chunk;
use super::directory::Directory;
use super::roster::Roster;
use crate::lock::{self, Lock};
use crate::near::Reach;
use crate::platform::Platform;

/// How many shards a heap has.
pub(super) const SHARDS: usize = 8;

/// A lock, the chunks under it, and what is free in them. Shards don't share cache lines.
#[repr(align(128))]
pub(super) struct Shard {
    roster: Lock<Roster>,
}

/// What is asked of a shard.
#[derive(Clone, Copy)]
pub(super) struct Request {
    /// Bytes.
    pub(super) size: usize,
    pub(super) granules: u32,
}

/// A block that a shard gave.
pub(super) struct Given {
    pub(super) address: usize,
    /// Whether its chunk was empty before.
    pub(super) was_empty: bool,
}

pub(super) type Guard<'a, P> = lock::Guard<'a, Roster, P>;

impl Shard {
    pub(super) const fn new() -> Self {
        Self { roster: Lock::new(Roster::new()) }
    }

    #[inline]
    pub(super) fn lock<P: Platform>(&self, platform: P) -> Guard<'_, P> {
        self.roster.lock(platform)
    }

    #[inline]
    pub(super) fn try_lock<P: Platform>(&self, platform: P) -> Option<Guard<'_, P>> {
        self.roster.try_lock(platform)
    }

    /// Takes the lock until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(super) fn lock_for_fork(&self, platform: impl Platform) {
        self.roster.lock_for_fork(platform);
    }

    /// # Safety
    /// This thread took the lock with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(super) unsafe fn unlock_after_fork(&self, platform: impl Platform) {
        // SAFETY: the caller says that the lock is its own.
        unsafe { self.roster.unlock_after_fork(platform) };
    }

    /// A block out of the shard's free runs, if one fits.
    #[inline]
    pub(super) fn alloc(
        &self,
        roster: &mut Roster,
        request: Request,
        directory: &Directory,
    ) -> Option<Given> {
        let taken = roster.take(request.granules, directory)?;
        Some(start(taken, request.size))
    }

    /// The same with every byte within reach.
    pub(super) fn alloc_within(
        &self,
        roster: &mut Roster,
        request: Request,
        reach: Reach,
        directory: &Directory,
    ) -> Option<Given> {
        let taken = take_within(roster, request.granules, reach, directory)?;
        Some(start(taken, request.size))
    }

    /// Takes an empty chunk away: the given one, or any.
    pub(super) fn remove_empty(
        &self,
        roster: &mut Roster,
        wanted: Option<&'static Chunk>,
        directory: &Directory,
    ) -> Option<&'static Chunk> {
        let is_empty = |chunk: &&'static Chunk| chunk.live() == 0;
        let chunk = match wanted {
            Some(chunk) => Some(chunk).filter(is_empty),
            None => roster.chunks(directory).find(is_empty),
        }?;
        roster.remove(chunk);
        Some(chunk)
    }
}

fn start((chunk, start): (&Chunk, usize), size: usize) -> Given {
    let was_empty = chunk.live() == 0;
    chunk.start_block(start, size);
    Given { address: chunk.address_of(start), was_empty }
}

/// Takes so many granules within reach: the chunk, and where they start in it. Looks at every run of the
/// chunks that are partly within reach.
fn take_within(
    roster: &mut Roster,
    length: u32,
    reach: Reach,
    directory: &Directory,
) -> Option<(&'static Chunk, usize)> {
    roster.settle_all(directory);
    let (chunk, run, start) = roster.chunks(directory).find_map(|chunk| {
        if reach.clip(chunk.base()..chunk.base() + chunk.length()).is_empty() {
            return None;
        }
        chunk.runs().find_map(|run| {
            let within = reach.clip(chunk.address_of(run.start)..chunk.address_of(run.end()));
            let start = chunk.first_granule_from(within.start);
            let end = start + length as usize;
            (start >= run.start && end <= run.end() && chunk.address_of(end) <= within.end)
                .then_some((chunk, run, start))
        })
    })?;
    chunk.take_middle(run, start, length);
    Some((chunk, start))
}

/// The shard that a thread tries first. Threads' stacks lie megabytes apart, one behind the other; golden-ratio
/// hashing deals neighbours out to different shards. A wrong guess costs time, not correctness.
#[inline]
pub(super) fn preferred() -> usize {
    let on_stack = 0u8;
    let megabytes = (&raw const on_stack).addr() as u64 >> 21;
    (megabytes.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize % SHARDS
}
