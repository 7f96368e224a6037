//! The page map: from any address to its page's protection and region, without a lock.
//!
//! A radix tree in the shape of a page table: four levels of nine bits above a 4 KiB granule, 48 bits
//! of address. An entry is empty, a child node, or a page word; a page word high up in the tree stands
//! for all the granules below it, so that a terabyte costs a few words. Readers walk it with four loads
//! at most. Writers (one at a time) store whole words, so a reader sees the old page or the new one.
//!
//! # How a node is used again
//!
//! A node stays a node for ever, but not in one place: once it is empty it can be taken out of the tree
//! and put in elsewhere. A reader that is in it then reads entries of the wrong place, and has to notice.
//! For that, `generation` counts the nodes that were taken out. The writer
//! 1. empties the entry that leads to the node,
//! 2. increments the generation,
//! 3. uses the node for something else.
//!
//! All of these are Release stores. A reader loads the generation, walks, and loads the generation again,
//! all but the last with Acquire; if it has changed, the reader walks again. Suppose that a walk reads an
//! entry that was stored in step 3. If the first load saw the increment of step 2, then the walk came after
//! step 1 and could not have got into the node. If it did not, then the last load does, because reading what
//! was stored in step 3 makes all that came before it visible. Entries that a walk reads from before step 3
//! are empty or older, and were true during the lookup.
//!
//! A wrong walk comes to no harm: whatever it takes for a node is one, and it ends at level 0.
//! A walk is repeated only if a node was taken out while it went on, so a signal handler that interrupts
//! the writer, at whatever instruction, finds an answer at its first walk.
//!
//! # What it costs
//!
//! Every node leads to a page of a live region, except for those of the [`KEPT`] places that were emptied
//! last: they stay, so that a region that comes and goes costs no more than its words. A region's first and
//! last page need at most three nodes each, and three more for each boundary inside of it where protections
//! differed since it was made. So the nodes take at most 24 KiB for each view of the regions that were live
//! at once, when most were, 12 KiB for each such boundary, and 48 KiB. Neighbours share, so it is much less
//! where regions are close together: 8 bytes a page. The memory stays the map's: nodes are used again, pages
//! are not given back to the system.

mod nodes;
mod page;
#[cfg(test)]
mod tests;

pub use page::Page;

use crate::error::Error;
use crate::memory::Index;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use nodes::{Emptied, Node, Spare, is_node};
use page::Change;

#[cfg(doc)]
use nodes::KEPT;

const GRANULE_BITS: u32 = 12;
const INDEX_BITS: u32 = 9;
const FANOUT: usize = 1 << INDEX_BITS;
const TOP: u32 = 3;

/// Addresses from here up are not covered.
pub(crate) const ADDRESS_END: usize = 1 << (GRANULE_BITS + INDEX_BITS * (TOP + 1));

/// Bytes that one entry of a node at `level` stands for; level 0 holds the granules.
const fn reach(level: u32) -> usize {
    1 << (GRANULE_BITS + INDEX_BITS * level)
}

const fn index(address: usize, level: u32) -> usize {
    address >> (GRANULE_BITS + INDEX_BITS * level) & (FANOUT - 1)
}

/// The tree. Reading needs `&self` only; the writing methods must not run at the same time as each
/// other, which the registry's lock sees to.
///
/// Aligned to a cache line, so that the word that every lookup reads shares none with the lock.
#[repr(align(64))]
pub(crate) struct PageMap {
    root: Node,
    /// How many nodes were ever taken out of the tree.
    generation: AtomicUsize,
    spare: Spare,
    emptied: Emptied,
}

impl PageMap {
    pub(crate) const fn new() -> Self {
        Self {
            root: Node::new(),
            generation: AtomicUsize::new(0),
            spare: Spare::new(),
            emptied: Emptied::new(),
        }
    }

    /// The page at an address.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn get(&self, address: usize) -> Option<Page> {
        if address >= ADDRESS_END {
            return None;
        }
        Page::decode(self.entry(address).0)
    }

    /// The first run of equal pages that ends after `from`, up to `end`; the run's start is at least `from`.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
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
            // Most ranges are one run: none is looked for behind it.
            let run = if at < range.end { self.next_run(at, range.end) } else { None }?;
            at = run.0.end;
            Some(run)
        })
    }

    /// Makes the nodes that [`fill`](Self::fill) of this range needs, in zeroed memory of a node's size and
    /// alignment that `memory` gives for ever. It changes no page, and where it fails it leaves nothing.
    /// *Unsupported*: the range is not covered.
    ///
    /// Nodes in which no page is live don't last: the lock that this is called under is held until `fill`,
    /// unless the range's pages are live already.
    pub(crate) fn reserve(
        &self,
        range: Range<usize>,
        memory: &mut dyn FnMut() -> Result<NonNull<u8>, Error>,
    ) -> Result<(), Error> {
        if range.end > ADDRESS_END {
            return Err(Error::Unsupported);
        }
        let is_split = self.split_at(range.start, memory);
        let is_split = is_split.and_then(|()| self.split_at(range.end, memory));
        is_split.inspect_err(|_| self.unreserve(range))
    }

    /// Undoes [`reserve`](Self::reserve) of a range that will not be filled. It need not have succeeded.
    pub(crate) fn unreserve(&self, range: Range<usize>) {
        if range.end <= ADDRESS_END {
            self.note_emptied(range);
        }
    }

    /// Sets all pages of a range that was reserved.
    pub(crate) fn fill(&self, range: Range<usize>, page: Page) {
        self.rewrite(range, Change::Set(page.encode()));
    }

    /// Changes what is known of all pages in a reserved range.
    pub(crate) fn update(&self, range: Range<usize>, change: impl Fn(Page) -> Page) {
        for (run, page) in self.runs(range) {
            self.fill(run, change(page));
        }
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
        self.rewrite(range.clone(), Change::RemoveHidden(region));
        self.note_emptied(range);
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
            // SAFETY: what is a node stays one for ever.
            node = unsafe { &*entry };
            level -= 1;
        }
        self.rewrite_node(node, level, range, change);
    }

    fn rewrite_node(&self, node: &Node, level: u32, range: Range<usize>, change: Change) {
        let mut at = range.start;
        while at < range.end {
            let next = (at & !(reach(level) - 1)) + reach(level);
            let is_whole = || at.is_multiple_of(reach(level)) && next <= range.end;
            let slot = &node.entries[index(at, level)];
            let entry = slot.load(Ordering::Relaxed);
            if is_node(entry) {
                // SAFETY: what is a node stays one for ever.
                let child = unsafe { &*entry };
                self.rewrite_node(child, level - 1, at..next.min(range.end), change);
                if is_whole() && child.is_empty_around(0) {
                    self.take_out(slot, child);
                }
            } else {
                let changed = change.of(entry);
                // What was hidden here may be gone, and the nodes too that its range was reserved with.
                debug_assert!(changed == entry || is_whole(), "not reserved");
                slot.store(changed, Ordering::Release);
            }
            at = next;
        }
    }

    /// Sees to it that no page word stands for granules on both sides of `boundary`.
    fn split_at(
        &self,
        boundary: usize,
        memory: &mut dyn FnMut() -> Result<NonNull<u8>, Error>,
    ) -> Result<(), Error> {
        let mut node = &self.root;
        let mut level = TOP;
        while !boundary.is_multiple_of(reach(level)) {
            let slot = &node.entries[index(boundary, level)];
            let mut entry = slot.load(Ordering::Relaxed);
            if !is_node(entry) {
                let child = match self.spare.take() {
                    Some(node) => node,
                    None => memory()?.cast(),
                };
                if !entry.is_null() {
                    // SAFETY: an empty node, or zeroed and aligned memory, which is the same; nobody else's.
                    for inherited in unsafe { &child.as_ref().entries } {
                        inherited.store(entry, Ordering::Release);
                    }
                }
                entry = child.as_ptr();
                slot.store(entry, Ordering::Release);
            }
            // SAFETY: what is a node stays one for ever.
            node = unsafe { &*entry };
            level -= 1;
        }
        Ok(())
    }

    /// Notes that the nodes at both ends of a range may have become empty. Those that the range holds all
    /// of were taken out already.
    fn note_emptied(&self, range: Range<usize>) {
        let last = range.end - 1;
        self.note_emptied_at(range.start);
        if range.start / reach(1) != last / reach(1) {
            self.note_emptied_at(last);
        }
    }

    /// If the lowest node at an address is empty it is kept for a while. If it is kept already, then whether
    /// it is empty is looked at when its time is over.
    fn note_emptied_at(&self, address: usize) {
        let Some((_, node, level)) = self.lowest_node(address) else { return };
        if self.emptied.is_in_node(address, level) || !node.is_empty_around(index(address, level)) {
            return;
        }
        if let Some(oldest) = self.emptied.push(address) {
            self.take_out_empty(oldest);
        }
    }

    /// Takes the lowest nodes at an address out as long as they are empty.
    fn take_out_empty(&self, address: usize) {
        while let Some((slot, node, level)) = self.lowest_node(address)
            && node.is_empty_around(index(address, level))
        {
            self.take_out(slot, node);
        }
    }

    /// Takes out an empty node. The order matters: see the head of this file.
    fn take_out(&self, slot: &AtomicPtr<Node>, node: &'static Node) {
        slot.store(ptr::null_mut(), Ordering::Release);
        let generation = self.generation.load(Ordering::Relaxed);
        self.generation.store(generation.wrapping_add(1), Ordering::Release);
        self.spare.put(node);
    }

    /// The last node on the way to an address, its level, and the entry that leads to it. Only for the writer.
    fn lowest_node(&self, address: usize) -> Option<(&AtomicPtr<Node>, &'static Node, u32)> {
        let mut lowest = None;
        let mut node = &self.root;
        for level in (0..TOP).rev() {
            let slot = &node.entries[index(address, level + 1)];
            let entry = slot.load(Ordering::Relaxed);
            if !is_node(entry) {
                break;
            }
            // SAFETY: what is a node stays one for ever.
            let child: &'static Node = unsafe { &*entry };
            lowest = Some((slot, child, level));
            node = child;
        }
        lowest
    }

    /// The entry that decides about an address below [`ADDRESS_END`], and its level.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    fn entry(&self, address: usize) -> (*mut Node, u32) {
        self.entry_between(address, |_| {})
    }

    /// The same. Before it reads the entry at each level it calls `before`, where tests do what a writer on
    /// another core may do.
    #[inline]
    fn entry_between(&self, address: usize, mut before: impl FnMut(u32)) -> (*mut Node, u32) {
        loop {
            let generation = self.generation.load(Ordering::Acquire);
            let found = self.walk(address, &mut before);
            if self.generation.load(Ordering::Relaxed) == generation {
                return found;
            }
        }
    }

    #[inline]
    fn walk(&self, address: usize, before: &mut impl FnMut(u32)) -> (*mut Node, u32) {
        let mut node = &self.root;
        let mut level = TOP;
        loop {
            before(level);
            let entry = node.entries[index(address, level)].load(Ordering::Acquire);
            // A node at level 0 is a sign that this one was taken out meanwhile.
            if level == 0 || !is_node(entry) {
                return (entry, level);
            }
            // SAFETY: what is a node stays one for ever, and was initialised before it was first published.
            node = unsafe { &*entry };
            level -= 1;
        }
    }
}
