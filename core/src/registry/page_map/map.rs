//! The tree: looking pages up, and changing ranges of them.

use super::node::{ADDRESS_END, Emptied, Entry, Node, Slot, Spare, TOP, extent, position};
use super::page::{Change, Page};
use crate::error::Error;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

/// The tree. Reading needs `&self` only; the writing methods must not run at the same time as each other, which the
/// registry's lock sees to.
///
/// Aligned to a cache line, so that the word that every lookup reads shares none with the lock.
#[repr(align(64))]
pub(crate) struct PageMap {
    pub(super) root: Node,
    /// How many nodes were ever taken out of the tree.
    pub(super) generation: AtomicUsize,
    pub(super) spare: Spare,
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
        Page::decode(self.entry(address).0.word())
    }

    /// The first run of equal pages that ends after `from`, up to `end`; the run's start is at least `from`.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(super) fn next_run(&self, from: usize, end: usize) -> Option<(Range<usize>, Page)> {
        let end = end.min(ADDRESS_END);
        let mut at = from;
        let mut run: Option<(usize, Entry, Page)> = None;
        while at < end {
            let (entry, level) = self.entry(at);
            match run {
                Some((_, first, _)) if first != entry => break,
                None => run = Page::decode(entry.word()).map(|page| (at, entry, page)),
                _ => {}
            }
            at = (at & !(extent(level) - 1)) + extent(level);
        }
        run.map(|(start, _, page)| (start..at.min(end), page))
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

    /// Makes the nodes that [`change`](Self::change) of this range needs, of which `fresh` gives more. It changes no
    /// page, and where it fails it leaves nothing. *Unsupported*: the range is not covered.
    ///
    /// Nodes in which no page is live don't last: the lock that this is called under is held until the change, unless
    /// the range's pages are live already.
    pub(crate) fn reserve(
        &self,
        range: Range<usize>,
        fresh: &mut dyn FnMut() -> Result<&'static Node, Error>,
    ) -> Result<(), Error> {
        if range.end > ADDRESS_END {
            return Err(Error::Unsupported);
        }
        let is_split = self.split_at(range.start, fresh);
        let is_split = is_split.and_then(|()| self.split_at(range.end, fresh));
        is_split.inspect_err(|_| self.unreserve(range))
    }

    /// Undoes [`reserve`](Self::reserve) of a range that will not be set. It need not have succeeded.
    pub(crate) fn unreserve(&self, range: Range<usize>) {
        if range.end <= ADDRESS_END {
            self.note_emptied(range);
        }
    }

    /// Changes the pages of a range that was reserved.
    pub(crate) fn change(&self, range: Range<usize>, change: Change) {
        self.change_in(&self.root, TOP, range.clone(), change);
        if let Change::Remove(_) = change {
            self.note_emptied(range);
        }
    }

    fn change_in(&self, node: &Node, level: u32, range: Range<usize>, change: Change) {
        let mut at = range.start;
        while at < range.end {
            let next = (at & !(extent(level) - 1)) + extent(level);
            let is_whole = || at.is_multiple_of(extent(level)) && next <= range.end;
            let slot = node.slot(at, level);
            let entry = slot.load(Ordering::Relaxed);
            if let Some(child) = entry.node() {
                self.change_in(child, level - 1, at..next.min(range.end), change);
                if is_whole() && child.is_empty_around(0) {
                    self.take_out(slot, child);
                }
            } else {
                let word = change.of(entry.word());
                // Of what was hidden here all may be gone, the nodes that were reserved for it too.
                debug_assert!(word == entry.word() || is_whole(), "not reserved");
                slot.store(Entry::of_word(word));
            }
            at = next;
        }
    }

    /// Sees to it that no page's word stands for units on both sides of `boundary`.
    fn split_at(
        &self,
        boundary: usize,
        fresh: &mut dyn FnMut() -> Result<&'static Node, Error>,
    ) -> Result<(), Error> {
        let (mut node, mut level) = (&self.root, TOP);
        while !boundary.is_multiple_of(extent(level)) {
            let slot = node.slot(boundary, level);
            let entry = slot.load(Ordering::Relaxed);
            node = match entry.node() {
                Some(child) => child,
                None => {
                    let child = self.spare.take().map_or_else(&mut *fresh, Ok)?;
                    if entry != Entry::EMPTY {
                        child.slots.iter().for_each(|inherited| inherited.store(entry));
                    }
                    slot.store(Entry::of_node(child));
                    child
                }
            };
            level -= 1;
        }
        Ok(())
    }

    /// Notes that the nodes at both ends of a range may have become empty. Those that the range holds all of were
    /// taken out already.
    fn note_emptied(&self, range: Range<usize>) {
        let last = range.end - 1;
        self.note_emptied_at(range.start);
        if range.start / extent(1) != last / extent(1) {
            self.note_emptied_at(last);
        }
    }

    /// If the lowest node at an address is empty it is kept for a while. If it is kept already, then whether it is
    /// empty is looked at when its time is over.
    fn note_emptied_at(&self, address: usize) {
        let Some((_, node, level)) = self.lowest_node(address) else { return };
        if self.emptied.is_in_node(address, level) || !node.is_empty_around(position(address, level)) {
            return;
        }
        let Some(oldest) = self.emptied.push(address) else { return };
        while let Some((slot, node, level)) = self.lowest_node(oldest)
            && node.is_empty_around(position(oldest, level))
        {
            self.take_out(slot, node);
        }
    }

    /// Takes out an empty node. The order matters: see the head of the folder.
    fn take_out(&self, slot: &Slot, node: &'static Node) {
        slot.store(Entry::EMPTY);
        let generation = self.generation.load(Ordering::Relaxed);
        self.generation.store(generation.wrapping_add(1), Ordering::Release);
        self.spare.put(node);
    }

    /// The last node on the way to an address, its level, and the slot that leads to it. Only for the writer.
    fn lowest_node(&self, address: usize) -> Option<(&Slot, &'static Node, u32)> {
        let mut slot = self.root.slot(address, TOP);
        let mut lowest = None;
        for level in (0..TOP).rev() {
            let Some(node) = slot.load(Ordering::Relaxed).node() else { break };
            lowest = Some((slot, node, level));
            slot = node.slot(address, level);
        }
        lowest
    }

    /// The entry that decides about an address below [`ADDRESS_END`], and its level.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    fn entry(&self, address: usize) -> (Entry, u32) {
        self.entry_between(address, |_| {})
    }

    /// The same. Before it reads the entry at each level it calls `before`, where tests do what a writer on another
    /// core may do.
    #[inline]
    pub(super) fn entry_between(&self, address: usize, mut before: impl FnMut(u32)) -> (Entry, u32) {
        loop {
            let generation = self.generation.load(Ordering::Acquire);
            let (mut node, mut level) = (&self.root, TOP);
            let found = loop {
                before(level);
                let entry = node.slot(address, level).load(Ordering::Acquire);
                match entry.node() {
                    // A node at level 0 is a sign that this one was taken out meanwhile.
                    Some(child) if level > 0 => (node, level) = (child, level - 1),
                    _ => break (entry, level),
                }
            };
            if self.generation.load(Ordering::Relaxed) == generation {
                return found;
            }
        }
    }
}
