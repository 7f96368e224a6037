//! A region: one allocation or mapping that a caller was given.

use crate::protection::Protection;
use crate::span::{Span, round_up};
use bitflags::bitflags;
use core::ops::Range;

/// What a region was made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
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
    pub(crate) const fn is_exec_memory(self) -> bool {
        matches!(self, Self::Code | Self::Data)
    }

    /// Whether `rt_munmap` releases it.
    pub(crate) const fn is_mapping(self) -> bool {
        matches!(self, Self::File | Self::Anonymous)
    }
}

/// A live region. Its pages' protections are in the page map.
#[derive(Clone, Copy)]
pub(crate) struct Region {
    /// The address that the caller was given.
    pub(crate) base: usize,
    /// The exact size that was requested, in bytes.
    pub(crate) size: usize,
    /// A second, read-write view of the same memory, or 0.
    pub(crate) writable_view: usize,
    /// A further read-execute view of the same memory, from which pages can regain EXEC, or 0.
    pub(crate) executable_view: usize,
    pub(crate) kind: Kind,
    /// What cores may have fetched of it.
    pub(crate) published: Published,
    /// The number + 1 of the code heap's chunk that it is; 0: none.
    pub(crate) chunk: u16,
    pub(crate) forked: Forked,
    /// Whether nothing changes its pages any more.
    pub(crate) is_sealed: bool,
    /// Whether a page without access lies before and behind each view, which is unmapped with it.
    pub(crate) is_guarded: bool,
}

bitflags! {
    /// What a fork means for the memory behind a region's views. In one byte, since regions are copied often.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Forked: u8 {
        /// Another process may have it too, since a fork. A chunk says so itself.
        const IN_COMMON = 1;
        /// The child of a fork under way should have a copy, and there was no memory for one.
        const LACKS_COPY = 2;
        /// This is a child without that copy: all access is gone.
        const WITHDRAWN = 4;
        /// Children don't get it.
        const WITHHELD = 8;
        /// An unwinder may have records of code in it, and would read them where the code has gone.
        const UNWOUND = 16;
    }
}

/// Bytes of a region, by their offsets, that hold all that was ever published in it, from the first to the last. Bytes
/// beyond four gibibytes count as published.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Published {
    start: u32,
    end: u32,
}

impl Published {
    const NOTHING: Self = Self { start: u32::MAX, end: 0 };

    fn of(part: &Range<usize>) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Self { start: clamp(part.start), end: clamp(part.end) }
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Self::NOTHING
    }

    /// Whether any of these bytes may have been published.
    pub(crate) fn intersects(self, part: &Range<usize>) -> bool {
        let part = Self::of(part);
        part.start < self.end && self.start < part.end || part.end == u32::MAX
    }

    /// After these bytes were published too.
    pub(super) fn with(self, part: &Range<usize>) -> Self {
        let part = Self::of(part);
        Self { start: self.start.min(part.start), end: self.end.max(part.end) }
    }
}

impl Region {
    /// A region with one view.
    pub(crate) const fn new(kind: Kind, base: usize, size: usize) -> Self {
        Self {
            base,
            size,
            writable_view: 0,
            executable_view: 0,
            kind,
            published: Published::NOTHING,
            chunk: 0,
            forked: Forked::empty(),
            is_sealed: false,
            is_guarded: false,
        }
    }

    /// The bytes that the caller asked for.
    pub(crate) const fn requested(&self) -> Span {
        Span::from_parts(self.base, self.size)
    }

    /// The region's pages.
    pub(crate) const fn pages(&self, page_size: usize) -> Span {
        Span::from_parts(self.base, round_up(self.size, page_size))
    }

    /// The pages of the views beside the one at the base, and what they allow.
    pub(crate) fn other_views(&self, page_size: usize) -> impl Iterator<Item = (Span, Protection)> + use<> {
        let length = round_up(self.size, page_size);
        [(self.writable_view, Protection::RW), (self.executable_view, Protection::RX)]
            .into_iter()
            .filter(|(view, _)| *view != 0)
            .map(move |(view, protection)| (Span::from_parts(view, length), protection))
    }

    /// The pages of all views, the one at the base first.
    pub(crate) fn all_views(&self, page_size: usize) -> impl Iterator<Item = Span> + use<> {
        let others = self.other_views(page_size).map(|(view, _)| view);
        core::iter::once(self.pages(page_size)).chain(others)
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
    pub(crate) const fn has_several_views(&self) -> bool {
        self.writable_view != 0 || self.executable_view != 0
    }
}
