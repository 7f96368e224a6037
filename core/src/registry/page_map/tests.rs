//! The map alone: where its nodes go, and what a reader finds whose node goes meanwhile.

extern crate std;

use super::map::PageMap;
use super::node::{ADDRESS_END, Entry, Node, TOP, Table};
use super::page::{Change, Page};
use crate::error::Error;
use crate::memory::Index;
use crate::protection::Protection;
use core::cell::RefCell;
use core::ops::Range;
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::vec::Vec;

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

const fn page(region: Index, protection: Protection) -> Page {
    Page { protection, region, is_other_view: false, chunk: 0 }
}

const CODE: Page = page(7, Protection::RX);
const DATA: Page = page(8, Protection::RW);

/// A page at an address.
fn at(start: usize) -> Range<usize> {
    start..start + PAGE
}

/// So many gibibytes, a page in each; few under Miri.
fn pages(gibibytes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    gibibytes.take(if cfg!(miri) { 8 } else { usize::MAX }).map(|place| at(place * GIB))
}

/// A map, and the memory of its nodes.
struct Map {
    map: PageMap,
    nodes: RefCell<Vec<*mut Node>>,
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: they came from boxes, and the map that used them is gone.
        self.nodes.take().into_iter().for_each(|node| drop(unsafe { Box::from_raw(node) }));
    }
}

impl Map {
    fn new() -> Self {
        Self { map: PageMap::new(), nodes: RefCell::default() }
    }

    /// How many nodes the map was given.
    fn given(&self) -> usize {
        self.nodes.borrow().len()
    }

    /// Reserves a range with memory for so many nodes.
    fn reserve(&self, range: Range<usize>, mut most: usize) -> Result<(), Error> {
        self.map.reserve(range, &mut || {
            most = most.checked_sub(1).ok_or(Error::NoMemory)?;
            let node = Box::into_raw(Box::new(Node(Table::new())));
            self.nodes.borrow_mut().push(node);
            // SAFETY: it lives as long as the map, which is as long as anybody looks.
            Ok(unsafe { &*node })
        })
    }

    fn insert(&self, range: Range<usize>, page: Page) {
        self.reserve(range.clone(), usize::MAX).unwrap();
        self.map.change(range, Change::Set(page));
    }

    fn remove(&self, range: Range<usize>, page: Page) {
        self.map.change(range.clone(), Change::Hide);
        self.map.change(range, Change::Remove(page.region));
    }

    /// Every node is in the tree or spare. How many are in the tree.
    fn check_nodes(&self) -> usize {
        let nodes = count(&self.map.root);
        assert_eq!(nodes + self.map.spare.count(), self.given(), "a node was lost");
        nodes
    }
}

/// Nodes below a table, none of which is empty.
fn count(table: &Table) -> usize {
    let entries = table.slots().iter().map(|slot| slot.load(Ordering::Relaxed));
    let nodes = entries.filter_map(|entry| Some((entry, entry.node()?)));
    let count_below = |(entry, node): (Entry, &Node)| {
        let is_used = |slot: &&super::node::Slot| slot.load(Ordering::Relaxed) != Entry::EMPTY;
        let used = node.0.slots().iter().filter(is_used).count();
        assert!(used > 0 && used == entry.used(), "{used} entries are used");
        1 + count(&node.0)
    };
    nodes.map(count_below).sum()
}

#[test]
fn regions_that_come_and_go_far_apart_use_the_same_nodes() {
    // In one node, and across the boundary between two.
    for offset in [7 * PAGE, 2 * MIB - PAGE] {
        let map = Map::new();
        for place in pages(0..60_000) {
            let range = place.start + offset..place.end + offset + PAGE;
            map.insert(range.clone(), CODE);
            assert_eq!(map.map.get(range.end - 1), Some(CODE));
            map.remove(range.clone(), CODE);
            assert_eq!(map.map.get(range.end - 1), None);
        }
        map.check_nodes();
        assert!(map.given() <= 4, "{} nodes", map.given());
    }
}

#[test]
fn a_node_with_a_live_page_anywhere_stays() {
    let map = Map::new();
    for other in (1..512).step_by(if cfg!(miri) { 255 } else { 1 }) {
        let other = at(GIB + other * PAGE);
        map.insert(at(GIB), CODE);
        map.insert(other.clone(), DATA);
        map.remove(at(GIB), CODE);
        assert_eq!(map.map.get(other.start), Some(DATA));
        map.remove(other, DATA);
        assert_eq!(map.check_nodes(), 0);
    }
}

#[test]
fn what_is_live_keeps_its_nodes_and_all_others_come_back() {
    let map = Map::new();
    let (even, odd) = (|| pages(0..4096).step_by(2), || pages(0..4096).skip(1).step_by(2));
    pages(0..4096).for_each(|range| map.insert(range, CODE));
    let most = map.given();
    even().for_each(|range| map.remove(range, CODE));
    map.check_nodes();
    even().for_each(|range| assert_eq!(map.map.get(range.start), None));
    odd().for_each(|range| assert_eq!(map.map.get(range.start), Some(CODE)));
    odd().for_each(|range| map.remove(range, CODE));
    assert_eq!(map.check_nodes(), 0);
    pages(0..4096).for_each(|range| map.insert(range.start + MIB..range.end + MIB, CODE));
    assert_eq!(map.given(), most, "the same number again");
}

#[test]
fn a_large_region_gives_all_nodes_inside_of_it_back() {
    let all = 3 * GIB + PAGE..7 * GIB + 5 * PAGE;
    let map = Map::new();
    map.insert(all.clone(), CODE);
    let inside = (4 * GIB..6 * GIB).step_by(if cfg!(miri) { GIB / 4 } else { 2 * MIB });
    let many = inside.clone().count();
    inside.for_each(|start| map.insert(at(start), page(CODE.region, Protection::RW)));
    assert!(map.given() > many);
    map.remove(all, CODE);
    assert_eq!(map.check_nodes(), 0);
    assert_eq!(map.map.next_run(0, ADDRESS_END), None);
}

#[test]
fn another_region_may_come_and_go_at_addresses_that_are_hidden() {
    // The system gives addresses away as soon as they are free, before the first region's pages are removed.
    let map = Map::new();
    let (old, new) = (GIB + PAGE..GIB + 3 * PAGE, GIB..GIB + 2 * MIB);
    map.insert(old.clone(), CODE);
    map.map.change(old.clone(), Change::Hide);
    map.insert(new.clone(), DATA);
    map.remove(new.clone(), DATA);
    map.map.change(old.clone(), Change::Remove(CODE.region));
    assert_eq!(map.map.get(old.start), None);
    map.insert(new, DATA);
    map.map.change(old.clone(), Change::Remove(CODE.region));
    assert_eq!(map.map.get(old.start), Some(DATA));
    map.check_nodes();
}

#[test]
fn a_range_that_could_not_be_reserved_leaves_no_nodes() {
    for most in (0..=6).step_by(if cfg!(miri) { 4 } else { 1 }) {
        let map = Map::new();
        for place in 1..if cfg!(miri) { 4 } else { 40 } {
            let range = place * 600 * GIB - PAGE..(place + 1) * 600 * GIB + PAGE;
            match map.reserve(range.clone(), most) {
                Ok(()) => map.map.unreserve(range),
                Err(error) => assert_eq!(error, Error::NoMemory),
            }
            map.check_nodes();
        }
    }
}

#[test]
fn a_reader_whose_node_is_taken_out_walks_again() {
    // The reader asks about a hole. Before it reads the entry at one level, its nodes are taken out and used
    // for other places, at the same levels and at others, with something in the entry that it looks at next.
    // One thread steps through the walk, so this does not see the order in which another core sees the
    // writer's stores: for that there is the argument at the head of the map, and Miri on `threads`.
    let place = |top: usize| (top << 39) + (5 << 30) + (5 << 21) + (5 << 12);
    let (hole, live) = (place(2), place(1));
    let all = (0..=TOP).flat_map(|stop| [(stop, 1), (stop, 0), (stop, 2)]);
    for (stop, shift) in all.take(if cfg!(miri) { 1 } else { 12 }) {
        let map = Map::new();
        map.insert(at(live), CODE);
        map.reserve(at(hole), usize::MAX).unwrap();
        let mut levels = Vec::new();
        let (found, _) = map.map.entry_between(hole, |level| {
            levels.push(level);
            if levels.len() == (TOP - stop) as usize + 1 {
                map.remove(at(hole), CODE);
                // Each of these takes one node from the spare ones, so that the next find others on top.
                (1..=shift).for_each(|step| map.insert(at(live + step * 2 * MIB), DATA));
                (3..12).for_each(|top| map.insert(at(place(top)), DATA));
            }
        });
        assert!(found == Entry::EMPTY, "interrupted at level {stop}");
        let walks = levels.iter().filter(|level| **level == TOP).count();
        assert_eq!(walks, 2, "one interrupted, one not");
        assert_eq!(map.map.get(live), Some(CODE));
    }
}
