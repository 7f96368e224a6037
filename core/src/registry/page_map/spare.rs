//! Nodes that are not in the tree, with their memory and without.

use super::node::{Entry, Node, Slot};
use crate::error::Result;
use crate::memory::UNIT;
use crate::span::Span;
use crate::sync::{AtomicUsize, Ordering};
use core::ptr;

/// So many spare nodes may have their memory whatever is live: 256 KiB.
pub(super) const KEPT: usize = 64;

/// Nodes that were taken out of the tree. Only the writer uses this.
pub(super) struct Spare {
    /// Those that have their memory: a list through their first entries.
    list: Slot,
    count: AtomicUsize,
    /// Those without memory are noted in others, *trunks*: each entry but the first leads to one. The first entry leads
    /// to the next trunk. This one leads to the first trunk, and its number is that of the nodes noted there: all other
    /// trunks are full.
    trunks: Slot,
    dropped: AtomicUsize,
    /// How many nodes have their memory, in the tree and here; and how many had when the system took none back: it is asked
    /// again when there are more.
    held: AtomicUsize,
    refused: AtomicUsize,
}

/// Only the writer changes these numbers.
fn add(number: &AtomicUsize, more: isize) {
    number.store(number.load(Ordering::Relaxed).wrapping_add_signed(more), Ordering::Relaxed);
}

impl Spare {
    pub(super) const fn new() -> Self {
        let [list, trunks] = [const { Slot::empty() }; 2];
        let [count, dropped, held, refused] = [const { AtomicUsize::new(0) }; 4];
        Self { list, count, trunks, dropped, held, refused }
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether some of the list should go: there are more than [`KEPT`], and more than three quarters of all that have
    /// their memory.
    pub(super) fn is_too_much(&self) -> bool {
        let (count, held) = (self.count(), self.held());
        count > KEPT && count > held / 4 * 3 && held > self.refused.load(Ordering::Relaxed)
    }

    /// Puts an empty node on the list. Readers that are still in it may take the link for an entry.
    pub(super) fn put(&self, node: &'static Node) {
        node.0.0[0].store(self.list.load(Ordering::Relaxed));
        self.list.store(Entry::of_node(node));
        add(&self.count, 1);
    }

    /// An empty node of the list.
    pub(super) fn take(&self) -> Option<&'static Node> {
        let node = self.list.load(Ordering::Relaxed).node()?;
        self.list.store(node.0.0[0].load(Ordering::Relaxed));
        node.0.0[0].store(Entry::EMPTY);
        add(&self.count, -1);
        Some(node)
    }

    /// Takes a node off the list and has its memory given back, or makes it a trunk. If it can't be given back, nothing
    /// has changed.
    pub(super) fn drop_one(&self, give_back: &mut dyn FnMut(Span) -> Result) -> Result {
        let Some(node) = self.take() else { return Ok(()) };
        let trunks = self.trunks.load(Ordering::Relaxed);
        let Some(place) = trunks.node().and_then(|trunk| trunk.0.0.get(trunks.used() + 1)) else {
            node.0.0[0].store(trunks);
            self.trunks.store(Entry::of_node(node));
            return Ok(());
        };
        // From here on each of its entries is zero, so that it doesn't matter to readers when its memory goes.
        let address = ptr::from_ref(node).addr();
        give_back(Span::from_parts(address, UNIT)).inspect_err(|_| {
            self.put(node);
            self.refused.store(self.held(), Ordering::Relaxed);
        })?;
        add(&self.dropped, 1);
        add(&self.held, -1);
        place.store(Entry::of_node(node));
        self.trunks.store(trunks.plus(1));
        Ok(())
    }

    /// A node that has no memory, or a trunk, or a fresh one.
    pub(super) fn dropped_or(&self, fresh: impl FnOnce() -> Result<&'static Node>) -> Result<&'static Node> {
        match self.take_dropped() {
            Some(node) => Ok(node),
            None => fresh().inspect(|_| add(&self.held, 1)),
        }
    }

    /// It is empty.
    fn take_dropped(&self) -> Option<&'static Node> {
        let trunks = self.trunks.load(Ordering::Relaxed);
        let trunk = trunks.node()?;
        if trunks.used() == 0 {
            self.trunks.store(trunk.0.0[0].load(Ordering::Relaxed));
            trunk.0.0[0].store(Entry::EMPTY);
            return Some(trunk);
        }
        let last = trunk.0.0.get(trunks.used())?;
        let node = last.load(Ordering::Relaxed).node()?;
        last.store(Entry::EMPTY);
        self.trunks.store(trunks.plus(-1));
        add(&self.dropped, -1);
        add(&self.held, 1);
        Some(node)
    }

    /// Trunks: they have their memory, and are on no list.
    #[cfg(test)]
    pub(super) fn count_trunks(&self) -> usize {
        let next = |node: &&Node| node.0.0[0].load(Ordering::Relaxed).node();
        core::iter::successors(self.trunks.load(Ordering::Relaxed).node(), next).count()
    }
}
