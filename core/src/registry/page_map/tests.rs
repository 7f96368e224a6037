//! The map alone: what it says and where its nodes go, and what a reader finds whose node goes meanwhile.

extern crate std;

use super::map::PageMap;
use super::node::{ADDRESS_END, Entry, FANOUT, Node, Slot, TOP, Table};
use super::page::{Change, Page};
use super::spare::KEPT;
use crate::error::{Error, Result};
use crate::memory::Index;
use crate::protection::Protection;
use crate::span::Span;
use crate::sync::Ordering;
use core::cell::RefCell;
use core::ops::Range;
use std::boxed::Box;
use std::vec::Vec;

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

const fn page(region: Index, protection: Protection) -> Page {
    Page { protection, region, is_other_view: false, chunk: 0 }
}

/// A page at an address.
fn at(start: usize) -> Range<usize> {
    start..start + PAGE
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

    /// Reserves a range with memory for so many nodes.
    fn prepare(&self, range: Range<usize>, mut most: usize) -> Result {
        let mut fresh = || {
            most = most.checked_sub(1).ok_or(Error::NoMemory)?;
            let node = Box::into_raw(Box::new(Node(Table::new())));
            self.nodes.borrow_mut().push(node);
            // SAFETY: it lives as long as the map, which is as long as anybody looks.
            Ok(unsafe { &*node })
        };
        self.map.prepare(range, &mut || self.map.dropped_or(&mut fresh))
    }

    /// Drops what is too much; or, where `all`, all that is spare.
    fn drop_spare(&self, all: bool) {
        let mut give_back = |pages: Span| {
            let node = self.nodes.borrow().iter().copied().find(|node| node.addr() == pages.start());
            // SAFETY: the nodes live as long as the map.
            let node = unsafe { &*node.expect("no node is there") };
            let is_empty = |slot: &Slot| slot.load(Ordering::Relaxed) == Entry::EMPTY;
            assert!(node.0.slots().iter().all(is_empty), "the memory of a node that is used was given back");
            Ok(())
        };
        self.map.drop_spare(&mut give_back);
        while all && self.map.spare.count() > 0 {
            self.map.spare.drop_one(&mut give_back).unwrap();
        }
    }

    fn insert(&self, range: Range<usize>, page: Page) {
        self.prepare(range.clone(), usize::MAX).unwrap();
        self.map.change(range, Change::Set(page));
    }

    /// Nodes in the tree: every other one is spare, with or without its memory, or notes those without.
    fn count_nodes(&self) -> usize {
        let (nodes, spare) = (count(&self.map.root), &self.map.spare);
        let held = nodes + spare.count() + spare.count_trunks();
        assert_eq!(
            (held, held + spare.dropped()),
            (spare.held(), self.nodes.borrow().len()),
            "a node was lost"
        );
        nodes
    }
}

/// Nodes below a table. None is empty, and each one's number of used entries is right.
fn count(table: &Table) -> usize {
    let nodes = table.slots().iter().filter_map(|slot| {
        let entry = slot.load(Ordering::Relaxed);
        let node = entry.node()?;
        let is_used = |slot: &&Slot| slot.load(Ordering::Relaxed) != Entry::EMPTY;
        let used = node.0.slots().iter().filter(is_used).count();
        assert!(used > 0 && used == entry.used(), "{used} entries are used");
        Some(1 + count(&node.0))
    });
    nodes.sum()
}

/// What the map should know: the regions, and ranges of their pages, of which later ones replace earlier ones.
#[derive(Default)]
struct Model {
    regions: Vec<(Index, Range<usize>)>,
    pages: Vec<(Range<usize>, Page)>,
}

impl Model {
    fn is_free(&self, range: &Range<usize>) -> bool {
        self.regions.iter().all(|(_, other)| other.end <= range.start || range.end <= other.start)
    }

    /// Adds a region, some of which is protected anew.
    fn insert(&mut self, map: &Map, region: Index, range: Range<usize>, part: Range<usize>) {
        map.insert(range.clone(), page(region, Protection::RX));
        map.prepare(part.clone(), usize::MAX).unwrap();
        map.map.change(part.clone(), Change::Protect(Protection::RW));
        self.regions.push((region, range.clone()));
        self.pages.extend([(range, page(region, Protection::RX)), (part, page(region, Protection::RW))]);
    }

    fn check(&self, map: &Map) {
        let edges =
            self.pages.iter().flat_map(|(range, _)| [range.start - 1, range.start, range.end - 1, range.end]);
        for address in edges {
            let known = self.pages.iter().rev().find(|(range, _)| range.contains(&address));
            assert_eq!(map.map.get(address), known.map(|(_, page)| *page), "{address:#x}");
        }
        let (nodes, most) = (map.count_nodes(), 6 * self.pages.len());
        assert!(nodes <= most, "{nodes} nodes for {:x?}", self.pages);
    }
}

#[test]
fn whatever_comes_and_goes_the_map_knows_what_is_there_and_has_no_node_too_many() {
    let mut seed = 1u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let (map, mut model) = (Map::new(), Model::default());
    let mut most = 0;
    for region in (0..if cfg!(miri) { 16 } else { 1_200 }).step_by(2) {
        // Around the boundaries between nodes of all levels, in neighbours and far apart.
        let place = random(40) * [2 * MIB, GIB, 300 * GIB][random(3)];
        let start = 5 * GIB + place + random(5) * PAGE - 2 * PAGE;
        let range = start..start + [1, 2, 3, 511, 512, 3 << 18][random(6)] * PAGE;
        let part = |range: &Range<usize>, from: usize, to: usize| {
            let pages = range.len() / PAGE;
            let (from, to) = (from % pages, to % pages);
            range.start + from.min(to) * PAGE..range.start + (from.max(to) + 1) * PAGE
        };
        if model.is_free(&range) {
            // Without memory it leaves no node, and may be tried again.
            if map.prepare(range.clone(), random(6)).is_err() {
                model.check(&map);
            }
            model.insert(&map, region, range.clone(), part(&range, random(600), random(600)));
            most = most.max(model.pages.len());
        }
        if random(30) < model.regions.len() {
            let (gone, range) = model.regions.swap_remove(random(model.regions.len()));
            model.pages.retain(|(_, page)| page.region != gone);
            map.map.change(range.clone(), Change::Hide);
            assert_eq!(map.map.get(range.start), None);
            // The system gives addresses away as soon as they are free, before the first region's pages are removed.
            let others = [
                range.start & !(2 * MIB - 1)..range.end.next_multiple_of(2 * MIB),
                part(&range, 0, random(600)),
            ];
            let other = others[random(2)].clone();
            if model.is_free(&other) {
                model.insert(&map, region + 1, other.clone(), other.clone());
                if random(2) == 0 {
                    map.map.change(other, Change::Remove(region + 1));
                    model.regions.pop();
                    model.pages.truncate(model.pages.len() - 2);
                }
            }
            map.map.change(range, Change::Remove(gone));
            // Sometimes all that is spare goes, so that what comes next uses what was dropped.
            map.drop_spare(random(4) == 0);
        }
        model.check(&map);
    }
    // As many as when most were there, whatever there was since, and what notes those that were dropped.
    assert!(map.nodes.borrow().len() <= 6 * most + 6 + map.map.spare.count_trunks());
    model.regions.drain(..).for_each(|(region, range)| map.map.change(range, Change::Remove(region)));
    assert_eq!((map.count_nodes(), map.map.next_run(0, ADDRESS_END)), (0, None));
}

#[test]
fn of_many_nodes_that_are_spare_a_few_keep_their_memory_and_the_others_come_back() {
    let map = Map::new();
    let places = if cfg!(miri) { 40 } else { 1_000 };
    let place = |number: usize| at((number + 1) << 31);
    // Removed in the order of making, against it, and mixed.
    let orders: [&dyn Fn(usize) -> usize; 3] = [&|n| n, &|n| places - 1 - n, &|n| n * 7 % places];
    let mut most = 0;
    for order in orders {
        for number in 0..places {
            map.insert(place(number), page(number as Index, Protection::RX));
        }
        most = most.max(map.nodes.borrow().len());
        assert_eq!(map.nodes.borrow().len(), most, "dropped nodes come back before there are new ones");
        for number in (0..places).map(order) {
            map.map.change(place(number), Change::Remove(number as Index));
            map.drop_spare(false);
            let (live, spare) = (map.map.spare.held() - map.map.spare.count(), map.map.spare.count());
            assert!(spare <= KEPT.max(3 * live), "{spare} spare nodes have their memory, for {live}");
        }
        assert_eq!(map.count_nodes(), 0);
        let trunks = map.map.spare.count_trunks();
        assert!(trunks <= 1 + map.map.spare.dropped() / (FANOUT - 1), "{trunks} nodes note those without");
        assert!(cfg!(miri) || map.map.spare.dropped() > places, "nothing was dropped");
    }
    // Who comes and goes gives nothing back.
    let dropped = map.map.spare.dropped();
    for number in 0..places {
        map.insert(place(number), page(number as Index, Protection::RX));
        assert_eq!(map.map.get(place(number).start), Some(page(number as Index, Protection::RX)));
        map.map.change(place(number), Change::Remove(number as Index));
        map.drop_spare(false);
    }
    assert_eq!(map.map.spare.dropped(), dropped);
}

#[test]
fn a_system_that_keeps_the_memory_changes_nothing() {
    let map = Map::new();
    let place = |number: usize| at((number + 1) << 31);
    (0..100).for_each(|number| map.insert(place(number), page(7, Protection::RX)));
    (0..100).for_each(|number| map.map.change(place(number), Change::Remove(7)));
    let mut calls = 0;
    for _ in 0..3 {
        map.map.drop_spare(&mut |_| {
            calls += 1;
            Err(Error::InvalidArgument)
        });
    }
    assert_eq!((calls, map.map.spare.dropped(), map.count_nodes()), (1, 0, 0));
}

#[test]
fn a_reader_whose_node_is_taken_out_walks_again() {
    // The reader asks about a hole. Before it reads the entry at one level, its nodes are taken out and used
    // for other places, at the same levels and at others, with something in the entry that it looks at next.
    // One thread steps through the walk, so this does not see the order in which another core sees the
    // writer's stores: for that there is the argument at the head of the map, and Miri on `threads`.
    let place = |top: usize| (top << 39) + (5 << 30) + (5 << 21) + (5 << 12);
    let (hole, live) = (place(2), place(1));
    // With or without their memory, which makes them zeros.
    let all =
        (0..=TOP).flat_map(|stop| [(stop, 1, false), (stop, 1, true), (stop, 0, false), (stop, 2, true)]);
    for (stop, shift, drops) in all.take(if cfg!(miri) { 2 } else { 16 }) {
        let map = Map::new();
        let insert = |start| map.insert(at(start), page(7, Protection::RX));
        insert(live);
        map.prepare(at(hole), usize::MAX).unwrap();
        let mut levels = Vec::new();
        let (found, _) = map.map.entry_between(hole, |level| {
            levels.push(level);
            if levels.len() == (TOP - stop) as usize + 1 {
                map.map.prune(at(hole));
                map.drop_spare(drops);
                // Each of these takes one node from the spare ones, so that the next find others on top.
                (1..=shift).for_each(|step| insert(live + step * 2 * MIB));
                (3..12).for_each(|top| insert(place(top)));
            }
        });
        assert!(found == Entry::EMPTY, "interrupted at level {stop}");
        let walks = levels.iter().filter(|level| **level == TOP).count();
        assert_eq!(walks, 2, "one interrupted, one not");
        assert_eq!(map.map.get(live), Some(page(7, Protection::RX)));
    }
}
