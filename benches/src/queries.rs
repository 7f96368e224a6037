//! Questions about addresses, with few and many live regions.

use execmem_benches::{Race, Random, Role, Unit, row, timed};
use execmem_os_linux::*;
use std::hint::black_box;

/// How many addresses are asked about.
const ASKED: usize = 1 << 16;
const TABLE: &str = "Questions, copies, calls";

/// What the first plan for this library had: a list that is searched from the front.
struct List<'a>(&'a [i64]);

impl List<'_> {
    fn holds(&self, address: i64) -> bool {
        self.0.iter().any(|base| (*base..*base + 4096).contains(&address))
    }
}

pub fn run() {
    let mut regions = Vec::new();
    for live in [10, 1_000, 50_000] {
        while regions.len() < live {
            // SAFETY: the contract takes any size.
            let base = unsafe { rt_alloc_exec_memory(4096) };
            assert!(base > 0);
            regions.push(base);
        }
        questions(&regions);
    }
    memory_of_records();
    foreign();
}

fn questions(regions: &[i64]) {
    let live = regions.len();
    // Each question is about another region, in an order that prefetchers can't guess.
    let asked: Vec<i64> = {
        let mut random = Random::new(0);
        (0..ASKED).map(|_| *random.choose(regions)).collect()
    };
    let calls = 10_000;
    let few = if live > 10_000 { 20 } else { 1_000 };
    // The page map has 8 bytes a page: what a table must have for an answer.
    let table = vec![1u64; live];
    let first = regions.iter().copied().min().unwrap_or_default();
    let load = |address: i64| _ = black_box(table[((address - first) / 4096) as usize % live]);
    // SAFETY: the contract takes any address.
    let executable = |address| _ = black_box(unsafe { rt_is_executable(address) });
    let race = Race::of(each(calls, &asked, executable))
        .beside(
            Role::Own,
            "a list scan",
            each(few, &asked, |address| _ = black_box(List(regions).holds(address))),
        )
        .beside(Role::Limit, "a load from a table of pages", each(calls, &asked, load));
    #[cfg(feature = "peers")]
    let race = {
        // Both parse /proc/self/maps.
        let few = if live > 10_000 { 1 } else { 20 };
        let region = each(few, &asked, |address| {
            _ = black_box(region::query(address as *const u8).expect("a region"))
        });
        let mmap_rs = each(few, &asked, |address| {
            _ = black_box(mmap_rs::MemoryAreas::query(address as usize).expect("an area"));
        });
        race.beside(Role::Peer, "region", region).beside(Role::Peer, "mmap-rs", mmap_rs)
    };
    race.row(TABLE, "rt_is_executable").at(live, "regions").print();
    // SAFETY: the contract takes any address.
    let protection = |address| _ = black_box(unsafe { rt_get_protection(address) });
    Race::of(each(calls, &asked, protection)).row(TABLE, "rt_get_protection").at(live, "regions").print();
}

/// Asks about one address after another.
fn each<'a>(calls: usize, asked: &'a [i64], work: impl Fn(i64) + 'a) -> impl FnMut() -> f64 + 'a {
    let mut at = 0;
    timed(calls, move || {
        at = (at + 1) % ASKED;
        work(asked[at]);
    })
}

fn memory_of_records() {
    // SAFETY: a structure of integers.
    let mut stats: execmem::abi::RtExecMemoryStats = unsafe { std::mem::zeroed() };
    stats.size = size_of_val(&stats) as i64;
    // SAFETY: the structure has the size that it says.
    unsafe { rt_exec_memory_stats(&mut stats) };
    let bytes = stats.record_bytes as f64 / stats.regions as f64;
    let subjects = [(Role::Ours, "execmem", &[bytes][..])];
    row(TABLE, "records of a region, its part of the page map included", Unit::Bytes, &subjects).print();
}

/// A foreign address beside the one system call that it takes.
fn foreign() {
    let address = foreign as *const () as i64;
    // SAFETY: opens a file.
    let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY) };
    let query = || {
        let mut query = [0u64; 13];
        (query[0], query[1], query[2]) = (104, 0x10, address as u64);
        // SAFETY: the structure has the 104 bytes that it says.
        assert_eq!(unsafe { libc::ioctl(maps, 0xc068_6611, query.as_mut_ptr()) }, 0);
    };
    // SAFETY: the contract takes any address.
    let ours = || _ = black_box(unsafe { rt_is_executable(address) });
    Race::of(timed(200, ours))
        .beside(Role::Bare, "PROCMAP_QUERY", timed(200, query))
        .row(TABLE, "rt_is_executable of a foreign address")
        .why(
            "two more system calls tell that the descriptor is still this process's list: a program may have closed it, \
             and a child has its parent's; without them it was 1.3 times, and could ask somebody else's file",
        )
        .print();
}
