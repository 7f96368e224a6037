//! The workload: a JIT's day in two seconds.

use crate::allocators::{Allocator, Block};
use std::hint::black_box;

/// How many functions are live.
pub const BLOCKS: usize = 100_000;
/// How many come and go in a heap that is 80 % full.
pub const CYCLES: usize = 2_000;

/// The phases in their order.
pub const PHASES: [&str; 11] = [
    "cold allocation",
    "FIFO release",
    "allocation again",
    "release of a random half",
    "allocation into the fragmented heap",
    "find by address",
    "find of a live function's start",
    "release of a random fifth",
    "at 80 %: allocate 256, write, publish, free it",
    "at 80 %: the same, but free a random one",
    "LIFO release",
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
    let mut live: Vec<Block> = Vec::with_capacity(blocks);
    let mut allocator = A::new();
    let mut times = Vec::new();
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
    random.shuffle(&mut live);
    let inside: Vec<usize> = live.iter().map(|block| block.code + random.below(block.size)).collect();
    let starts: Vec<usize> = live.iter().map(|block| block.code).collect();
    for addresses in [inside, starts] {
        timed(blocks, &mut || {
            for address in &addresses {
                black_box(allocator.find(*address));
            }
        });
    }
    let fifth = blocks / 5;
    timed(fifth, &mut || live.drain(blocks - fifth..).for_each(|block| allocator.release(block)));
    let code = [0xc3; 256];
    timed(CYCLES, &mut || {
        for _ in 0..CYCLES {
            let block = allocator.alloc(code.len());
            allocator.write(block, &code);
            allocator.release(block);
        }
    });
    timed(CYCLES, &mut || {
        for _ in 0..CYCLES {
            let block = allocator.alloc(code.len());
            allocator.write(block, &code);
            let victim = random.below(live.len());
            allocator.release(std::mem::replace(&mut live[victim], block));
        }
    });
    let left = live.len();
    timed(left, &mut || live.drain(..).rev().for_each(|block| allocator.release(block)));
    times.try_into().expect("a time for each phase")
}
