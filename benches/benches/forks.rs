//! What a fork costs a process with much code, and the first write after one.
//!
//! A process has one policy, so each runs in a child of its own; all sizes come one behind the other there.

use execmem_benches::{is_quick, median};
use execmem_os_linux::*;
use std::time::Instant;

const BLOCK: usize = 64_000;

/// Microseconds.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / 1000.0
}

/// Forks; the child ends at once. The time that the parent spends.
fn fork() -> f64 {
    let mut child = 0;
    // SAFETY: the child does nothing but end.
    let spent = time(|| unsafe {
        child = libc::fork();
        if child == 0 {
            libc::_exit(0);
        }
    });
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    spent
}

fn run(policy: i32, name: &str) {
    let code = vec![0xc3u8; BLOCK];
    let mut blocks: Vec<i64> = Vec::new();
    let rounds = if is_quick() { 3 } else { 11 };
    let sizes: &[usize] = if is_quick() { &[0, 100] } else { &[0, 100, 400] };
    // SAFETY: the vector is readable; the blocks are this program's.
    unsafe {
        assert_eq!(rt_exec_memory_set_policy(policy.into()), 1);
        for &mebibytes in sizes {
            while blocks.len() * BLOCK < mebibytes << 20 {
                let block = rt_code_alloc(BLOCK as i64);
                assert_eq!(rt_code_write(block, code.as_ptr(), BLOCK as i64, 0), BLOCK as i64);
                assert_eq!(rt_code_publish(block, BLOCK as i64), 1);
                blocks.push(block);
            }
            let forks = median((0..rounds).map(|_| fork()));
            print!("{name:<7} {mebibytes:>4} MiB of code   fork {forks:>9.0} us");
            if let Some(block) = blocks.first() {
                let write = || assert_eq!(rt_code_write(*block, code.as_ptr(), 8, 0), 8);
                let first = median((0..rounds).map(|_| {
                    fork();
                    time(write)
                }));
                let mut target = vec![1u8; 4 << 20];
                let source = vec![2u8; 4 << 20];
                let copy = median((0..rounds).map(|_| time(|| target.copy_from_slice(&source))));
                print!("   first write {first:>7.0} us   a second one {:>5.1} us", time(write));
                print!("   memcpy of 4 MiB {copy:>6.0} us");
                std::hint::black_box(&target);
            }
            println!();
        }
    }
}

fn main() {
    for (policy, name) in [(1, "rwx"), (2, "dual"), (3, "toggle")] {
        // SAFETY: this process has one thread, and has used the library for nothing yet.
        match unsafe { libc::fork() } {
            0 => {
                run(policy, name);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            child => {
                // SAFETY: waits for the child made above.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            }
        }
    }
}
