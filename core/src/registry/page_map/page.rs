//! What the map says about a page, as the word that stands for it.

use super::nodes::Node;
use crate::memory::Index;
use crate::protection::Protection;
use core::ptr;

/// What the map knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The page's protection.
    pub protection: Protection,
    /// The region that it belongs to.
    pub(crate) region: Index,
    /// Whether the address is one of the library's own further views of the region's memory, not
    /// the address that the caller was given.
    pub is_other_view: bool,
    /// The code heap's chunk that the page belongs to, as its number + 1; 0: none.
    pub(crate) chunk: u16,
}

/// A page word: bit 0 set (a node's address is even), protection in bits 1 to 3, the view in
/// bit 4, [`HIDDEN`], the chunk in bits 16 to 31, the region in the upper half.
pub(super) const PAGE: usize = 1;
const OTHER_VIEW: usize = 1 << 4;
/// The page is being unmapped. Lookups don't see it; its word can be put back as it was.
const HIDDEN: usize = 1 << 5;

impl Page {
    pub(super) fn encode(self) -> *mut Node {
        let other_view = if self.is_other_view { OTHER_VIEW } else { 0 };
        let owner = (self.chunk as usize) << 16 | (self.region as usize) << 32;
        let word = PAGE | (self.protection.bits() as usize) << 1 | other_view | owner;
        ptr::without_provenance_mut(word)
    }

    #[inline]
    pub(super) fn decode(entry: *mut Node) -> Option<Self> {
        let word = entry.addr();
        (word & (PAGE | HIDDEN) == PAGE).then(|| Self {
            protection: Protection::from_bits_truncate((word >> 1) as u8 & 7),
            region: (word >> 32) as Index,
            is_other_view: word & OTHER_VIEW != 0,
            chunk: (word >> 16) as u16,
        })
    }
}

/// What happens to the entries of a range.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// They become this page word.
    Set(*mut Node),
    Hide,
    Show,
    /// The hidden pages of a region become empty, and no others.
    RemoveHidden(Index),
}

impl Change {
    #[inline]
    pub(super) fn of(self, entry: *mut Node) -> *mut Node {
        match self {
            Self::Set(word) => word,
            Self::Hide if entry.is_null() => entry,
            Self::Hide => entry.map_addr(|word| word | HIDDEN),
            Self::Show => entry.map_addr(|word| word & !HIDDEN),
            Self::RemoveHidden(region) => {
                let is_hidden = entry.addr() & HIDDEN != 0;
                if is_hidden && (entry.addr() >> 32) as Index == region { ptr::null_mut() } else { entry }
            }
        }
    }
}
