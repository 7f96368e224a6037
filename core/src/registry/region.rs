//! A region: one allocation or mapping that a caller was given.

use crate::protection::Protection;
use crate::span::{Span, round_up};

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
    /// Whether an instruction cache may already hold something of it.
    pub was_published: bool,
    /// The number + 1 of the code heap's chunk that it is; 0: none.
    pub(crate) chunk: u16,
    /// Who uses it now: 0 nobody, n shared users, or [`EXCLUSIVE`].
    pub(crate) users: u32,
}

/// The value of `users` while one exclusive user has the region.
pub(super) const EXCLUSIVE: u32 = u32::MAX;

// Measured against the bound that the project sets itself: at most 64 bytes for a region's record,
// the eight bytes of the table's slot included.
const _: () = assert!(size_of::<Region>() <= 56);

impl Region {
    /// A region with one view.
    pub const fn new(kind: Kind, base: usize, size: usize) -> Self {
        Self {
            base,
            size,
            writable_view: 0,
            executable_view: 0,
            kind,
            was_published: false,
            chunk: 0,
            users: 0,
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

    /// Whether there is any view beside the one at the base.
    pub const fn has_several_views(&self) -> bool {
        self.writable_view != 0 || self.executable_view != 0
    }
}
