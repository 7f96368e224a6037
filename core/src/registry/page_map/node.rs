//! The page map's nodes, and those that are not in the tree.

use super::page::PAGE;
use crate::error::Result;
use crate::memory::{Pool, UNIT};
use crate::platform::Platform;
use crate::span::Span;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const UNIT_BITS: u32 = UNIT.ilog2();
const LEVEL_BITS: u32 = 9;
const FANOUT: usize = 1 << LEVEL_BITS;
/// The root's level.
pub(super) const TOP: u32 = 3;

/// Addresses from here up are not covered.
pub(super) const ADDRESS_END: usize = extent(TOP + 1);

/// How many bytes one entry of a table at `level` stands for.
pub(super) const fn extent(level: u32) -> usize {
    1 << (UNIT_BITS + LEVEL_BITS * level)
}

/// The most that an entry counts.
const LONGEST_RUN: usize = UNIT / 2 - 1;

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

    fn address(self) -> usize {
        self.word() & !(UNIT - 1)
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
    #[inline]
    pub(super) fn load(&self, ordering: Ordering) -> Entry {
        Entry(self.0.load(ordering))
    }

    pub(super) fn store(&self, entry: Entry) {
        self.0.store(entry.0, Ordering::Release);
    }
}

/// The entries of a level.
pub(super) struct Table([Slot; FANOUT]);

impl Table {
    pub(super) const fn new() -> Self {
        Self([const { Slot(AtomicPtr::new(ptr::null_mut())) }; FANOUT])
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

/// Nodes that were taken out of the tree. Only the writer uses this.
pub(super) struct Spare {
    /// Those that have their memory: a list through their first entries.
    list: Slot,
    count: AtomicUsize,
    /// Those without memory are noted in others, *trunks*: in each entry but the first, a run of so many nodes as it
    /// says are used. The first entry leads to the next trunk. This one leads to the first trunk, and its number is
    /// that of the runs there: all other trunks are full.
    trunks: Slot,
    dropped: AtomicUsize,
    /// How many nodes are in the tree.
    in_tree: AtomicUsize,
}

/// Only the writer changes these numbers.
fn add(number: &AtomicUsize, more: isize) {
    number.store(number.load(Ordering::Relaxed).wrapping_add_signed(more), Ordering::Relaxed);
}

impl Spare {
    pub(super) const fn new() -> Self {
        let [list, trunks] = [const { Slot(AtomicPtr::new(ptr::null_mut())) }; 2];
        let [count, dropped, in_tree] = [const { AtomicUsize::new(0) }; 3];
        Self { list, count, trunks, dropped, in_tree }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn in_tree(&self) -> usize {
        self.in_tree.load(Ordering::Relaxed)
    }

    /// Puts an empty node of the tree on the list. Readers that are still in it may take the link for an entry.
    pub(super) fn put(&self, node: &'static Node) {
        node.0.0[0].store(self.list.load(Ordering::Relaxed));
        self.list.store(Entry::of_node(node));
        add(&self.count, 1);
        add(&self.in_tree, -1);
    }

    /// An empty node for the tree: one of the list, or what `fresh` gives.
    pub(super) fn take(&self, fresh: &mut dyn FnMut() -> Result<&'static Node>) -> Result<&'static Node> {
        let node = match self.pop() {
            Some(node) => node,
            None => fresh()?,
        };
        add(&self.in_tree, 1);
        Ok(node)
    }

    fn pop(&self) -> Option<&'static Node> {
        let node = self.list.load(Ordering::Relaxed).node()?;
        self.list.store(node.0.0[0].load(Ordering::Relaxed));
        node.0.0[0].store(Entry::EMPTY);
        add(&self.count, -1);
        Some(node)
    }

    /// Takes a node off the list and has its memory given back, or makes it a trunk. If it can't be given back, nothing
    /// has changed.
    pub(super) fn drop_one(&self, give_back: &mut dyn FnMut(Span) -> Result) -> Result {
        let Some(node) = self.pop() else { return Ok(()) };
        let trunks = self.trunks.load(Ordering::Relaxed);
        let Some(trunk) = trunks.node().filter(|_| trunks.used() < FANOUT - 1) else {
            node.0.0[0].store(trunks);
            self.trunks.store(Entry::of_node(node));
            return Ok(());
        };
        // From here on each of its entries is zero, so that it doesn't matter to readers when its memory goes.
        let address = ptr::from_ref(node).expose_provenance();
        give_back(Span::from_parts(address, UNIT)).inspect_err(|_| {
            self.put(node);
            add(&self.in_tree, 1);
        })?;
        add(&self.dropped, 1);
        let last = &trunk.0.0[trunks.used()];
        let run = last.load(Ordering::Relaxed);
        let start = run.address();
        if trunks.used() > 0 && run.used() < LONGEST_RUN {
            // Nodes that became spare one after the other often lie side by side.
            if start + run.used() * UNIT == address {
                last.store(run.plus(1));
                return Ok(());
            }
            if address + UNIT == start {
                last.store(Entry::of_node(node).plus(run.used() as isize + 1));
                return Ok(());
            }
        }
        trunk.0.0[trunks.used() + 1].store(Entry::of_node(node).plus(1));
        self.trunks.store(trunks.plus(1));
        Ok(())
    }

    /// A node that has no memory, or if there is none a trunk. It is empty.
    pub(super) fn take_dropped(&self) -> Option<&'static Node> {
        let trunks = self.trunks.load(Ordering::Relaxed);
        let trunk = trunks.node()?;
        if trunks.used() == 0 {
            self.trunks.store(trunk.0.0[0].load(Ordering::Relaxed));
            trunk.0.0[0].store(Entry::EMPTY);
            return Some(trunk);
        }
        let last = &trunk.0.0[trunks.used()];
        let rest = last.load(Ordering::Relaxed).plus(-1);
        let node = ptr::with_exposed_provenance::<Node>(rest.address() + rest.used() * UNIT);
        if rest.used() == 0 {
            last.store(Entry::EMPTY);
            self.trunks.store(trunks.plus(-1));
        } else {
            last.store(rest);
        }
        add(&self.dropped, -1);
        // SAFETY: `drop_one` noted the node, which is the pool's for ever, and nobody else has it.
        Some(unsafe { &*node })
    }

    /// Trunks: they have their memory, and are on no list.
    #[cfg(test)]
    pub(super) fn count_trunks(&self) -> usize {
        let next = |node: &&Node| node.0.0[0].load(Ordering::Relaxed).node();
        core::iter::successors(self.trunks.load(Ordering::Relaxed).node(), next).count()
    }
}
