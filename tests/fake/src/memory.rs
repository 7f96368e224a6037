//! The address space: an arena, what is mapped in it, and who may store where.
//!
//! As in a kernel, a mapping is a list of areas, and changing the protection of a part splits one.

use crate::bytes;
use execmem_core::{Error, Protection};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

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
    /// What the bytes have to be, where no store is allowed.
    seal: Option<Box<[u8]>>,
}

impl Area {
    fn new(start: usize, length: usize, protection: Protection, kind: Kind) -> Self {
        Self { start, end: start + length, protection, kind, seal: None }
    }

    pub(crate) fn may_store(&self) -> bool {
        self.protection.contains(Protection::WRITE)
    }

    /// What a part of the area shows.
    pub(crate) fn kind_at(&self, address: usize) -> Kind {
        self.kind.advanced(address - self.start)
    }
}

/// Memory with several views: the bytes as the last store left them.
type Memory = Vec<u8>;

pub(crate) struct Space {
    pub(crate) page_size: usize,
    pub(crate) arena: Range<usize>,
    /// Pages that were mapped at some time. The others are zero.
    used: BTreeSet<usize>,
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
    pub(crate) violations: Vec<String>,
}

impl Space {
    pub(crate) fn new(page_size: usize, length: usize) -> Self {
        let start = bytes::new_arena(length, page_size);
        assert!(start + length <= HUGE_START || start >= HUGE_END, "an arena where huge mappings are");
        Self {
            page_size,
            arena: start..start + length,
            used: BTreeSet::new(),
            next_huge: HUGE_START,
            full_to: start,
            areas: BTreeMap::new(),
            pieces: BTreeMap::new(),
            foreign: BTreeMap::new(),
            refused: Vec::new(),
            memories: BTreeMap::new(),
            next_memory: 1,
            violations: Vec::new(),
        }
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(crate) fn live(&self) -> Live {
        Live { mappings: self.pieces.len(), bytes: self.pieces.values().sum() }
    }

    /// Memory for [`Kind::View`].
    pub(crate) fn new_memory(&mut self, contents: Memory) -> usize {
        self.next_memory += 1;
        self.memories.insert(self.next_memory, contents);
        self.next_memory
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
                if !self.used.insert(page) {
                    bytes::fill(page, self.page_size, 0);
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
        for area in self.cut(start..start + length) {
            self.areas.remove(&area.start);
        }
        self.put(Area::new(start, length, protection, kind));
        self.show(start..start + length);
    }

    /// Unmaps one piece.
    pub(crate) fn unmap(&mut self, start: usize, length: usize) {
        self.settle(start..start + length);
        let mut memories = Vec::new();
        for area in self.cut(start..start + length) {
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
        self.pieces.remove(&start);
        if length < HUGE {
            self.full_to = self.full_to.min(start);
            bytes::fill(start, length, POISON);
        }
    }

    /// Changes the protection of mapped pages.
    pub(crate) fn protect(&mut self, range: Range<usize>, protection: Protection) {
        self.settle(range.clone());
        for area in self.cut(range.clone()) {
            if let Some(area) = self.areas.get_mut(&area.start) {
                area.protection = protection;
            }
        }
        self.show(range);
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
            let seal = area.seal.take().map(|seal| {
                let (low, high) = seal.split_at(at - area.start);
                area.seal = Some(low.into());
                high.into()
            });
            let upper = Area { start: at, kind: area.kind_at(at), seal, ..area.clone() };
            area.end = at;
            self.areas.insert(at, upper);
        }
        self.areas.range(range).map(|(start, area)| *start..area.end).collect()
    }

    fn put(&mut self, area: Area) {
        let range = area.start..area.end;
        self.areas.insert(area.start, area);
        self.seal(range);
    }

    /// Notes the bytes of pages that nobody may store to; lets the others go.
    pub(crate) fn seal(&mut self, range: Range<usize>) {
        let range = self.pages(range);
        let first = self.areas.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        for area in self.areas.range_mut(first..range.end).map(|(_, area)| area) {
            let is_far = (HUGE_START..HUGE_END).contains(&area.start);
            if is_far || area.may_store() {
                area.seal = None;
                continue;
            }
            let part = area.start.max(range.start)..area.end.min(range.end);
            match &mut area.seal {
                Some(seal) if !part.is_empty() => {
                    let inside = part.start - area.start..part.end - area.start;
                    seal[inside].copy_from_slice(&bytes::read(part.start, part.len()));
                }
                Some(_) => {}
                seal => *seal = Some(bytes::read(area.start, area.end - area.start).into()),
            }
        }
    }

    /// Looks for stores that were not allowed.
    pub(crate) fn check_seals(&mut self, range: Range<usize>) {
        let mut broken = Vec::new();
        for (part, area) in self.areas_in(self.pages(range)) {
            let Some(seal) = &area.seal else { continue };
            let offset = part.start - area.start;
            if !bytes::equal(part.start, &seal[offset..offset + part.len()]) {
                broken.push((part, area.protection));
            }
        }
        for (part, protection) in broken {
            self.violation(format!("a store to {part:#x?}, which is {}", protection.letters()));
            self.seal(part);
        }
    }

    /// Looks at pages that are unmapped: each is as it was left.
    fn check_unmapped(&mut self, pages: Vec<usize>) {
        for page in pages {
            let byte = if self.used.contains(&page) { POISON } else { 0 };
            if !bytes::equal(page, &vec![byte; self.page_size]) {
                self.violation(format!("a store to {page:#x}, which is not mapped"));
                bytes::fill(page, self.page_size, byte);
            }
        }
    }

    /// Checks every page that is or was mapped.
    pub(crate) fn check_all(&mut self) {
        self.check_seals(0..usize::MAX);
        let is_unmapped = |page: &&usize| self.areas_in(**page..**page + 1).next().is_none();
        let unmapped = self.used.iter().filter(is_unmapped).copied().collect();
        self.check_unmapped(unmapped);
    }

    /// Looks for forbidden stores in a range. Stores through writable views of the memory that it shows reach
    /// that memory, and the other writable views.
    pub(crate) fn settle(&mut self, range: Range<usize>) {
        self.check_seals(range.clone());
        for (_, memory, shown) in self.views_in(range) {
            let writable = self.writable_views(memory, &shown);
            let Some(contents) = self.memories.get_mut(&memory) else { continue };
            let before = contents[shown.clone()].to_vec();
            for (address, part) in &writable {
                for (at, byte) in part.clone().zip(bytes::read(*address, part.len())) {
                    if byte != before[at - shown.start] {
                        contents[at] = byte;
                    }
                }
            }
            for (address, part) in writable {
                bytes::write(address, &contents[part]);
            }
        }
    }

    /// Makes views in a range show what their memory holds.
    pub(crate) fn show(&mut self, range: Range<usize>) {
        for (address, memory, shown) in self.views_in(range.clone()) {
            bytes::write(address, &self.memories[&memory][shown]);
        }
        self.seal(range);
    }

    /// What a part of a memory with several views holds.
    pub(crate) fn contents(&self, memory: usize, part: Range<usize>) -> &[u8] {
        &self.memories[&memory][part]
    }

    /// The parts of a range that show a memory with several views: address, memory, part of the memory.
    pub(crate) fn views_in(&self, range: Range<usize>) -> Vec<(usize, usize, Range<usize>)> {
        let mut views: Vec<(usize, usize, Range<usize>)> = Vec::new();
        for (part, area) in self.areas_in(range) {
            let Kind::View { memory, offset } = area.kind_at(part.start) else { continue };
            match views.last_mut() {
                // Areas that differ in protection only.
                Some((start, other, shown))
                    if *other == memory && shown.end == offset && *start + shown.len() == part.start =>
                {
                    shown.end += part.len();
                }
                _ => views.push((part.start, memory, offset..offset + part.len())),
            }
        }
        views
    }

    /// Where a part of a memory can be written: address, part of the memory.
    fn writable_views(&self, wanted: usize, shown: &Range<usize>) -> Vec<(usize, Range<usize>)> {
        let view = |area: &Area| match area.kind {
            Kind::View { memory, offset } if memory == wanted && area.may_store() => {
                let part = offset.max(shown.start)..(offset + area.end - area.start).min(shown.end);
                (!part.is_empty()).then(|| (area.start + part.start - offset, part))
            }
            _ => None,
        };
        self.areas.values().filter_map(view).collect()
    }

    /// The pages that a range touches.
    fn pages(&self, range: Range<usize>) -> Range<usize> {
        let in_page = self.page_size - 1;
        range.start & !in_page..range.end.saturating_add(in_page) & !in_page
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
