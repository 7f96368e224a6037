//! The workload: a JIT's day in two seconds.

use crate::allocators::{Allocator, Block, Figure, time};
use execmem_benches::{Random, is_quick, now};
use std::hint::black_box;

/// How many functions are live.
pub fn blocks() -> usize {
    if is_quick() { 20_000 } else { 100_000 }
}

/// How many come and go in a heap that is 80 % full.
const CYCLES: usize = 2_000;

/// How many functions are added to it at a time.
const BATCH: usize = 10_000;

const MAPS: &str =
    "chunks of 4 MiB are mapped with two views, and their tables' pages come in; few blocks share the price";
const BUMP: &str = "bump a pointer, store a word";
const COPY: &str = "bump a pointer, memcpy, memset";
const LOAD: &str = "load from a table of granules";

/// Why functions that come and go one by one cost what they do.
const MOVES_ON: &str = "memory that was executed is not used again before a cross-core step, so each function lands in \
     other, cold memory, and what is freed is filled with traps; peers write to the same warm place again, where another core \
     may still execute what was there";
const FILLED: &str = "what is freed is filled with traps, so that a call of freed code does not run what was there (asmjit: on \
     request); beside that, five tables are kept";
const RECORDS: &str = "a start bit, a size, whether it was written, whether it was fetched, and where free memory begins: \
     one table each";

/// The phases in their order.
pub const PHASES: [Figure; 15] = [
    time("allocate, cold heap", BUMP, MAPS),
    free("release in order of allocation", RECORDS),
    time("allocate again", BUMP, ""),
    free("release a random half", RECORDS),
    time("allocate where every second was released", BUMP, ""),
    time("in that heap: allocate 256 bytes, write, publish, release", COPY, MOVES_ON),
    time("find the function of an address", LOAD, ""),
    time("find by a function's start", LOAD, ""),
    free("release, the last first", RECORDS),
    time("allocate all", BUMP, ""),
    free("release a random fifth", RECORDS),
    time("80 % full: allocate 256 bytes, write, publish, release", COPY, MOVES_ON),
    time("80 % full: the same with 10,000, then release them all", COPY, FILLED),
    time("80 % full: any size, release a random function", COPY, FILLED),
    time("release functions that were written", "memset", FILLED),
];

/// Without a limit: a release that does nothing is none.
const fn free(name: &'static str, why: &'static str) -> Figure {
    Figure { limit: None, ..time(name, "", why) }
}

/// Runs all phases with `blocks` blocks of 8 to 1,031 bytes.
pub fn run<A: Allocator>(blocks: usize) -> Vec<f64> {
    let mut random = Random::new(0);
    let sizes: Vec<usize> = (0..blocks).map(|_| 8 + random.below(1024)).collect();
    // Room that is there already, as the list is no allocator's cost.
    let mut live: Vec<Block> = vec![Block { code: 1, writable: 1, size: 1 }; blocks];
    live.clear();
    let mut allocator = A::new();
    let mut times = Vec::new();
    let code = [0xc3; 1032];
    let add = |allocator: &mut A, size: usize| {
        let block = allocator.alloc(size);
        allocator.write(block, &code[..size]);
        block
    };
    let mut timed = |count: usize, work: &mut dyn FnMut()| {
        let start = now();
        work();
        times.push((now() - start) / count as f64);
    };

    timed(blocks, &mut || live.extend(sizes.iter().map(|size| allocator.alloc(*size))));
    timed(blocks, &mut || live.drain(..).for_each(|block| allocator.release(block)));
    timed(blocks, &mut || live.extend(sizes.iter().map(|size| allocator.alloc(*size))));
    random.shuffle(&mut live);
    let half = blocks / 2;
    timed(half, &mut || live.drain(half..).for_each(|block| allocator.release(block)));
    timed(half, &mut || live.extend(sizes[..half].iter().map(|size| allocator.alloc(*size))));
    // asmjit uses 82 % of what it has reserved at this point.
    timed(CYCLES, &mut || {
        for _ in 0..CYCLES {
            let block = add(&mut allocator, 256);
            allocator.release(block);
        }
    });
    let mut shuffled = live.clone();
    random.shuffle(&mut shuffled);
    let inside: Vec<usize> = shuffled.iter().map(|block| block.code + random.below(block.size)).collect();
    let starts: Vec<usize> = shuffled.iter().map(|block| block.code).collect();
    for addresses in [inside, starts] {
        timed(blocks, &mut || {
            for address in &addresses {
                black_box(allocator.find(*address));
            }
        });
    }
    timed(blocks, &mut || live.drain(..).rev().for_each(|block| allocator.release(block)));
    timed(blocks, &mut || live.extend(sizes.iter().map(|size| allocator.alloc(*size))));
    random.shuffle(&mut live);
    let fifth = blocks / 5;
    timed(fifth, &mut || live.drain(blocks - fifth..).for_each(|block| allocator.release(block)));
    // A heap that is 80 % full is full of functions.
    for block in &live {
        allocator.write(*block, &code[..block.size]);
    }
    timed(CYCLES, &mut || {
        for _ in 0..CYCLES {
            let block = add(&mut allocator, 256);
            allocator.release(block);
        }
    });
    let mut batch = Vec::with_capacity(BATCH);
    timed(BATCH, &mut || {
        batch.extend((0..BATCH).map(|_| add(&mut allocator, 256)));
        batch.drain(..).for_each(|block| allocator.release(block));
    });
    timed(CYCLES, &mut || {
        for size in &sizes[..CYCLES] {
            let victim = random.below(live.len());
            let block = std::mem::replace(&mut live[victim], add(&mut allocator, *size));
            allocator.release(block);
        }
    });
    let left = live.len();
    timed(left, &mut || live.drain(..).rev().for_each(|block| allocator.release(block)));
    times
}
