//! How long who wants a region for himself waits while eight threads read it in a loop, beside one of their reads.
//!
//! Nobody overtakes: it waits for the reads that were under way, not for those that began later.

use execmem_benches::{Role, Unit, median, rounds, row};
use execmem_os_linux::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::Instant;

const TABLE: &str = crate::threads::TABLE;
const READERS: usize = 8;
/// What one read copies: a claim is held for as long.
const SIZE: i64 = 1 << 20;

pub fn run() {
    // SAFETY: has no preconditions.
    let address = unsafe { rt_alloc_rw_memory(SIZE) };
    assert!(address > 0);
    let (is_over, reading) = (AtomicBool::new(false), Barrier::new(READERS + 1));
    let reads = Mutex::new(Vec::new());
    let mut waits = Vec::new();
    let spent = |start: Instant| start.elapsed().as_nanos() as f64;
    thread::scope(|scope| {
        for _ in 0..READERS {
            scope.spawn(|| {
                let mut target = vec![1u8; SIZE as usize];
                let mut own = Vec::new();
                reading.wait();
                // Once at least.
                while own.is_empty() || !is_over.load(Relaxed) {
                    let start = Instant::now();
                    // SAFETY: the target has room.
                    assert_eq!(unsafe { rt_mmap_read_into(address, 0, target.as_mut_ptr(), SIZE) }, SIZE);
                    own.push(spent(start));
                }
                reads.lock().expect("no reader panics").append(&mut own);
            });
        }
        reading.wait();
        for round in 0..rounds(1000, 50) {
            let start = Instant::now();
            // SAFETY: has no preconditions. Readers may read before and after.
            assert_eq!(unsafe { rt_set_protection(address, SIZE, 1 + 2 * (round as i64 % 2)) }, 1);
            waits.push(spent(start));
        }
        is_over.store(true, Relaxed);
    });
    let read = median(reads.into_inner().expect("no reader panics").into_iter());
    let longest = waits.iter().copied().fold(0.0, f64::max);
    let wait = median(waits.into_iter());
    for (name, wait) in [
        ("a change of protection while eight threads read the region, median wait", wait),
        ("the longest such wait", longest),
    ] {
        let subjects = [(Role::Ours, "execmem", &[wait][..]), (Role::Limit, "one read of 1 MiB", &[read])];
        row(TABLE, name, Unit::Nanoseconds, &subjects).print();
    }
}
