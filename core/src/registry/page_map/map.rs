//! The tree: looking pages up, and changing ranges of them.

use super::node::{ADDRESS_END, Entry, Node, Slot, TOP, Table, extent};
use super::page::{Change, Page};
use super::spare::Spare;
use crate::error::{Error, Result};
use crate::span::Span;
use crate::sync::{AtomicUsize, Ordering};
use core::ops::Range;

/// The memory of so many nodes goes with one change. A region's last pages leave about four nodes spare.
const MOST_DROPPED: usize = 16;

/// The tree. Reading needs `&self` only; the writing methods must not run at the same time as each other, which the
/// registry's lock sees to.
///
/// Aligned to a cache line, so that the word that every lookup reads shares none with the lock.
#[repr(align(64))]
pub(crate) struct PageMap {
    pub(super) root: Table,
    /// How many nodes were ever taken out of the tree.
    generation: AtomicUsize,
    pub(super) spare: Spare,
}

impl PageMap {
    pub(crate) const fn new() -> Self {
        Self { root: Table::new(), generation: AtomicUsize::new(0), spare: Spare::new() }
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
    pub(crate) fn next_run(&self, from: usize, end: usize) -> Option<(Span, Page)> {
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
        run.map(|(start, _, page)| (Span::from_parts(start, at.min(end) - start), page))
    }

    /// Makes the nodes that [`change`](Self::change) of this range needs, of which `fresh` gives more. It changes no
    /// page, and where it fails it leaves nothing. *Unsupported*: the range is not covered.
    ///
    /// Nodes in which no page is live don't last: the lock that this is called under is held until the change, unless
    /// the range's pages are live already.
    pub(crate) fn prepare(
        &self,
        range: Range<usize>,
        fresh: &mut dyn FnMut() -> Result<&'static Node>,
    ) -> Result {
        if range.end > ADDRESS_END {
            return Err(Error::Unsupported);
        }
        let is_split = self.split_at(range.start, fresh);
        let is_split = is_split.and_then(|()| self.split_at(range.end, fresh));
        is_split.inspect_err(|_| self.prune(range))
    }

    /// Undoes [`prepare`](Self::prepare) of a range that will not be set. It need not have succeeded.
    pub(crate) fn prune(&self, range: Range<usize>) {
        if range.end <= ADDRESS_END {
            self.change(range, Change::Nothing);
        }
    }

    /// Changes the pages of a range that was prepared. Nodes that are empty then are taken out.
    pub(crate) fn change(&self, range: Range<usize>, change: Change) {
        // Most ranges are a few pages in one lowest node: go straight to the table that holds all of it.
        let (mut table, mut level) = (&self.root, TOP);
        let mut way = [None; TOP as usize];
        let differing = range.start ^ (range.end - 1);
        for (below, place) in way.iter_mut().enumerate().rev() {
            let slot = table.slot(range.start, level);
            let node = slot.load(Ordering::Relaxed).node();
            let Some(node) = node.filter(|_| differing < extent(level)) else { break };
            (table, level, *place) = (&node.0, below as u32, Some(slot));
        }
        let mut more = self.change_in(table, level, range, change);
        for slot in way.into_iter().flatten() {
            more = self.count(slot, more);
            if more == 0 {
                break;
            }
        }
    }

    /// How many more entries of the table are used then.
    fn change_in(&self, table: &Table, level: u32, range: Range<usize>, change: Change) -> isize {
        let mut more = 0;
        let mut at = range.start;
        while at < range.end {
            let next = (at & !(extent(level) - 1)) + extent(level);
            let slot = table.slot(at, level);
            let entry = slot.load(Ordering::Relaxed);
            if let Some(node) = entry.node() {
                let part = at..next.min(range.end);
                more += self.count(slot, self.change_in(&node.0, level - 1, part, change));
            } else {
                let changed = Entry::of_word(change.of(entry.word()));
                // Of what was hidden here all may be gone, the nodes that were prepared for it too.
                let is_whole = at.is_multiple_of(extent(level)) && next <= range.end;
                debug_assert!(changed == entry || is_whole, "not prepared");
                slot.store(changed);
                more += isize::from(changed != Entry::EMPTY) - isize::from(entry != Entry::EMPTY);
            }
            at = next;
        }
        more
    }

    /// Counts so many more used entries of the node that a slot leads to. With the last one it is taken out. How many
    /// more entries are used of the table that the slot is in.
    fn count(&self, slot: &Slot, more: isize) -> isize {
        let entry = slot.load(Ordering::Relaxed).plus(more);
        if entry.used() > 0 {
            slot.store(entry);
            return 0;
        }
        slot.store(Entry::EMPTY);
        entry.node().into_iter().for_each(|node| self.take_out(node));
        -1
    }

    /// Makes an empty node, to which no entry leads any more, a spare one. The order matters: see the head of the
    /// folder.
    fn take_out(&self, node: &'static Node) {
        let generation = self.generation.load(Ordering::Relaxed);
        self.generation.store(generation.wrapping_add(1), Ordering::Release);
        self.spare.put(node);
    }

    /// Gives the memory of a few spare nodes back by `give_back`, where there are too many: others wait for the
    /// lock meanwhile.
    pub(crate) fn drop_spare(&self, give_back: &mut dyn FnMut(Span) -> Result) {
        for _ in 0..MOST_DROPPED {
            if !self.spare.is_too_much() || self.spare.drop_one(give_back).is_err() {
                break;
            }
        }
    }

    /// A node whose memory was given back, which has it again when it is used, or else a fresh one. Where nodes are
    /// dropped, all come from here.
    pub(crate) fn dropped_or(&self, fresh: impl FnOnce() -> Result<&'static Node>) -> Result<&'static Node> {
        self.spare.dropped_or(fresh)
    }

    /// How many nodes have no memory.
    pub(crate) fn dropped(&self) -> usize {
        self.spare.dropped()
    }

    /// Sees to it that no page's word stands for units on both sides of `boundary`.
    fn split_at(&self, boundary: usize, fresh: &mut dyn FnMut() -> Result<&'static Node>) -> Result {
        let (mut table, mut level) = (&self.root, TOP);
        let mut above: Option<&Slot> = None;
        while !boundary.is_multiple_of(extent(level)) {
            let slot = table.slot(boundary, level);
            let entry = slot.load(Ordering::Relaxed);
            let node = match entry.node() {
                Some(node) => node,
                None => {
                    let node = self.spare.take().map_or_else(&mut *fresh, Ok)?;
                    // Memory that is first read and then written takes two page faults.
                    node.0.slots()[0].store(Entry::EMPTY);
                    let mut split = Entry::of_node(node);
                    if entry != Entry::EMPTY {
                        node.0.slots().iter().for_each(|inherited| inherited.store(entry));
                        split = split.plus(node.0.slots().len() as isize);
                    } else if let Some(above) = above {
                        self.count(above, 1);
                    }
                    slot.store(split);
                    node
                }
            };
            (table, above) = (&node.0, Some(slot));
            level -= 1;
        }
        Ok(())
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
            let (mut table, mut level) = (&self.root, TOP);
            let found = loop {
                before(level);
                let entry = table.slot(address, level).load(Ordering::Acquire);
                match entry.node() {
                    // A node at level 0 is a sign that this one was taken out meanwhile.
                    Some(node) if level > 0 => (table, level) = (&node.0, level - 1),
                    _ => break (entry, level),
                }
            };
            if self.generation.load(Ordering::Relaxed) == generation {
                return found;
            }
        }
    }
}
