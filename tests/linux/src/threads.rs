//! Threads that work beside a test, and where a thread runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Ends when it is dropped, with the threads that look at it: also where a test panics.
pub struct Flag<'a>(pub &'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does `work` again and again in so many threads until `then` is done.
pub fn meanwhile<R>(threads: usize, work: impl Fn(usize) + Sync, then: impl FnOnce() -> R) -> R {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = Flag(&is_over);
        for number in 0..threads {
            let (work, is_over) = (&work, &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    work(number);
                }
            });
        }
        then()
    })
}

/// From now on this thread, and those that it starts, run on one core.
pub fn stay_on(core: usize) {
    // SAFETY: a set of cores of our own; a number outside of it would panic. Moves this thread only.
    unsafe {
        let mut only: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut only);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&only), &only), 0);
    }
}
