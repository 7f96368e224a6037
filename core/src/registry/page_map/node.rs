//! The page map's nodes.

use super::page::PAGE;
use crate::error::Result;
use crate::memory::{Pool, UNIT};
use crate::platform::Platform;
use crate::sync::{AtomicPtr, Ordering};
use core::ptr;

const UNIT_BITS: u32 = UNIT.ilog2();
const LEVEL_BITS: u32 = 9;
pub(super) const FANOUT: usize = 1 << LEVEL_BITS;
/// The root's level.
pub(super) const TOP: u32 = 3;

/// Addresses from here up are not covered.
pub(super) const ADDRESS_END: usize = extent(TOP + 1);

/// How many bytes one entry of a table at `level` stands for.
pub(super) const fn extent(level: u32) -> usize {
    1 << (UNIT_BITS + LEVEL_BITS * level)
}

/// What a place in a table holds: nothing, a page's word, or a node of the level below, with the number of its entries
/// that are used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry(*mut Node);

impl Entry {
    pub(super) const EMPTY: Self = Self(ptr::null_mut());

    /// A page. What is no page's word is nothing.
    pub(super) fn of_word(word: usize) -> Self {
        if word & PAGE == 0 { Self::EMPTY } else { Self(ptr::without_provenance_mut(word)) }
    }

    /// A node, none of whose entries are used yet.
    pub(super) fn of_node(node: &'static Node) -> Self {
        Self(ptr::from_ref(node).cast_mut())
    }

    /// The same node, with so many more entries that are used. The number has its place where a node's address has
    /// zeros, and leaves that of [`PAGE`] free.
    pub(super) fn plus(self, more: isize) -> Self {
        Self(self.0.map_addr(|address| address.wrapping_add_signed(2 * more)))
    }

    pub(super) fn used(self) -> usize {
        self.word() % UNIT / 2
    }

    #[inline]
    pub(super) fn word(self) -> usize {
        self.0.addr()
    }

    #[inline]
    pub(super) fn node(self) -> Option<&'static Node> {
        let is_node = !self.0.is_null() && self.word() & PAGE == 0;
        let node = self.0.map_addr(|address| address & !(UNIT - 1));
        // SAFETY: entries are made in this file alone, and what is neither null nor odd came from `of_node`. The number
        // that was added to its address is less than a node's alignment.
        is_node.then(|| unsafe { &*node })
    }
}

/// A place for an entry.
pub(super) struct Slot(AtomicPtr<Node>);

impl Slot {
    pub(super) const fn empty() -> Self {
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

/// The entries of a level.
pub(super) struct Table(pub(super) [Slot; FANOUT]);

impl Table {
    pub(super) const fn new() -> Self {
        Self([const { Slot::empty() }; FANOUT])
    }

    /// The entry of a table at `level` that stands for an address.
    #[inline]
    pub(super) fn slot(&self, address: usize, level: u32) -> &Slot {
        &self.0[address >> (UNIT_BITS + LEVEL_BITS * level) & (FANOUT - 1)]
    }

    pub(super) fn slots(&self) -> &[Slot; FANOUT] {
        &self.0
    }
}

#[repr(C, align(4096))]
pub(crate) struct Node(pub(super) Table);

const _: () = assert!(size_of::<Node>() == UNIT && align_of::<Node>() == UNIT && 2 * FANOUT < UNIT);

impl Node {
    /// A new node, empty.
    pub(crate) fn from_pool(pool: &mut Pool, platform: impl Platform) -> Result<&'static Self> {
        let memory = pool.take(platform, UNIT)?;
        // SAFETY: the pool gives zeroed memory, aligned to its length and nobody else's, for ever. Zero is an empty
        // entry.
        Ok(unsafe { memory.cast().as_ref() })
    }
}
