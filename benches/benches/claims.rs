//! How long who wants a region for himself waits while eight threads read it in a loop, beside one of their reads.
//!
//! Nobody overtakes: it waits for the reads that were under way, not for those that began later.

use execmem_benches::{is_quick, median};
use execmem_os_linux::*;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

const READERS: usize = 8;
/// What one read copies: a claim is held for as long.
const SIZE: i64 = 1 << 20;

fn main() {
    // SAFETY: has no preconditions.
    let address = unsafe { rt_alloc_rw_memory(SIZE) };
    assert!(address > 0);
    let is_over = AtomicBool::new(false);
    let reads = Mutex::new(Vec::new());
    let mut waits = Vec::new();
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut target = vec![1u8; SIZE as usize];
                let mut own = Vec::new();
                while !is_over.load(Relaxed) {
                    let start = Instant::now();
                    // SAFETY: the target has room.
                    assert_eq!(unsafe { rt_mmap_read_into(address, 0, target.as_mut_ptr(), SIZE) }, SIZE);
                    own.push(start.elapsed().as_nanos() as f64);
                }
                reads.lock().expect("no reader panics").append(&mut own);
            });
        }
        for round in 0..if is_quick() { 50 } else { 1000 } {
            let start = Instant::now();
            // SAFETY: has no preconditions. Readers may read before and after.
            assert_eq!(unsafe { rt_set_protection(address, SIZE, 1 + 2 * (round % 2)) }, 1);
            waits.push(start.elapsed().as_nanos() as f64);
        }
        is_over.store(true, Relaxed);
    });
    let read = median(reads.into_inner().expect("no reader panics").into_iter());
    let longest = waits.iter().copied().fold(0.0, f64::max);
    let wait = median(waits.into_iter());
    println!("a read of 1 MiB beside {} others {:>26.1} us", READERS - 1, read / 1e3);
    println!(
        "a change of the region's protection, median {:>15.1} us   ratio {:>6.2}   wanted < 10",
        wait / 1e3,
        wait / read
    );
    println!("  the longest {:>45.1} us   ratio {:>6.2}", longest / 1e3, longest / read);
}
