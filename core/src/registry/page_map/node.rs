//! The page map's nodes, those that are not in the tree, and the places where empty ones may be.

use super::page::PAGE;
use crate::error::Error;
use crate::memory::{Pool, UNIT};
use crate::platform::Platform;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const UNIT_BITS: u32 = UNIT.ilog2();
const LEVEL_BITS: u32 = 9;
pub(super) const FANOUT: usize = 1 << LEVEL_BITS;
/// The root's level.
pub(super) const TOP: u32 = 3;

/// Addresses from here up are not covered.
pub(crate) const ADDRESS_END: usize = extent(TOP + 1);

/// How many bytes one entry of a node at `level` stands for.
pub(super) const fn extent(level: u32) -> usize {
    1 << (UNIT_BITS + LEVEL_BITS * level)
}

/// Which entry of a node at `level` stands for an address.
pub(super) const fn position(address: usize, level: u32) -> usize {
    address >> (UNIT_BITS + LEVEL_BITS * level) & (FANOUT - 1)
}

/// What a place in a node holds: nothing, a page's word, or a node of the level below.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(*mut Node);

impl Entry {
    pub(super) const EMPTY: Self = Self(ptr::null_mut());

    /// A page. What is no page's word is nothing.
    pub(super) fn of_word(word: usize) -> Self {
        if word & PAGE == 0 { Self::EMPTY } else { Self(ptr::without_provenance_mut(word)) }
    }

    pub(super) fn of_node(node: &'static Node) -> Self {
        Self(ptr::from_ref(node).cast_mut())
    }

    #[inline]
    pub(super) fn word(self) -> usize {
        self.0.addr()
    }

    #[inline]
    pub(super) fn node(self) -> Option<&'static Node> {
        let is_node = !self.0.is_null() && self.word() & PAGE == 0;
        // SAFETY: entries are made in this file alone, and only `of_node` makes one that is neither null nor odd.
        is_node.then(|| unsafe { &*self.0 })
    }
}

/// A place for an entry.
pub(super) struct Slot(AtomicPtr<Node>);

impl Slot {
    const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline]
    pub(super) fn load(&self, ordering: Ordering) -> Entry {
        Entry(self.0.load(ordering))
    }

    pub(super) fn store(&self, entry: Entry) {
        self.0.store(entry.0, Ordering::Release);
    }
}

#[repr(C)]
pub(crate) struct Node {
    pub(super) slots: [Slot; FANOUT],
}

const _: () = assert!(size_of::<Node>() == UNIT);

impl Node {
    pub(super) const fn new() -> Self {
        Self { slots: [const { Slot::new() }; FANOUT] }
    }

    /// A new node, empty.
    pub(crate) fn from_pool(pool: &mut Pool, platform: impl Platform) -> Result<&'static Self, Error> {
        let memory = pool.take(platform, UNIT)?;
        // SAFETY: the pool gives zeroed memory, aligned to its length and nobody else's, for ever. A null pointer is
        // an empty slot.
        Ok(unsafe { memory.cast().as_ref() })
    }

    #[inline]
    pub(super) fn slot(&self, address: usize, level: u32) -> &Slot {
        &self.slots[position(address, level)]
    }

    /// Whether all entries are empty. Those beside `middle` are looked at first: that is where the neighbours of what
    /// was there are.
    pub(super) fn is_empty_around(&self, middle: usize) -> bool {
        let is_empty = |at: usize| self.slots[at % FANOUT].load(Ordering::Relaxed) == Entry::EMPTY;
        (0..=FANOUT / 2).all(|distance| is_empty(middle + distance) && is_empty(middle + FANOUT - distance))
    }
}

/// Nodes that were taken out of the tree: a list through their first entries. Only the writer uses it.
pub(super) struct Spare(Slot);

impl Spare {
    pub(super) const fn new() -> Self {
        Self(Slot::new())
    }

    /// Puts an empty node on the list. Readers that are still in it may take the link for an entry.
    pub(super) fn put(&self, node: &'static Node) {
        node.slots[0].store(self.0.load(Ordering::Relaxed));
        self.0.store(Entry::of_node(node));
    }

    /// An empty node.
    pub(super) fn take(&self) -> Option<&'static Node> {
        let node = self.0.load(Ordering::Relaxed).node()?;
        self.0.store(node.slots[0].load(Ordering::Relaxed));
        node.slots[0].store(Entry::EMPTY);
        Some(node)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let next = |node: &&Node| node.slots[0].load(Ordering::Relaxed).node();
        core::iter::successors(self.0.load(Ordering::Relaxed).node(), next).count()
    }
}

/// So many places keep their nodes although nothing is left there: enough for the views of a region.
pub(super) const KEPT: usize = 4;

/// Not an address that the map covers.
const NONE: usize = usize::MAX;

/// Addresses whose lowest nodes may be empty, the oldest first. Only the writer uses it.
pub(super) struct Emptied([AtomicUsize; KEPT]);

impl Emptied {
    pub(super) const fn new() -> Self {
        Self([const { AtomicUsize::new(NONE) }; KEPT])
    }

    /// Whether one of the addresses is in the node at `level` that holds `address`.
    pub(super) fn is_in_node(&self, address: usize, level: u32) -> bool {
        let node = |address: usize| address / extent(level + 1);
        self.0.iter().any(|kept| node(kept.load(Ordering::Relaxed)) == node(address))
    }

    /// Adds an address. The oldest one, which makes room for it.
    pub(super) fn push(&self, address: usize) -> Option<usize> {
        let oldest = self.0.iter().rev().fold(address, |new, kept| {
            let old = kept.load(Ordering::Relaxed);
            kept.store(new, Ordering::Relaxed);
            old
        });
        (oldest != NONE).then_some(oldest)
    }
}
