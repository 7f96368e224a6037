//! A region: one allocation or mapping that a caller was given.

use crate::protection::Protection;
use crate::span::{Span, round_up};
use core::ops::Range;

/// What a region was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Code memory of `rt_alloc_exec_memory`.
    Code,
    /// Data, to become code later: `rt_alloc_rw_memory`.
    Data,
    /// A mapped file.
    File,
    /// Anonymous memory of `rt_mmap_file`.
    Anonymous,
    /// A chunk of a code heap. Only the heap works on it: to callers of page operations it is not owned.
    HeapChunk,
}

impl Kind {
    /// Whether `rt_free_exec_memory` releases it and the code-memory counts include it.
    pub const fn is_exec_memory(self) -> bool {
        matches!(self, Self::Code | Self::Data)
    }

    /// Whether `rt_munmap` releases it.
    pub const fn is_mapping(self) -> bool {
        matches!(self, Self::File | Self::Anonymous)
    }
}

/// A live region. Its pages' protections are in the page map.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// The address that the caller was given.
    pub base: usize,
    /// The exact size that was requested, in bytes.
    pub size: usize,
    /// A second, read-write view of the same memory, or 0.
    pub writable_view: usize,
    /// A further read-execute view of the same memory, from which pages can regain EXEC, or 0.
    pub executable_view: usize,
    /// What it was made for.
    pub kind: Kind,
    /// What cores may have fetched of it.
    pub published: Published,
    /// The number + 1 of the code heap's chunk that it is; 0: none.
    pub(crate) chunk: u16,
    /// Whether another process may have the memory behind its views too, since a fork. A chunk says so itself.
    pub(crate) is_in_common: bool,
}

/// Bytes of a region that hold all that was ever published in it, from the first to the last. Bytes beyond four
/// gibibytes count as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    start: u32,
    end: u32,
}

impl Published {
    const NOTHING: Self = Self { start: u32::MAX, end: 0 };

    /// From offsets into the region.
    fn of(part: &Range<usize>) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(part.start), end: clamp(part.end) }
    }

    /// Whether nothing was published.
    pub fn is_empty(self) -> bool {
        self == Self::NOTHING
    }

    /// Whether any of these bytes may have been published.
    pub fn intersects(self, part: &Range<usize>) -> bool {
        let part = Self::of(part);
        part.start < self.end && self.start < part.end || part.end == u32::MAX
    }

    /// Whether all of these bytes are known already.
    pub(super) fn contains(self, part: &Range<usize>) -> bool {
        let part = Self::of(part);
        self.start <= part.start && part.end <= self.end
    }

    pub(super) fn add(&mut self, part: &Range<usize>) {
        let part = Self::of(part);
        *self = Self { start: self.start.min(part.start), end: self.end.max(part.end) };
    }
}

impl Region {
    /// A region with one view.
    pub const fn new(kind: Kind, base: usize, size: usize) -> Self {
        Self {
            base,
            size,
            writable_view: 0,
            executable_view: 0,
            kind,
            published: Published::NOTHING,
            chunk: 0,
            is_in_common: false,
        }
    }

    /// The bytes that the caller asked for.
    pub const fn requested(&self) -> Span {
        Span::from_parts(self.base, self.size)
    }

    /// The region's pages.
    pub const fn pages(&self, page_size: usize) -> Span {
        Span::from_parts(self.base, round_up(self.size, page_size))
    }

    /// The pages of the views beside the one at the base, and what they allow.
    pub fn other_views(&self, page_size: usize) -> impl Iterator<Item = (Span, Protection)> + use<> {
        let length = round_up(self.size, page_size);
        [(self.writable_view, Protection::RW), (self.executable_view, Protection::RX)]
            .into_iter()
            .filter(|(view, _)| *view != 0)
            .map(move |(view, protection)| (Span::from_parts(view, length), protection))
    }

    /// The pages of all views, the one at the base first.
    pub fn all_views(&self, page_size: usize) -> impl Iterator<Item = Span> + use<> {
        let length = round_up(self.size, page_size);
        [self.base, self.writable_view, self.executable_view]
            .into_iter()
            .filter(|view| *view != 0)
            .map(move |view| Span::from_parts(view, length))
    }

    /// The pages of a view that shows all of the memory and can always be read, if there is more than one view.
    pub(crate) const fn shown(&self, page_size: usize) -> Span {
        let view = match (self.writable_view, self.executable_view) {
            (0, 0) => self.base,
            (0, view) | (view, _) => view,
        };
        Span::from_parts(view, round_up(self.size, page_size))
    }

    /// Whether there is any view beside the one at the base.
    pub const fn has_several_views(&self) -> bool {
        self.writable_view != 0 || self.executable_view != 0
    }
}
