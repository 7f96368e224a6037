//! What a policy costs: the same operations under each, in processes of their own, since a process has one.

use crate::allocators::bare::map;
use crate::regions::bare;
use execmem_benches::{Role, Unit, children, live_function, now, rounds, row, set_policy};
use execmem_os_linux::*;
use std::ffi::c_void;

const TABLE: &str = "Policies";
const COUNT: usize = 5_000;
const SIZE: i64 = 256;
const PAGE: usize = 4096;

/// What is measured, and what does as much without the library.
const FIGURES: [(&str, Option<(Role, &str)>); 5] = [
    ("a block: allocate, write 256 bytes, publish, call, free", PAIR),
    ("write and publish 256 bytes of a block", PAIR),
    ("patch eight bytes of a block", None),
    ("a region: allocate, write 64 bytes, flush, call, free", Some((Role::Bare, "mmap, memcpy, munmap"))),
    ("write 64 bytes to a region", PAIR),
];
const PAIR: Option<(Role, &str)> = Some((Role::Peer, "a pair of mprotect"));
const VIEWS: &str = "a second view takes three system calls more, and page faults of its own; the heap shares one among thousands of blocks";

pub fn run() {
    let processes: Vec<_> =
        ["dual", "rwx", "toggle", "by hand"].map(|policy| vec!["policies", policy]).into();
    let samples = children(rounds(15, 3), &processes);
    for (index, (name, other)) in FIGURES.into_iter().enumerate() {
        let [dual, rwx, toggle, by_hand] = [0, 1, 2, 3].map(|process: usize| &samples[process][index][..]);
        let mut cells =
            vec![(Role::Ours, "dual", dual), (Role::Own, "rwx", rwx), (Role::Own, "toggle", toggle)];
        cells.extend(other.map(|(role, name)| (role, name, by_hand)));
        row(TABLE, name, Unit::Nanoseconds, &cells).why(VIEWS).print();
    }
}

/// Nanoseconds of each figure under a policy; "by hand" knows the system calls alone.
pub fn child(words: &[&str]) -> Vec<f64> {
    let code = live_function(SIZE as usize);
    if words == ["by hand"] {
        let page = map(PAGE, libc::PROT_READ | libc::PROT_EXEC, 0);
        let pair = average(|| flip(page, &code));
        let region = average(|| bare(&live_function(64), false));
        let figure = |other| if other == PAIR { pair } else { region };
        return FIGURES.map(|(_, other)| figure(other)).into();
    }
    set_policy(words[0]);
    let has_patches = words[0] != "toggle";
    // SAFETY: the code is readable, and a function without arguments; nobody else uses what is made here.
    unsafe {
        let write = |block| {
            assert_eq!(rt_code_write(block, code.as_ptr(), SIZE, 0), SIZE);
            assert_eq!(rt_code_publish(block, SIZE), 1);
        };
        let block = average(|| {
            let block = rt_code_alloc(SIZE);
            write(block);
            assert_eq!(rt_call_function_0(block), 42);
            assert_eq!(rt_code_free(block), 1);
        });
        let live = rt_code_alloc(SIZE);
        let written = average(|| write(live));
        let word = u64::from_ne_bytes(*code.first_chunk().expect("more than a word"));
        let patched = average(|| assert_eq!(rt_code_patch(live, word) != 0, has_patches));
        let length = 64;
        let region = average(|| {
            let region = rt_alloc_exec_memory(SIZE);
            assert_eq!(rt_write_exec_bytes(region, code.as_ptr(), length, 0), length);
            rt_flush_icache(region, length);
            assert_eq!(rt_call_function_0(region), 42);
            assert_eq!(rt_free_exec_memory(region, SIZE), 1);
        });
        let live = rt_alloc_exec_memory(SIZE);
        let to_region = average(|| assert_eq!(rt_write_exec_bytes(live, code.as_ptr(), length, 0), length));
        vec![block, written, if has_patches { patched } else { f64::NAN }, region, to_region]
    }
}

fn flip(page: usize, code: &[u8]) {
    let start = page as *mut c_void;
    // SAFETY: a page of our own, longer than the code.
    unsafe {
        assert_eq!(libc::mprotect(start, PAGE, libc::PROT_READ | libc::PROT_WRITE), 0);
        (page as *mut u8).copy_from_nonoverlapping(code.as_ptr(), code.len());
        assert_eq!(libc::mprotect(start, PAGE, libc::PROT_READ | libc::PROT_EXEC), 0);
    }
}

/// Nanoseconds of one of many, after as many that are not counted.
fn average(mut work: impl FnMut()) -> f64 {
    (0..COUNT).for_each(|_| work());
    let start = now();
    (0..COUNT).for_each(|_| work());
    (now() - start) / COUNT as f64
}
