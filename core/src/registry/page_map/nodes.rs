//! The page map's nodes, those that are not in the tree, and the places where empty ones may be.

use super::page::PAGE;
use super::{FANOUT, reach};
use crate::memory::UNIT;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

#[repr(C)]
pub(super) struct Node {
    pub(super) entries: [AtomicPtr<Node>; FANOUT],
}

const _: () = assert!(size_of::<Node>() == UNIT);

pub(super) fn is_node(entry: *mut Node) -> bool {
    !entry.is_null() && entry.addr() & PAGE == 0
}

impl Node {
    pub(super) const fn new() -> Self {
        Self { entries: [const { AtomicPtr::new(ptr::null_mut()) }; FANOUT] }
    }

    /// Whether all entries are empty. Those beside `middle` are looked at first: that is where the
    /// neighbours of what was there are.
    pub(super) fn is_empty_around(&self, middle: usize) -> bool {
        let is_empty = |index: usize| self.entries[index % FANOUT].load(Ordering::Relaxed).is_null();
        (0..=FANOUT / 2).all(|distance| is_empty(middle + distance) && is_empty(middle + FANOUT - distance))
    }
}

/// Nodes that were taken out of the tree: a list through their first entries. Only the writer uses it.
pub(super) struct Spare(AtomicPtr<Node>);

impl Spare {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Puts an empty node on the list. Readers that are still in it may take the link for an entry.
    pub(super) fn put(&self, node: &'static Node) {
        node.entries[0].store(self.0.load(Ordering::Relaxed), Ordering::Release);
        self.0.store(ptr::from_ref(node).cast_mut(), Ordering::Relaxed);
    }

    /// An empty node.
    pub(super) fn take(&self) -> Option<NonNull<Node>> {
        let first = NonNull::new(self.0.load(Ordering::Relaxed))?;
        // SAFETY: `put` was given a node that lives for ever.
        let link = unsafe { &first.as_ref().entries[0] };
        self.0.store(link.load(Ordering::Relaxed), Ordering::Relaxed);
        link.store(ptr::null_mut(), Ordering::Release);
        Some(first)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let mut count = 0;
        let mut link = self.0.load(Ordering::Relaxed);
        // SAFETY: as in `take`: each node on the list lives for ever.
        while let Some(node) = unsafe { link.as_ref() } {
            count += 1;
            link = node.entries[0].load(Ordering::Relaxed);
        }
        count
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
        let node = |address: usize| address / reach(level + 1);
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
