//! What the map says about a page, as the word that stands for it.

use crate::memory::Index;
use crate::protection::Protection;

/// What the map knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) protection: Protection,
    /// The region that it belongs to.
    pub(crate) region: Index,
    /// Whether the address is one of the library's own further views of the region's memory, not the address that
    /// the caller was given.
    pub(crate) is_other_view: bool,
    /// The code heap's chunk that the page belongs to, as its number + 1; 0: none.
    pub(crate) chunk: u16,
}

// A page's word, from its highest bit to its lowest. Zero is no page.
//
//   63    32 31   16      6     5       4        3  1   0
//   region   chunk     HIDDEN  BTI  OTHER_VIEW  x w r  PAGE

/// In every page's word, and in no address of a node.
pub(super) const PAGE: usize = 1;
const PROTECTION: usize = (Protection::all().bits() as usize) << 1;
const OTHER_VIEW: usize = 1 << 4;
/// The page is being unmapped. Lookups don't see it; its word can be put back as it was.
const HIDDEN: usize = 1 << 6;
const _: () = assert!(PROTECTION & (PAGE | OTHER_VIEW | HIDDEN) == 0);

impl Page {
    fn encode(self) -> usize {
        let other_view = if self.is_other_view { OTHER_VIEW } else { 0 };
        let owner = (self.chunk as usize) << 16 | (self.region as usize) << 32;
        PAGE | (self.protection.bits() as usize) << 1 | other_view | owner
    }

    #[inline]
    pub(super) fn decode(word: usize) -> Option<Self> {
        (word & (PAGE | HIDDEN) == PAGE).then(|| Self {
            protection: Protection::from_bits_truncate((word & PROTECTION) as u8 >> 1),
            region: (word >> 32) as Index,
            is_other_view: word & OTHER_VIEW != 0,
            chunk: (word >> 16) as u16,
        })
    }
}

/// What happens to the pages of a range.
#[derive(Clone, Copy)]
pub(crate) enum Change {
    /// All of the range becomes this page.
    Set(Page),
    /// The pages that are there get this protection.
    Protect(Protection),
    /// Lookups don't see the pages until they are shown again.
    Hide,
    Show,
    /// The pages of this region go. Somebody else's may be there already.
    Remove(Index),
    /// None changes.
    Nothing,
}

impl Change {
    /// The word in place of `word`.
    #[inline]
    pub(super) fn of(self, word: usize) -> usize {
        match self {
            Self::Set(page) => page.encode(),
            _ if word == 0 => 0,
            Self::Nothing => word,
            Self::Protect(protection) => word & !PROTECTION | (protection.bits() as usize) << 1,
            Self::Hide => word | HIDDEN,
            Self::Show => word & !HIDDEN,
            Self::Remove(region) if (word >> 32) as Index == region => 0,
            Self::Remove(_) => word,
        }
    }
}
