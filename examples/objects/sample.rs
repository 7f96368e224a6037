//! The sample of the example run_object on macOS: what ordinary compiled code asks of a loader.
//!
//! `sample-macos-x86_64.o` and `sample-macos-aarch64.o` beside it were made from it with
//!
//!     rustc --edition 2024 -O -C panic=abort --target TARGET-apple-darwin --emit obj sample.rs -o FILE
#![no_std]
#![crate_type = "lib"]

use core::ffi::c_char;
use core::sync::atomic::{AtomicI64, Ordering};

unsafe extern "C" {
    fn strlen(text: *const c_char) -> usize;
    fn rt_get_page_size() -> i64;
}

/// Data: read and written.
static TOTAL: AtomicI64 = AtomicI64::new(1000);
/// Zeroed data.
static CALLS: AtomicI64 = AtomicI64::new(0);
/// Read-only once its pointers are relocated.
static STEPS: [(&core::ffi::CStr, fn(i64) -> i64); 3] =
    [(c"square", |n| n * n), (c"fibonacci", fibonacci), (c"negate", |n| -n)];

/// Recursion that stays one when optimised.
#[inline(never)]
fn fibonacci(n: i64) -> i64 {
    if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
}

/// Goes through the steps with a number; 2036 for the first call with 10.
#[unsafe(no_mangle)]
pub extern "C" fn sample(n: i64) -> i64 {
    CALLS.fetch_add(1, Ordering::Relaxed);
    for (name, step) in core::hint::black_box(&STEPS) {
        // SAFETY: the name is a C string.
        let length = unsafe { strlen(name.as_ptr()) } as i64;
        TOTAL.fetch_add(step(n) * length, Ordering::Relaxed);
    }
    // SAFETY: any program may ask.
    let has_pages = unsafe { rt_get_page_size() } >= 4096;
    TOTAL.load(Ordering::Relaxed) + CALLS.load(Ordering::Relaxed) * i64::from(has_pages)
}
