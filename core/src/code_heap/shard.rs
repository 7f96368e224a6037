//! A shard: some of a heap's chunks under one lock, so that threads need not queue at another one.
//!
//! Blocks are bumped off a run of free space that was taken whole. When it is used up, the shard searches its chunks
//! for the next one. What is freed is deferred in its chunk, and coalesced when no run serves, or when so much was
//! freed near the bump that its memory, which is there already, should be used before more.
//!
//! Code that is freed may still be in another core's pipeline. A cross-core step that starts later drops it there, so
//! whatever became free space before such a step is as good as new memory after it.

use super::blocks::LONGEST_SHARED;
use super::chunk::Chunk;
use super::records::List;
use crate::free_space::classes_above;
use crate::near::Reach;
use crate::policy::Policy;
use crate::space::FreedCode;
use crate::sync::Ordering;
use core::ops::Range;
use core::ptr;

/// How many shards a heap has.
pub(super) const SHARDS: usize = 8;

/// After so many blocks near the bump have been freed they are coalesced before more memory is used.
const MANY: u32 = 1024;

/// What is asked for a block.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    /// Bytes.
    pub(super) size: usize,
    pub(super) granules: usize,
    pub(super) reach: Reach,
    /// What the policy came of: of use while the heap has none.
    pub(super) wish: Policy,
    pub(super) policy: Policy,
    /// Tells whether other cores may have something left of what was freed where the block goes.
    pub(super) freed_code: &'a FreedCode,
}

impl Request<'_> {
    /// Whether the block is too large to share a chunk: it gets one to itself.
    pub(super) fn is_single(&self) -> bool {
        self.size > LONGEST_SHARED
    }
}

/// The run that blocks are bumped off. No bit says that it is free.
struct Bump {
    chunk: &'static Chunk,
    run: Range<usize>,
    /// How many blocks of the chunk have been freed since it was taken.
    freed: u32,
}

/// The chunks. Shards don't share cache lines.
#[repr(align(128))]
pub(super) struct Shard {
    /// All chunks for many blocks.
    chunks: List,
    /// Where the last search ended.
    current: Option<&'static Chunk>,
    bump: Option<Bump>,
    /// Classes that some chunk has runs of, and maybe others.
    classes: u64,
    /// The chunk that became empty last. It need not be empty any more.
    empty: Option<&'static Chunk>,
}

impl Shard {
    pub(super) const fn new() -> Self {
        Self { chunks: List::new(), current: None, bump: None, classes: 0, empty: None }
    }

    /// A block within reach out of the free space. Its address.
    #[inline(always)]
    pub(super) fn alloc(&mut self, request: Request<'_>) -> Option<usize> {
        if self.bump.as_ref().is_some_and(|bump| !bump.chunk.is_within(request.reach)) {
            // The bump stays for those who may have any address.
            let (chunk, run) = self.find_or_coalesce(request)?;
            let start = run.start;
            return Some(self.carve(chunk, run, start, request));
        }
        let has_room = |bump: &Bump| bump.run.len() >= request.granules && bump.freed < MANY;
        if !self.bump.as_ref().is_some_and(has_room) {
            self.bump_from_next(request)?;
        }
        let Bump { chunk, run, .. } = self.bump.as_mut()?;
        let start = run.start;
        run.start += request.granules;
        Some(begin_block(chunk, start, request))
    }

    /// A block within reach, if need be out of a chunk that is so in part only: all of its runs are looked at.
    #[cold]
    pub(super) fn alloc_even_partly(&mut self, request: Request<'_>) -> Option<usize> {
        let found = self.alloc(request);
        if found.is_some() || request.reach == Reach::ANYWHERE {
            return found;
        }
        self.close_bump();
        let (chunk, run, start) = self.chunks.iter().find_map(|chunk| {
            let starts = chunk.starts_within(request.reach, request.size);
            if starts.is_empty() {
                return None;
            }
            self.coalesce(chunk, request);
            chunk.space.runs().take_while(|run| run.start < starts.end).find_map(|run| {
                let start = run.start.max(starts.start);
                let fits = start < starts.end && start + request.granules <= run.end;
                fits.then_some((chunk, run, start))
            })
        })?;
        Some(self.carve(chunk, run, start, request))
    }

    /// Starts a block in the middle of a free run.
    fn carve(&mut self, chunk: &Chunk, run: Range<usize>, start: usize, request: Request<'_>) -> usize {
        chunk.space.take(run.clone());
        for rest in [run.start..start, start + request.granules..run.end] {
            if !rest.is_empty() {
                chunk.space.release(rest);
            }
        }
        self.classes |= chunk.space.classes();
        begin_block(chunk, start, request)
    }

    /// Takes the next run to bump blocks off.
    #[cold]
    fn bump_from_next(&mut self, request: Request<'_>) -> Option<()> {
        if let Some(chunk) = self.close_bump() {
            self.coalesce(chunk, request);
        }
        let (chunk, run) = self.find_or_coalesce(request)?;
        chunk.space.take(run.clone());
        self.bump = Some(Bump { chunk, run, freed: 0 });
        Some(())
    }

    /// Makes what is left of the bump's run free. Its chunk, if many blocks near it have been freed.
    fn close_bump(&mut self) -> Option<&'static Chunk> {
        let Bump { chunk, run, freed } = self.bump.take()?;
        if !run.is_empty() {
            chunk.space.release(run);
            self.classes |= chunk.space.classes();
        }
        (freed >= MANY).then_some(chunk)
    }

    /// A run in a chunk that is wholly within reach, if need be among what was freed: chunk by chunk, as each may
    /// have one.
    fn find_or_coalesce(&mut self, request: Request<'_>) -> Option<(&'static Chunk, Range<usize>)> {
        loop {
            if let Some(found) = self.find(request) {
                return Some(found);
            }
            let may_have = |chunk: &&Chunk| chunk.space.deferrals() > 0 && chunk.is_within(request.reach);
            let chunk = self.chunks.iter().find(may_have)?;
            self.coalesce(chunk, request);
        }
    }

    fn find(&mut self, request: Request<'_>) -> Option<(&'static Chunk, Range<usize>)> {
        let classes = classes_above(request.granules);
        let may_have =
            |chunk: &&Chunk| chunk.space.classes() & classes != 0 && chunk.is_within(request.reach);
        // A chunk's classes may promise runs that are gone; a search that finds none corrects them.
        while self.classes & classes != 0 {
            let current = self.current.filter(may_have).or_else(|| self.chunks.iter().find(may_have));
            let Some(chunk) = current else {
                if request.reach == Reach::ANYWHERE {
                    self.classes &= !classes;
                }
                break;
            };
            self.current = current;
            if let Some(run) = chunk.space.find(request.granules) {
                return Some((chunk, run));
            }
        }
        // A run of the class that the length itself belongs to, before more memory is asked for.
        let mut chunks = self.chunks.iter().filter(|chunk| chunk.is_within(request.reach));
        chunks.find_map(|chunk| Some((chunk, chunk.space.find_in_class(request.granules)?)))
    }

    /// Makes what was freed in a chunk free space. The bump is elsewhere.
    fn coalesce(&mut self, chunk: &Chunk, request: Request<'_>) {
        if chunk.space.deferrals() > 0 {
            match chunk.blocks.live() {
                0 => chunk.space.reset(chunk.granules()),
                _ => chunk.space.coalesce(chunk.blocks.starts, chunk.granules()),
            }
            chunk.reuse_step.store(request.freed_code.next_step(), Ordering::Relaxed);
            self.classes |= chunk.space.classes();
        }
    }

    /// Ends the live block that starts at a granule. The chunk that is retired now, if one is: the block's own, or one
    /// that is empty beside another.
    #[inline]
    pub(super) fn free(&mut self, chunk: &'static Chunk, granules: Range<usize>) -> Option<&'static Chunk> {
        let is_for_others = chunk.is_for_others();
        chunk.blocks.end(granules.start);
        if is_for_others {
            self.give_back(chunk, granules);
        }
        if chunk.blocks.live() == 0 { self.emptied(chunk, is_for_others) } else { None }
    }

    /// Granules of a block that are its no longer can serve others. If they were bumped off last they join the run
    /// again: what comes and goes like a stack stays where it is, in warm caches. Not if cores may have fetched from
    /// them.
    #[inline]
    pub(super) fn give_back(&mut self, chunk: &Chunk, granules: Range<usize>) {
        let start = granules.start;
        if let Some(bump) = self.bump.as_mut().filter(|bump| ptr::eq(bump.chunk, chunk)) {
            if granules.end == bump.run.start && !chunk.blocks.was_fetched(granules) {
                bump.run.start = start;
                return;
            }
            bump.freed += 1;
        }
        chunk.space.defer(start);
    }

    /// One empty chunk that can serve others is kept, so that a block that comes and goes costs no system call. If
    /// there are two now, the other one is retired.
    #[cold]
    fn emptied(&mut self, chunk: &'static Chunk, is_for_others: bool) -> Option<&'static Chunk> {
        chunk.backing.is_lent.store(false, Ordering::Relaxed);
        let is_unused = |other: &&Chunk| !ptr::eq(*other, chunk) && other.blocks.live() == 0;
        let unused = if is_for_others { self.empty.replace(chunk).filter(is_unused) } else { Some(chunk) };
        unused.inspect(|unused| self.remove(unused))
    }

    /// Adds a new chunk for many blocks. They are bumped off it at once, unless they are bumped off another one, which
    /// has room, but not where it is needed.
    pub(super) fn add(&mut self, chunk: &'static Chunk) {
        let run = 0..chunk.granules();
        chunk.put_to_use();
        self.chunks.push(chunk);
        if self.bump.is_none() {
            self.bump = Some(Bump { chunk, run, freed: 0 });
        } else {
            chunk.space.release(run);
            self.classes |= chunk.space.classes();
        }
    }

    /// The chunk's pages lost all access: nothing more is allocated there.
    pub(super) fn withdraw(&mut self, chunk: &Chunk) {
        chunk.backing.is_withdrawn.store(true, Ordering::Relaxed);
        chunk.change_memory();
        self.bump.take_if(|bump| ptr::eq(bump.chunk, chunk));
        chunk.space.clear();
    }

    /// Retires the chunks in which no block is live. Whether there were any.
    pub(super) fn remove_empty(&mut self) -> bool {
        let chunks = self.chunks.iter().filter(|chunk| chunk.blocks.live() == 0);
        chunks.map(|chunk| self.remove(chunk)).count() > 0
    }

    pub(super) fn remove(&mut self, chunk: &'static Chunk) {
        self.chunks.remove(chunk);
        self.bump.take_if(|bump| ptr::eq(bump.chunk, chunk));
        for place in [&mut self.current, &mut self.empty] {
            place.take_if(|known| ptr::eq(*known, chunk));
        }
        chunk.retire();
    }
}

/// Starts a block in granules that were taken. They count as fetched for as long as other cores may have something
/// left of what was freed there.
#[inline]
fn begin_block(chunk: &Chunk, start: usize, request: Request<'_>) -> usize {
    if chunk.blocks.any_fetched() && chunk.reuse_step.load(Ordering::Relaxed) <= request.freed_code.finished()
    {
        chunk.blocks.fetched.clear_all(start..start + request.granules);
    }
    chunk.blocks.start(start, request.size);
    chunk.address_of(start)
}
