//! The address space: an arena, what is mapped in it, and who may store where.
//!
//! As in a kernel, a mapping is a list of areas, and changing the protection of a part splits one.

mod snapshots;
mod views;

use crate::bytes;
use execmem_core::{Error, Protection, Span};
use std::collections::BTreeMap;
use std::ops::Range;
use views::Memory;

/// What unmapped memory is filled with. Memory that was never mapped is zero.
pub const POISON: u8 = 0xdb;

/// Mappings from here up are addresses only: nothing may be loaded or stored there.
pub(crate) const HUGE: usize = 1 << 30;
/// Where they are: far from where systems put a program and its memory, which `Space::new` checks.
const HUGE_START: usize = 1 << 44;
const HUGE_END: usize = 1 << 46;

/// What is mapped now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Mappings; memory with two views is two.
    pub mappings: usize,
    /// Their bytes.
    pub bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Private,
    Shared,
    /// A view of this memory, which begins at this offset of it.
    View {
        memory: usize,
        offset: usize,
    },
    Jit,
    /// Part of the file with this number.
    File {
        file: usize,
        offset: usize,
        shared: bool,
    },
}

impl Kind {
    /// The same memory, `bytes` further on.
    fn advanced(self, bytes: usize) -> Self {
        match self {
            Self::View { memory, offset } => Self::View { memory, offset: offset + bytes },
            Self::File { file, offset, shared } => Self::File { file, offset: offset + bytes, shared },
            other => other,
        }
    }
}

/// Adjacent pages of one mapping with one protection.
#[derive(Clone, Debug)]
pub(crate) struct Area {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) protection: Protection,
    pub(crate) kind: Kind,
    /// Whether a forked child lacks it.
    pub(crate) is_withheld: bool,
    /// What the bytes have to be, where no store is allowed.
    snapshot: Option<Box<[u8]>>,
}

impl Area {
    fn new(start: usize, length: usize, protection: Protection, kind: Kind) -> Self {
        Self { start, end: start + length, protection, kind, is_withheld: false, snapshot: None }
    }

    pub(crate) fn may_store(&self) -> bool {
        self.protection.contains(Protection::WRITE)
    }

    /// What a part of the area shows.
    pub(crate) fn kind_at(&self, address: usize) -> Kind {
        self.kind.advanced(address - self.start)
    }
}

pub(crate) struct Space {
    pub(crate) page_size: usize,
    pub(crate) arena: Range<usize>,
    /// For each page of the arena whether it was mapped at some time. The others, and those behind, are zero.
    used: Vec<bool>,
    next_huge: usize,
    /// Below it there is no gap.
    pub(crate) full_to: usize,
    pub(crate) areas: BTreeMap<usize, Area>,
    /// Start and length of what was mapped in one piece, which is unmapped in one piece.
    pub(crate) pieces: BTreeMap<usize, usize>,
    pub(crate) foreign: BTreeMap<usize, (usize, Protection)>,
    /// Where nothing can be mapped, and what who tries is told.
    pub(crate) refused: Vec<(Range<usize>, Error)>,
    memories: BTreeMap<usize, Memory>,
    next_memory: usize,
    /// What is on huge pages.
    pub(crate) huge: Vec<Span>,
    pub(crate) violations: Vec<String>,
}

impl Space {
    pub(crate) fn new(page_size: usize, length: usize) -> Self {
        let start = bytes::new_arena(length, page_size);
        assert!(start + length <= HUGE_START || start >= HUGE_END, "an arena where huge mappings are");
        Self {
            page_size,
            arena: start..start + length,
            used: Vec::new(),
            next_huge: HUGE_START,
            full_to: start,
            areas: BTreeMap::new(),
            pieces: BTreeMap::new(),
            foreign: BTreeMap::new(),
            refused: Vec::new(),
            memories: BTreeMap::new(),
            next_memory: 1,
            huge: Vec::new(),
            violations: Vec::new(),
        }
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(crate) fn live(&self) -> Live {
        Live { mappings: self.pieces.len(), bytes: self.pieces.values().sum() }
    }

    /// Maps zeroed pages: at `at` if they are free, else at the lowest place that is large enough.
    pub(crate) fn map(
        &mut self,
        length: usize,
        protection: Protection,
        kind: Kind,
        at: Option<usize>,
    ) -> Option<usize> {
        let start = if length >= HUGE {
            let start = self.next_huge;
            let end = start.checked_add(length).filter(|end| *end <= HUGE_END)?;
            self.next_huge = end.next_multiple_of(HUGE);
            start
        } else {
            let start = at.filter(|at| self.is_free(*at, length)).or_else(|| self.lowest_gap(length))?;
            self.check_unmapped((start..start + length).step_by(self.page_size).collect());
            for page in (start..start + length).step_by(self.page_size) {
                let index = self.index(page);
                if self.was_used(page) {
                    bytes::fill(page, self.page_size, 0);
                } else {
                    self.used.resize(self.used.len().max(index + 1), false);
                    self.used[index] = true;
                }
            }
            start
        };
        self.pieces.insert(start, length);
        self.put(Area::new(start, length, protection, kind));
        Some(start)
    }

    /// Replaces the pages at `start`, which are mapped, by another view of a memory.
    pub(crate) fn replace(&mut self, start: usize, length: usize, protection: Protection, kind: Kind) {
        self.take_out(start..start + length);
        self.take_apart(start..start + length);
        self.put(Area::new(start, length, protection, kind));
        self.show(start..start + length);
    }

    /// Unmaps one piece.
    pub(crate) fn unmap(&mut self, start: usize, length: usize) {
        self.settle(start..start + length);
        self.take_apart(start..start + length);
        self.take_out(start..start + length);
        self.pieces.remove(&start);
        if length < HUGE {
            self.full_to = self.full_to.min(start);
            bytes::fill(start, length, POISON);
        }
    }

    /// Nothing is shown there any more. A memory without a view is gone.
    fn take_out(&mut self, range: Range<usize>) {
        let mut memories = Vec::new();
        for area in self.cut(range) {
            if let Some(Area { kind: Kind::View { memory, .. }, .. }) = self.areas.remove(&area.start) {
                memories.push(memory);
            }
        }
        for memory in memories {
            let is_it =
                |area: &Area| matches!(area.kind, Kind::View { memory: other, .. } if other == memory);
            if !self.areas.values().any(is_it) {
                self.memories.remove(&memory);
            }
        }
    }

    /// Changes the protection of mapped pages.
    pub(crate) fn protect(&mut self, range: Range<usize>, protection: Protection) {
        self.settle(range.clone());
        self.take_apart(range.clone());
        for area in self.cut(range.clone()) {
            if let Some(area) = self.areas.get_mut(&area.start) {
                area.protection = protection;
            }
        }
        self.show(range);
    }

    /// Whether a forked child gets mapped pages.
    pub(crate) fn inherit(&mut self, range: Range<usize>, inherited: bool) {
        for area in self.cut(range) {
            self.areas.entry(area.start).and_modify(|area| area.is_withheld = !inherited);
        }
    }

    /// No huge page is left of what reaches into a range.
    fn take_apart(&mut self, range: Range<usize>) {
        self.huge.retain(|pages| pages.end() <= range.start || range.end <= pages.start());
    }

    /// The piece that holds all of a range.
    pub(crate) fn piece_around(&self, range: &Range<usize>) -> Option<(usize, usize)> {
        let (start, length) = self.pieces.range(..=range.start).next_back()?;
        (range.start < range.end && range.end <= start + length).then_some((*start, *length))
    }

    /// The areas in a range, each cut to it.
    pub(crate) fn areas_in(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, &Area)> {
        let first = self.areas.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        self.areas
            .range(first..range.end)
            .map(move |(start, area)| ((*start).max(range.start)..area.end.min(range.end), area))
            .filter(|(part, _)| part.start < part.end)
    }

    /// Splits areas at both ends of a range. The areas inside it.
    fn cut(&mut self, range: Range<usize>) -> Vec<Range<usize>> {
        for at in [range.start, range.end] {
            let Some((_, area)) = self.areas.range_mut(..at).next_back() else { continue };
            if area.end <= at {
                continue;
            }
            let snapshot = area.snapshot.take().map(|snapshot| {
                let (low, high) = snapshot.split_at(at - area.start);
                area.snapshot = Some(low.into());
                high.into()
            });
            let upper = Area { start: at, kind: area.kind_at(at), snapshot, ..area.clone() };
            area.end = at;
            self.areas.insert(at, upper);
        }
        self.areas.range(range).map(|(start, area)| *start..area.end).collect()
    }

    fn put(&mut self, area: Area) {
        let range = area.start..area.end;
        self.areas.insert(area.start, area);
        self.take_snapshot(range);
    }

    /// Calls `then` with the pages of each area behind a write switch.
    pub(crate) fn for_jit(&mut self, then: impl Fn(&mut Self, Range<usize>)) {
        let is_jit = |area: &&Area| area.kind == Kind::Jit;
        let all: Vec<_> = self.areas.values().filter(is_jit).map(|area| area.start..area.end).collect();
        all.into_iter().for_each(|pages| then(self, pages));
    }

    /// Makes a part of a mapping a mapping of its own.
    pub(crate) fn divide(&mut self, start: usize, length: usize) {
        let Some((piece, whole)) = self.piece_around(&(start..start + length)) else { return };
        self.cut(start..start + length);
        self.pieces.remove(&piece);
        let (end, piece_end) = (start + length, piece + whole);
        for (from, to) in [(piece, start), (start, end), (end, piece_end)] {
            if from < to {
                self.pieces.insert(from, to - from);
            }
        }
    }

    /// Why nothing can be mapped at a place, if that is so.
    pub(crate) fn refusal(&self, start: usize, length: usize) -> Result<(), Error> {
        let end = start.saturating_add(length);
        let refused = self.refused.iter().find(|(range, _)| range.start < end && start < range.end);
        refused.map_or(Ok(()), |(_, error)| Err(*error))
    }

    fn is_free(&self, start: usize, length: usize) -> bool {
        let end = start.saturating_add(length);
        let is_inside = self.arena.start <= start && end <= self.arena.end;
        let is_foreign =
            |(&start_of, &(end_of, _)): (&usize, &(usize, Protection))| start_of < end && start < end_of;
        is_inside && self.areas_in(start..end).next().is_none() && !self.foreign.iter().any(is_foreign)
    }

    fn lowest_gap(&mut self, length: usize) -> Option<usize> {
        while let Some(length) = self.pieces.get(&self.full_to) {
            self.full_to += length;
        }
        let mut at = self.full_to;
        loop {
            let end = at.checked_add(length).filter(|end| *end <= self.arena.end)?;
            let piece = self.pieces.range(..end).next_back().map(|(start, length)| start + length);
            let is_near =
                |(start, (end_of, _)): &(&usize, &(usize, Protection))| **start < end && *end_of > at;
            let foreign = self.foreign.iter().filter(is_near).map(|(_, (end, _))| *end).max();
            match piece.into_iter().chain(foreign).filter(|taken| *taken > at).min() {
                Some(taken) => at = taken.next_multiple_of(self.page_size),
                None => break,
            }
        }
        Some(at)
    }
}
