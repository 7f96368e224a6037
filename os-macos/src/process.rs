//! How a thread waits for another one: by naps.

use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};

/// So long a thread sleeps before it looks again: Darwin's calls that wait for a word are not public before macOS
/// 14.4.
const NAP: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };

/// Sleeps a moment if a word has a value.
pub(crate) fn sleep(word: &AtomicUsize, value: usize) {
    if word.load(Ordering::Acquire) == value {
        // SAFETY: the time is a constant, and nothing is written where no address is given (nanosleep(2)). What ends
        // the sleep doesn't matter.
        unsafe { libc::nanosleep(&NAP, ptr::null_mut()) };
    }
}
