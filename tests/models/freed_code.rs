//! Publication beside unmaps, by the cross-core steps: who gets an address that was unmapped has told every core before
//! it can run there.
//!
//! fault "unmaps are not counted" in space/freed_code.rs
//! - self.unmapping.fetch_add(1, Ordering::SeqCst)
//! + self.unmapping.fetch_add(0, Ordering::SeqCst)
//!
//! fault "an unmap is over Relaxed" in space/freed_code.rs
//! - self.unmapping.fetch_sub(1, Ordering::SeqCst)
//! + self.unmapping.fetch_sub(1, Ordering::Relaxed)
//!
//! fault "a step that may have started is enough" in space/freed_code.rs
//! - self.started.load(Ordering::Acquire) + 1
//! + self.started.load(Ordering::Acquire)
//!
//! fault "a step has finished before it was made" in space/freed_code.rs
//! - platform.synchronize_cores()?
//! + { self.finished.fetch_max(step, Ordering::AcqRel); platform.synchronize_cores()? }
//!
//! fault "whether pages are being unmapped is read Relaxed" in space/freed_code.rs
//! - self.unmapping.load(Ordering::SeqCst) > 0
//! + self.unmapping.load(Ordering::Relaxed) > 0

extern crate std;

use super::FreedCode;
use crate::models::{CORE, FETCHED, MAPPED, System};
use crate::sync::{Ordering, explore};
use std::boxed::Box;

/// Another core fetches what is at the address, while there is something.
fn fetch() {
    let _ = CORE.compare_exchange(MAPPED, MAPPED | FETCHED, Ordering::SeqCst, Ordering::SeqCst);
}

/// The address is free: publishes what was put there. Nothing older may be left in the core.
fn publish(freed_code: &FreedCode) {
    if CORE.load(Ordering::SeqCst) & MAPPED == 0 {
        freed_code.drop_fetched(false, System).unwrap();
        assert_eq!(CORE.load(Ordering::SeqCst), 0, "a core has code left that was there before");
    }
}

#[test]
fn who_publishes_at_an_address_that_was_unmapped_finds_no_core_with_older_code() {
    explore(3, || {
        let freed_code: &'static FreedCode = Box::leak(Box::new(FreedCode::new()));
        freed_code.forget_threads();
        assert!(freed_code.next_step() <= 1);
        freed_code.drop_fetched(false, System).unwrap();
        CORE.store(MAPPED, Ordering::SeqCst);
        let stepping = loom::thread::spawn(move || freed_code.drop_fetched(true, System).unwrap());
        let unmapping = loom::thread::spawn(move || {
            fetch();
            let unmap = || Ok(CORE.fetch_and(!MAPPED, Ordering::SeqCst));
            freed_code.unmap(true, unmap).unwrap();
        });
        publish(freed_code);
        publish(freed_code);
        stepping.join().unwrap();
        unmapping.join().unwrap();
        publish(freed_code);
    });
}
