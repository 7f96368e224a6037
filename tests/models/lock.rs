//! The lock: its holder is alone, sees what the last one did, and wakes who sleeps.
//!
//! fault "unlocking is Relaxed" in lock.rs
//! - self.state.swap(FREE, Ordering::Release)
//! + self.state.swap(FREE, Ordering::Relaxed)
//!
//! fault "locking is Relaxed" in lock.rs
//! - self.state.compare_exchange(seen, state, Ordering::Acquire, Ordering::Relaxed)
//! + self.state.compare_exchange(seen, state, Ordering::Relaxed, Ordering::Relaxed)
//!
//! fault "who has slept forgets the others" in lock.rs
//! - if seen == FREE { platform.thread() | HELD } else { seen } | CONTENDED
//! + if seen == FREE { platform.thread() | HELD } else { seen | CONTENDED }

extern crate std;

use super::Lock;
use crate::models::System;
use crate::sync::{AtomicUsize, Ordering, explore};
use std::boxed::Box;

#[test]
fn holders_come_one_after_another_and_nobody_sleeps_for_ever() {
    explore(2, || {
        let lock: &'static Lock<AtomicUsize> = Box::leak(Box::new(Lock::new(AtomicUsize::new(0))));
        let visit = move || {
            let visits = lock.lock(System);
            visits.store(visits.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        };
        visit();
        let others = [(); 2].map(|()| loom::thread::spawn(visit));
        visit();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(lock.lock(System).load(Ordering::Relaxed), 4, "a visit was lost");
    });
}
