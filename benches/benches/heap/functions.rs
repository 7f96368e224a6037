//! What a function costs from its allocation to its first call, and in memory; and what a second thread brings.

use crate::allocators::{Block, Functions, Ours};
use crate::workload::{Random, now};
use execmem_os_linux::{rt_code_alloc, rt_code_free};
use std::time::Instant;

/// How many functions are made, and how long each is.
const COUNT: usize = 10_000;
const SIZE: usize = 256;

/// Nanoseconds from allocation to the end of the first call, in fresh memory and in memory that is used again;
/// and bytes of memory for each byte of code.
pub fn make<F: Functions>() -> [f64; 3] {
    let code = [if cfg!(target_arch = "x86_64") { 0xc3 } else { 0 }; SIZE];
    // What the first calls of all cost belongs to nobody.
    let mut functions = F::new();
    call(&mut functions, &code);
    let mut blocks = vec![Block { code: 1, writable: 1, size: 1 }; COUNT];
    let mut round = |functions: &mut F| {
        let start = now();
        blocks.iter_mut().for_each(|block| *block = call(functions, &code));
        let time = (now() - start) / COUNT as f64;
        let memory = memory();
        blocks.iter().for_each(|block| functions.release(*block));
        (time, memory)
    };
    let before = memory();
    let (fresh, after) = round(&mut functions);
    let (again, _) = round(&mut functions);
    std::mem::forget(functions);
    [fresh, again, (after - before) / (COUNT * SIZE) as f64]
}

fn call<F: Functions>(functions: &mut F, code: &[u8]) -> Block {
    let block = functions.alloc(code.len());
    functions.write(block, code);
    // SAFETY: the code is a `ret`, published.
    unsafe { std::mem::transmute::<usize, extern "C" fn()>(block.code)() };
    block
}

/// Bytes of this process: its share of all pages that it has, and of page tables.
fn memory() -> f64 {
    let read = |path: &str, name: &str| -> f64 {
        let text = std::fs::read_to_string(path).expect("proc is mounted");
        let line = text.lines().find(|line| line.starts_with(name)).expect("a kernel that tells");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("KiB")
    };
    1024.0 * (read("/proc/self/smaps_rollup", "Pss:") + read("/proc/self/status", "VmPTE:"))
}

/// How many times the throughput of one thread two have that allocate and free.
pub fn second_thread() -> f64 {
    let _ = Ours::new();
    let alone = throughput(1);
    throughput(2) / alone
}

/// Pairs of allocate and free in a nanosecond.
fn throughput(threads: usize) -> f64 {
    const PAIRS: usize = 2_000_000;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || churn(PAIRS, thread));
        }
    });
    (threads * PAIRS) as f64 / start.elapsed().as_nanos() as f64
}

/// Keeps a thousand blocks, and replaces one of them again and again.
fn churn(pairs: usize, thread: usize) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 + thread as u64);
    let mut live: Vec<i64> = (0..1000).map(|_| alloc(&mut random)).collect();
    for _ in 0..pairs {
        let victim = random.below(live.len());
        // SAFETY: nobody runs the code.
        assert_eq!(unsafe { rt_code_free(live[victim]) }, 1);
        live[victim] = alloc(&mut random);
    }
    for block in live {
        // SAFETY: nobody runs the code.
        unsafe { rt_code_free(block) };
    }
}

fn alloc(random: &mut Random) -> i64 {
    // SAFETY: takes a number.
    let block = unsafe { rt_code_alloc(32 + random.below(1024) as i64) };
    assert_ne!(block, 0);
    block
}
