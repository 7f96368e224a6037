//! What a function costs from its allocation to its first call, and in memory: the first of a process, and 10,000.

use crate::allocators::{Allocator, Block, Figure, time};
use execmem_benches::{Unit, live_function, memory, now};

/// How many functions are made, and how long each is.
const COUNT: usize = 10_000;
const SIZE: usize = 256;

const CALLED: &str = "memory that may be written and executed: memcpy, call";

/// What `make` gives.
pub const FIGURES: [Figure; 6] = [
    time("first function of a process, to the end of its call", CALLED, ""),
    count("page faults of it", Unit::Count, ""),
    time("function of 256 bytes, to the end of its first call", CALLED, ""),
    time("the same in memory that is used again", CALLED, ""),
    count("memory of 10,000 of them, page tables included", Unit::Times, ""),
    count("mappings of 10,000 of them", Unit::Count, ""),
];

const fn count(name: &'static str, unit: Unit, why: &'static str) -> Figure {
    Figure { name, unit, limit: None, why }
}

/// A process's first function, then many.
pub fn make<A: Allocator>() -> Vec<f64> {
    let code = live_function(SIZE);
    let (start, faults) = (now(), page_faults());
    let mut functions = A::new();
    call(&mut functions, &code);
    let first = [now() - start, page_faults() - faults];
    let mut blocks = vec![Block { code: 1, writable: 1, size: 1 }; COUNT];
    let mut round = |functions: &mut A| {
        let start = now();
        blocks.iter_mut().for_each(|block| *block = call(functions, &code));
        let time = (now() - start) / COUNT as f64;
        let memory = (memory(), mappings());
        blocks.iter().for_each(|block| functions.release(*block));
        (time, memory)
    };
    let before = (memory(), mappings());
    let (fresh, after) = round(&mut functions);
    let (again, _) = round(&mut functions);
    std::mem::forget(functions);
    let memory = (after.0 - before.0) / (COUNT * SIZE) as f64;
    [&first[..], &[fresh, again, memory, after.1 - before.1]].concat()
}

fn call<A: Allocator>(functions: &mut A, code: &[u8]) -> Block {
    let block = functions.alloc(code.len());
    functions.write(block, code);
    // SAFETY: the code is such a function, published.
    let answer = unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(block.code)() };
    assert_eq!(answer, 42);
    block
}

fn mappings() -> f64 {
    std::fs::read_to_string("/proc/self/maps").expect("proc is mounted").lines().count() as f64
}

fn page_faults() -> f64 {
    // SAFETY: a structure of integers, and room for it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    usage.ru_minflt as f64
}
