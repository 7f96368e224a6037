//! The page map: a reader beside the writer that takes the reader's node out and uses it elsewhere.
//!
//! fault "a node is taken out, Relaxed" in registry/page_map/map.rs
//! - self.generation.store(generation.wrapping_add(1), Ordering::Release)
//! + self.generation.store(generation.wrapping_add(1), Ordering::Relaxed)
//!
//! fault "entries are stored Relaxed" in registry/page_map/node.rs
//! - self.0.store(entry.0, Ordering::Release)
//! + self.0.store(entry.0, Ordering::Relaxed)
//!
//! fault "entries are read Relaxed" in registry/page_map/map.rs
//! - table.slot(address, level).load(Ordering::Acquire)
//! + table.slot(address, level).load(Ordering::Relaxed)
//!
//! fault "the generation is read Relaxed" in registry/page_map/map.rs
//! - self.generation.load(Ordering::Acquire)
//! + self.generation.load(Ordering::Relaxed)
//!
//! fault "a walk is never repeated" in registry/page_map/map.rs
//! - self.generation.load(Ordering::Relaxed) == generation
//! + self.generation.load(Ordering::Relaxed) <= usize::MAX

extern crate std;

use super::node::Table;
use super::{Change, Node, Page, PageMap};
use crate::error::Error;
use crate::protection::Protection;
use crate::sync::explore;
use core::cell::Cell;
use core::ops::Range;
use std::boxed::Box;

const MIB: usize = 1 << 20;
/// In one node of level 1, and each alone in its node of level 0.
const STAYS: usize = (5 << 39) + (5 << 30) + 5 * 4096;
const GOES: usize = STAYS + 2 * MIB;
const COMES: usize = STAYS + 4 * MIB;

fn at(start: usize) -> Range<usize> {
    start..start + 4096
}

fn page(region: u32) -> Page {
    Page { protection: Protection::RX, region, is_other_view: false, chunk: 0 }
}

/// The memory of a map and its nodes, which is the same in each execution.
#[derive(Clone, Copy)]
struct Memory {
    map: *mut PageMap,
    nodes: *mut [Node; 4],
}

// SAFETY: loom's threads are one thread.
unsafe impl Send for Memory {}
// SAFETY: loom's threads are one thread.
unsafe impl Sync for Memory {}

impl Memory {
    fn new() -> Self {
        let nodes = Box::new([const { Node(Table::new()) }; 4]);
        Self { map: Box::into_raw(Box::new(PageMap::new())), nodes: Box::into_raw(nodes) }
    }

    /// A map with two pages. Every atomic that the model uses has been used.
    fn start(self) -> &'static PageMap {
        // SAFETY: the last execution is over.
        unsafe {
            self.map.write(PageMap::new());
            self.nodes.write([const { Node(Table::new()) }; 4]);
        }
        // SAFETY: it was made by `new`, and nothing is moved.
        let (map, nodes) = unsafe { (&*self.map, &*self.nodes) };
        let next = Cell::new(0);
        let mut fresh = || {
            next.set(next.get() + 1);
            nodes.get(next.get() - 1).ok_or(Error::NoMemory)
        };
        let mut insert = |start, region| {
            map.prepare(at(start), &mut fresh).unwrap();
            map.change(at(start), Change::Set(page(region)));
        };
        insert(STAYS, 1);
        insert(COMES, 3);
        map.change(at(COMES), Change::Remove(3));
        insert(GOES, 2);
        assert_eq!((map.get(COMES), next.get()), (None, 4));
        map
    }
}

/// What the writer does while others read. It is the model's first thread: loom sees that a load comes before or after
/// another thread's store, but not, of a thread that loads a word and then stores it, that others have loaded it before.
fn move_the_node(map: &PageMap) {
    map.change(at(GOES), Change::Remove(2));
    map.prepare(at(COMES), &mut || Err(Error::NoMemory)).unwrap();
    map.change(at(COMES), Change::Set(page(3)));
}

#[test]
fn a_reader_never_finds_the_page_of_another_place() {
    let memory = Memory::new();
    explore(3, move || {
        let map = memory.start();
        let reader = loom::thread::spawn(move || {
            let found = map.get(GOES);
            assert!(found.is_none_or(|found| found == page(2)), "{found:?} is of another place");
        });
        move_the_node(map);
        reader.join().unwrap();
        assert_eq!([STAYS, GOES, COMES].map(|at| map.get(at)), [Some(page(1)), None, Some(page(3))]);
    });
}

#[test]
fn a_page_that_stays_is_found_and_a_new_one_is_whole() {
    let memory = Memory::new();
    explore(2, move || {
        let map = memory.start();
        let reader = loom::thread::spawn(move || {
            assert_eq!(map.get(STAYS), Some(page(1)));
            let found = map.get(COMES);
            assert!(found.is_none_or(|found| found == page(3)), "{found:?} is of another place");
        });
        move_the_node(map);
        reader.join().unwrap();
    });
}
