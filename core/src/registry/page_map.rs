//! The page map: from any address to its page's protection and region, without a lock.
//!
//! A radix tree in the shape of a page table: four levels of nine bits above a 4 KiB granule, 48 bits
//! of address. An entry is empty, a child node, or a page word; a page word high up in the tree stands
//! for all the granules below it, so that a terabyte costs a few words. Readers walk it with four loads
//! at most. Writers (one at a time) store whole words, so a reader sees the old page or the new one.
//! Nodes are never freed: a reader may be in them.

use crate::error::Error;
use crate::memory::{Index, Pool, UNIT};
use crate::platform::Platform;
use crate::protection::Protection;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, Ordering};

const GRANULE_BITS: u32 = 12;
const INDEX_BITS: u32 = 9;
const FANOUT: usize = 1 << INDEX_BITS;
const TOP: u32 = 3;

/// Addresses from here up are not covered.
pub(crate) const ADDRESS_END: usize = 1 << (GRANULE_BITS + INDEX_BITS * (TOP + 1));

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
const PAGE: usize = 1;
const OTHER_VIEW: usize = 1 << 4;
/// The page is being unmapped. Lookups don't see it; its word can be put back as it was.
const HIDDEN: usize = 1 << 5;

impl Page {
    fn encode(self) -> *mut Node {
        let other_view = if self.is_other_view { OTHER_VIEW } else { 0 };
        let owner = (self.chunk as usize) << 16 | (self.region as usize) << 32;
        let word = PAGE | (self.protection.bits() as usize) << 1 | other_view | owner;
        ptr::without_provenance_mut(word)
    }

    #[inline]
    fn decode(entry: *mut Node) -> Option<Self> {
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
enum Change {
    /// They become this page word.
    Set(*mut Node),
    Hide,
    Show,
    /// The hidden pages of a region become empty, and no others.
    RemoveHidden(Index),
}

impl Change {
    #[inline]
    fn of(self, entry: *mut Node) -> *mut Node {
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

#[repr(C)]
struct Node {
    entries: [AtomicPtr<Node>; FANOUT],
}

const _: () = assert!(size_of::<Node>() == UNIT);

fn is_node(entry: *mut Node) -> bool {
    !entry.is_null() && entry.addr() & PAGE == 0
}

/// Bytes that one entry of a node at `level` stands for; level 0 holds the granules.
const fn reach(level: u32) -> usize {
    1 << (GRANULE_BITS + INDEX_BITS * level)
}

const fn index(address: usize, level: u32) -> usize {
    address >> (GRANULE_BITS + INDEX_BITS * level) & (FANOUT - 1)
}

/// The tree. Reading needs `&self` only; the writing methods must not run at the same time as each
/// other, which the registry's lock sees to.
pub(crate) struct PageMap {
    root: Node,
}

impl PageMap {
    pub(crate) const fn new() -> Self {
        Self { root: Node { entries: [const { AtomicPtr::new(ptr::null_mut()) }; FANOUT] } }
    }

    /// The page at an address.
    #[inline]
    pub(crate) fn get(&self, address: usize) -> Option<Page> {
        if address >= ADDRESS_END {
            return None;
        }
        Page::decode(self.entry(address).0)
    }

    /// The first run of equal pages that ends after `from`, up to `end`; the run's start is at least `from`.
    pub(crate) fn next_run(&self, from: usize, end: usize) -> Option<(Range<usize>, Page)> {
        let end = end.min(ADDRESS_END);
        let mut at = from;
        let mut run: Option<(usize, *mut Node)> = None;
        while at < end {
            let (entry, level) = self.entry(at);
            match run {
                Some((_, word)) if word != entry => break,
                None if Page::decode(entry).is_some() => run = Some((at, entry)),
                _ => {}
            }
            at = (at & !(reach(level) - 1)) + reach(level);
        }
        let (start, word) = run?;
        Some((start..at.min(end), Page::decode(word)?))
    }

    /// Runs of equal pages inside a range, in address order.
    pub(crate) fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        let mut at = range.start;
        core::iter::from_fn(move || {
            let run = self.next_run(at, range.end)?;
            at = run.0.end;
            Some(run)
        })
    }

    /// Makes the nodes that [`fill`](Self::fill) of this range needs. It changes no page, so it may
    /// fail and be forgotten.
    pub(crate) fn reserve(
        &self,
        range: Range<usize>,
        pool: &mut Pool,
        platform: impl Platform,
    ) -> Result<(), Error> {
        if range.end > ADDRESS_END {
            return Err(Error::NoMemory);
        }
        self.split_at(range.start, pool, platform)?;
        self.split_at(range.end, pool, platform)
    }

    /// Sets all pages of a range that was reserved.
    pub(crate) fn fill(&self, range: Range<usize>, page: Page) {
        self.rewrite(range, Change::Set(page.encode()));
    }

    /// Hides the pages of a reserved range from lookups until [`show`](Self::show) or
    /// [`remove_hidden`](Self::remove_hidden).
    pub(crate) fn hide(&self, range: Range<usize>) {
        self.rewrite(range, Change::Hide);
    }

    /// Undoes [`hide`](Self::hide).
    pub(crate) fn show(&self, range: Range<usize>) {
        self.rewrite(range, Change::Show);
    }

    /// Clears the hidden pages of `region`, and no others: somebody else's may be there already.
    pub(crate) fn remove_hidden(&self, range: Range<usize>, region: Index) {
        self.rewrite(range, Change::RemoveHidden(region));
    }

    /// Changes every entry that is not a node, in a reserved range.
    fn rewrite(&self, range: Range<usize>, change: Change) {
        // Most ranges are a few pages in one lowest node: go straight to the node that holds it all.
        let (mut node, mut level) = (&self.root, TOP);
        while index(range.start, level) == index(range.end - 1, level) {
            let entry = node.entries[index(range.start, level)].load(Ordering::Relaxed);
            if !is_node(entry) {
                break;
            }
            // SAFETY: a node in the tree is initialised and lives for ever.
            node = unsafe { &*entry };
            level -= 1;
        }
        Self::rewrite_node(node, level, range, change);
    }

    fn rewrite_node(node: &Node, level: u32, range: Range<usize>, change: Change) {
        let mut at = range.start;
        while at < range.end {
            let next = (at & !(reach(level) - 1)) + reach(level);
            let slot = &node.entries[index(at, level)];
            let entry = slot.load(Ordering::Relaxed);
            if is_node(entry) {
                // SAFETY: a node in the tree is initialised and lives for ever.
                let child = unsafe { &*entry };
                Self::rewrite_node(child, level - 1, at..next.min(range.end), change);
            } else {
                debug_assert!(at.is_multiple_of(reach(level)) && next <= range.end, "not reserved");
                slot.store(change.of(entry), Ordering::Release);
            }
            at = next;
        }
    }

    /// Sees to it that no page word stands for granules on both sides of `boundary`.
    fn split_at(&self, boundary: usize, pool: &mut Pool, platform: impl Platform) -> Result<(), Error> {
        let mut node = &self.root;
        let mut level = TOP;
        while !boundary.is_multiple_of(reach(level)) {
            let slot = &node.entries[index(boundary, level)];
            let mut entry = slot.load(Ordering::Relaxed);
            if !is_node(entry) {
                let child: NonNull<Node> = pool.take(platform, UNIT)?.cast();
                // SAFETY: a unit of zeroed memory, aligned, and nobody else's; zeroes are empty entries.
                for inherited in unsafe { &child.as_ref().entries } {
                    inherited.store(entry, Ordering::Relaxed);
                }
                entry = child.as_ptr();
                slot.store(entry, Ordering::Release);
            }
            // SAFETY: a node in the tree is initialised and lives for ever.
            node = unsafe { &*entry };
            level -= 1;
        }
        Ok(())
    }

    /// The entry that decides about an address below [`ADDRESS_END`], and its level.
    #[inline]
    fn entry(&self, address: usize) -> (*mut Node, u32) {
        let mut node = &self.root;
        let mut level = TOP;
        loop {
            let entry = node.entries[index(address, level)].load(Ordering::Acquire);
            if !is_node(entry) {
                return (entry, level);
            }
            // SAFETY: a node in the tree was initialised before it was published, and lives for ever.
            node = unsafe { &*entry };
            level -= 1;
        }
    }
}
