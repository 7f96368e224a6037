//! The workload: a JIT's day in two seconds.

use crate::allocators::{Allocator, Block};
use execmem_benches::is_quick;
use std::hint::black_box;

/// How many functions are live.
pub fn blocks() -> usize {
    if is_quick() { 20_000 } else { 100_000 }
}

/// How many come and go in a heap that is 80 % full.
pub const CYCLES: usize = 2_000;

/// How many functions are added to it at a time.
const BATCH: usize = 10_000;

/// The phases in their order.
pub const PHASES: [&str; 15] = [
    "cold allocation",
    "FIFO release",
    "allocation again",
    "release of a random half",
    "allocation into the fragmented heap",
    "there: allocate 256, write, publish, free it",
    "find by address",
    "find of a live function's start",
    "LIFO release",
    "allocation of all",
    "release of a random fifth",
    "at 80 %: allocate 256, write, publish, free it",
    "at 80 %: the same with 10,000, then free them all",
    "at 80 %: any size, free a random function",
    "release of functions that were written",
];

/// Nanoseconds of an operation in each phase.
type Times = [f64; PHASES.len()];

/// xorshift64: the same sequence in each run.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}

/// Processor time of this thread: on a busy machine the clock on the wall measures the neighbours.
pub fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Runs all phases with `blocks` blocks of 8 to 1,031 bytes.
pub fn run<A: Allocator>(blocks: usize) -> Times {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
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
    times.try_into().expect("a time for each phase")
}
