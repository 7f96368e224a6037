//! How the heap's figures grow with the number of blocks.

use crate::allocators::{Allocator, Figure, time};
use execmem_benches::{Random, now};
use execmem_os_linux::rt_is_executable;
use std::hint::black_box;

/// How many blocks there are.
pub const COUNTS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

const MAPS: &str =
    "chunks of 4 MiB are mapped with two views, and their tables' pages come in; few blocks share the price";
const BUMP: &str = "bump a pointer, store a word";
const MISSES: &str = "it tells the size that was asked for, which is a load from a table of two bytes a granule: a million blocks \
     keep that out of the caches, and each lookup waits for it. Without that load it takes 0.3 of the time (tried); \
     asmjit keeps no sizes, and tells a multiple of 64 bytes from two bits a granule. Huge pages under the tables take \
     off 8 % (tried)";
const RECORDS: &str = "as to find: the size, that two bytes a granule tell, is in no cache, and more bits are beside it: whether it was \
     written, whether it was fetched, and that it is free again";

/// What `run` gives.
pub const FIGURES: [Figure; 5] = [
    time("allocate", BUMP, MAPS),
    time("find the function of an address", "load from a table of granules", MISSES),
    Figure { limit: None, ..time("rt_is_executable", "", "") },
    time("fill half of the holes where every second was released", BUMP, ""),
    Figure { limit: None, ..time("release in any order", "", RECORDS) },
];

pub fn run<A: Allocator>(count: usize) -> Vec<f64> {
    let mut random = Random::new(1);
    let mut allocator = A::new();
    // What the first function costs has a row of its own.
    allocator.alloc(64);
    let sizes: Vec<usize> = (0..count).map(|_| 8 + random.below(1024)).collect();
    let mut live = Vec::with_capacity(count);
    let allocate = timed(count, || live.extend(sizes.iter().map(|size| allocator.alloc(*size))));
    random.shuffle(&mut live);
    let addresses: Vec<usize> = live.iter().map(|block| block.code + random.below(block.size)).collect();
    let mut find = || {
        for address in &addresses {
            black_box(allocator.find(*address));
        }
    };
    // The first time brings in records that were never read.
    find();
    let find = timed(count, find);
    let executable = timed(count, || {
        // A system call, if the address is a peer's.
        for address in addresses.iter().filter(|_| A::IS_OURS) {
            // SAFETY: the contract takes any address.
            black_box(unsafe { rt_is_executable(*address as i64) });
        }
    });
    let half = count / 2;
    live.drain(half..).for_each(|block| allocator.release(block));
    // A half of the holes: all of them would take one of the peers minutes.
    let sizes = &sizes[..count / 4];
    let fill = timed(sizes.len(), || live.extend(sizes.iter().map(|size| allocator.alloc(*size))));
    let left = live.len();
    let release = timed(left, || live.drain(..).for_each(|block| allocator.release(block)));
    let executable = if A::IS_OURS { executable } else { f64::NAN };
    vec![allocate, find, executable, fill, release]
}

fn timed(count: usize, work: impl FnOnce()) -> f64 {
    let start = now();
    work();
    (now() - start) / count as f64
}
