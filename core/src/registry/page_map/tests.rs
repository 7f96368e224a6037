//! The map alone: where its nodes go, and what a reader finds whose node goes meanwhile.

extern crate std;

use super::nodes::KEPT;
use super::*;
use crate::memory::UNIT;
use crate::protection::Protection;
use core::cell::RefCell;
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

#[repr(align(4096))]
struct Unit(#[expect(dead_code, reason = "only its address is used")] [u8; UNIT]);

/// A map, and the memory of its nodes.
#[derive(Default)]
struct Map {
    map: PageMap,
    units: RefCell<Vec<*mut Unit>>,
}

impl Default for PageMap {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        for unit in self.units.take() {
            // SAFETY: it came from a box, and the map that used it is gone.
            drop(unsafe { Box::from_raw(unit) });
        }
    }
}

impl Map {
    /// How many nodes the map was given memory for.
    fn given(&self) -> usize {
        self.units.borrow().len()
    }

    /// Reserves a range with memory for so many nodes.
    fn reserve(&self, range: Range<usize>, mut most: usize) -> Result<(), Error> {
        self.map.reserve(range, &mut || {
            most = most.checked_sub(1).ok_or(Error::NoMemory)?;
            let unit = Box::into_raw(Box::new(Unit([0; UNIT])));
            self.units.borrow_mut().push(unit);
            NonNull::new(unit.cast()).ok_or(Error::NoMemory)
        })
    }

    fn insert(&self, range: Range<usize>, page: Page) {
        self.reserve(range.clone(), usize::MAX).unwrap();
        self.map.fill(range, page);
    }

    fn remove(&self, range: Range<usize>, page: Page) {
        self.map.hide(range.clone());
        self.map.remove_hidden(range, page.region);
    }

    fn come_and_go(&self, range: Range<usize>) {
        self.insert(range.clone(), CODE);
        self.remove(range, CODE);
    }

    /// Empties so many places that what was empty before is kept no longer.
    fn forget_kept(&self) {
        for place in 0..2 * KEPT {
            let start = (1000 + place) * GIB;
            self.come_and_go(start..start + PAGE);
        }
    }

    /// Every node is in the tree or spare, and no more are empty than are kept.
    fn check_nodes(&self) {
        let (nodes, empty) = count(&self.map.root);
        assert_eq!(nodes + self.map.spare.count(), self.given(), "a node was lost");
        assert!(empty <= KEPT, "{empty} empty nodes");
    }
}

/// Nodes below a node, and how many of them are empty.
fn count(node: &Node) -> (usize, usize) {
    let mut sum = (0, 0);
    for entry in &node.entries {
        let entry = entry.load(Ordering::Relaxed);
        if is_node(entry) {
            // SAFETY: what is a node stays one for ever.
            let child = unsafe { &*entry };
            let (nodes, empty) = count(child);
            sum = (sum.0 + nodes + 1, sum.1 + empty + usize::from(child.is_empty_around(0)));
        }
    }
    sum
}

#[test]
fn regions_that_come_and_go_far_apart_use_the_same_nodes() {
    // In one node, and across the boundary between two.
    for offset in [7 * PAGE, 2 * MIB - PAGE] {
        let map = Map::default();
        for place in 0..if cfg!(miri) { 8 } else { 60_000 } {
            let start = place * GIB + offset;
            map.insert(start..start + 2 * PAGE, CODE);
            assert_eq!(map.map.get(start + PAGE), Some(CODE));
            map.remove(start..start + 2 * PAGE, CODE);
            assert_eq!(map.map.get(start + PAGE), None);
        }
        map.check_nodes();
        assert!(map.given() <= 3 * (KEPT + 1), "{} nodes", map.given());
    }
}

#[test]
fn a_node_with_a_live_page_anywhere_stays() {
    let map = Map::default();
    for other in (1..FANOUT).step_by(if cfg!(miri) { 255 } else { 1 }) {
        let (page, other) = (GIB..GIB + PAGE, GIB + other * PAGE..GIB + (other + 1) * PAGE);
        map.insert(page.clone(), CODE);
        map.insert(other.clone(), DATA);
        map.remove(page, CODE);
        map.forget_kept();
        assert_eq!(map.map.get(other.start), Some(DATA));
        map.remove(other, DATA);
        map.forget_kept();
    }
}

#[test]
fn what_is_live_keeps_its_nodes_and_all_others_come_back() {
    let map = Map::default();
    let places = || (0..if cfg!(miri) { 8 } else { 4096 }).map(|place| place * GIB..place * GIB + PAGE);
    places().for_each(|range| map.insert(range, CODE));
    let most = map.given();
    places().step_by(2).for_each(|range| map.remove(range, CODE));
    map.check_nodes();
    places().step_by(2).for_each(|range| assert_eq!(map.map.get(range.start), None));
    places().skip(1).step_by(2).for_each(|range| assert_eq!(map.map.get(range.start), Some(CODE)));
    places().skip(1).step_by(2).for_each(|range| map.remove(range, CODE));
    map.check_nodes();
    assert!(count(&map.map.root).0 <= 3 * KEPT);
    places().for_each(|range| map.insert(range.start + MIB..range.end + MIB, CODE));
    assert_eq!(map.given(), most, "the same number again");
}

#[test]
fn a_region_that_comes_and_goes_at_one_place_leaves_the_tree_as_it_is() {
    // Two views at different places, the first of them across a boundary between nodes; and many places where
    // a neighbour stays.
    let map = Map::default();
    let neighbours = || (20..40).map(|place| place * GIB..place * GIB + PAGE);
    neighbours().for_each(|range| map.insert(range, DATA));
    let given = map.given();
    for _ in 0..10 {
        map.insert(GIB - PAGE..GIB + PAGE, CODE);
        map.insert(9 * GIB..9 * GIB + PAGE, CODE);
        map.remove(GIB - PAGE..GIB + PAGE, CODE);
        map.remove(9 * GIB..9 * GIB + PAGE, CODE);
        neighbours().for_each(|range| map.come_and_go(range.start + PAGE..range.end + PAGE));
    }
    assert_eq!(map.map.generation.load(Ordering::Relaxed), 0);
    assert_eq!(map.given(), given + 6);
}

#[test]
fn a_large_region_gives_all_nodes_inside_of_it_back() {
    let (start, end) = (3 * GIB + PAGE, 7 * GIB + 5 * PAGE);
    let map = Map::default();
    map.insert(start..end, CODE);
    let inside =
        || (4..6).flat_map(|gib| (0..if cfg!(miri) { 4 } else { 512 }).map(move |i| gib * GIB + i * 2 * MIB));
    for at in inside() {
        map.insert(at..at + PAGE, page(CODE.region, Protection::RW));
    }
    assert!(map.given() > inside().count());
    map.remove(start..end, CODE);
    map.check_nodes();
    assert!(count(&map.map.root).0 <= 6, "the two ends may be kept");
    assert_eq!(map.map.next_run(0, ADDRESS_END), None);
}

#[test]
fn another_region_may_come_and_go_at_addresses_that_are_hidden() {
    // The system gives addresses away as soon as they are free, before the first region's pages are removed.
    let map = Map::default();
    let (old, new) = (GIB + PAGE..GIB + 3 * PAGE, GIB..GIB + 2 * MIB);
    map.insert(old.clone(), CODE);
    map.map.hide(old.clone());
    map.insert(new.clone(), DATA);
    map.remove(new.clone(), DATA);
    map.forget_kept();
    map.map.remove_hidden(old.clone(), CODE.region);
    assert_eq!(map.map.get(old.start), None);
    map.insert(new.clone(), DATA);
    map.map.remove_hidden(old.clone(), CODE.region);
    assert_eq!(map.map.get(old.start), Some(DATA));
    map.check_nodes();
}

#[test]
fn a_range_that_could_not_be_reserved_leaves_no_nodes() {
    for most in (0..=6).step_by(if cfg!(miri) { 4 } else { 1 }) {
        let map = Map::default();
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
    let at = |top: usize| (top << 39) + (5 << 30) + (5 << 21) + (5 << 12);
    let (hole, live) = (at(2), at(1));
    let all = (0..=TOP).flat_map(|stop| [(stop, 1), (stop, 0), (stop, 2)]);
    for (stop, shift) in all.take(if cfg!(miri) { 1 } else { 12 }) {
        let map = Map::default();
        map.insert(live..live + PAGE, CODE);
        map.come_and_go(hole..hole + PAGE);
        let mut levels = Vec::new();
        let (found, _) = map.map.entry_between(hole, |level| {
            levels.push(level);
            if levels.len() == (TOP - stop) as usize + 1 {
                map.forget_kept();
                // Each of these takes one node from the spare ones, so that the next find others on top.
                for place in 1..=shift {
                    map.insert(live + place * 2 * MIB..live + place * 2 * MIB + PAGE, DATA);
                }
                for top in 3..12 {
                    map.insert(at(top)..at(top) + PAGE, DATA);
                }
            }
        });
        assert!(found.is_null(), "found {found:?}, interrupted at level {stop}");
        let walks = levels.iter().filter(|level| **level == TOP).count();
        assert_eq!(walks, 2, "one interrupted, one not");
        assert_eq!(map.map.get(live), Some(CODE));
    }
}
