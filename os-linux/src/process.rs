//! How a thread waits for another one: by `futex(2)`.

use core::ptr;
use core::sync::atomic::AtomicUsize;
use execmem_core::unix::errno::preserved;

/// Sleeps while a word has a value.
pub(crate) fn sleep(word: &AtomicUsize, value: usize) {
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let no_limit = ptr::null::<libc::timespec>();
    // SAFETY: the word is borrowed for longer than the kernel reads it; what ends the sleep doesn't matter.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, no_limit) };
}

/// Wakes one thread that sleeps for a word, or all.
pub(crate) fn wake(word: &AtomicUsize, everybody: bool) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let most = if everybody { i32::MAX } else { 1 };
    // SAFETY: the kernel only compares the word's address with those that threads sleep for (futex(2)).
    preserved(|| unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, most) });
}
