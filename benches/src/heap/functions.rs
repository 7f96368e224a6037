//! What a function costs from its allocation to its first call, and in memory: the first of a process, and 10,000.

use crate::allocators::{Allocator, Block, Figure, time};
use execmem_benches::{Unit, live_function, memory, now};

/// How many functions are made, and how long each is.
const COUNT: usize = 10_000;
const SIZE: usize = 256;

const CALLED: &str = "bump a pointer, memcpy, call";
const FIRST: &str = "it makes all that the heap needs: a chunk of 4 MiB with two views, its tables, the page map, after trying \
     out what the system grants; the next 4 MiB need none of it, where those without a heap pay for each function";
const FRESH: &str =
    "the pages of both views come in, and code is checked and published, which asmkit leaves to the caller";
const MERGED: &str =
    "two views and their tables for each 4 MiB; the kernel makes one of neighbours that are alike";
const PACKED: &str = "records take 4.5 % of the pages, as those are used";

/// What `make` gives.
pub const FIGURES: [Figure; 6] = [
    time("first function of a process, to the end of its call", CALLED, FIRST),
    count("page faults of a process's first function", Unit::Count, FIRST),
    time("function of 256 bytes in fresh memory, to the end of its first call", CALLED, FRESH),
    time("function of 256 bytes in used memory, to the end of its first call", CALLED, FRESH),
    count("memory of 10,000 functions of 256 bytes, page tables included", Unit::Times, PACKED),
    count("mappings of 10,000 functions of 256 bytes", Unit::Count, MERGED),
];

const fn count(name: &'static str, unit: Unit, why: &'static str) -> Figure {
    Figure { name, unit, limit: None, why }
}

/// A process's first function, then many.
pub fn make<A: Allocator>() -> Vec<f64> {
    let code = live_function(SIZE);
    let before = mappings();
    let (start, faults) = (now(), page_faults());
    let mut functions = A::new();
    call(&mut functions, &code);
    let first = [now() - start, page_faults() - faults];
    let mut blocks = vec![Block { code: 1, writable: 1, size: 1 }; COUNT];
    let mut round = |functions: &mut A| {
        let start = now();
        blocks.iter_mut().for_each(|block| *block = call(functions, &code));
        let time = (now() - start) / COUNT as f64;
        let memory = memory();
        blocks.iter().for_each(|block| functions.release(*block));
        (time, memory)
    };
    let memory_before = memory();
    let (fresh, after) = round(&mut functions);
    let mapped = mappings();
    let (again, _) = round(&mut functions);
    std::mem::forget(functions);
    let memory = (after - memory_before) / (COUNT * SIZE) as f64;
    [&first[..], &[fresh, again, memory, mapped - before]].concat()
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
