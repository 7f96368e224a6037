//! How a thread waits for another one: by `futex(2)`; and how it writes without being ended for it.

use core::ffi::c_int;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::AtomicUsize;
use execmem_core::unix;
use execmem_core::unix::errno::preserved;

/// From `bits/pthread.h`, and musl's `pthread.h`.
const CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// Runs `work`, in which a thread that is cancelled (pthread_cancel(3)) goes on: it would leave behind what it holds.
pub(crate) fn uncancelled<R>(work: impl FnOnce() -> R) -> R {
    let mut before = 0;
    // SAFETY: the number is there to be written.
    unsafe { pthread_setcancelstate(CANCEL_DISABLE, &mut before) };
    let result = work();
    // SAFETY: the same; the state is the one that was found.
    unsafe { pthread_setcancelstate(before, &mut 0) };
    result
}

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

/// Writes a line to stderr.
pub(crate) fn print(line: &[u8]) {
    unharmed(|| unix::process::print(line));
}

/// Runs what writes to a file. Where that is at the limit of its size, or a pipe that nobody reads any more, the
/// kernel sends this thread a signal, which by default ends the process: none of those is left that came of this.
pub(crate) fn unharmed<R>(write: impl FnOnce() -> R) -> R {
    preserved(|| {
        let [mut ours, mut before, mut waiting] = [MaybeUninit::<libc::sigset_t>::zeroed(); 3];
        // SAFETY: the sets are there to be written, and zeros are one that is empty. Signals are held back from this thread alone, as long as it writes (pthread_sigmask(3), sigpending(2)).
        let (ours, before, waiting) = unsafe {
            libc::sigemptyset(ours.as_mut_ptr());
            libc::sigemptyset(waiting.as_mut_ptr());
            for signal in [libc::SIGXFSZ, libc::SIGPIPE] {
                libc::sigaddset(ours.as_mut_ptr(), signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, ours.as_ptr(), before.as_mut_ptr());
            libc::sigpending(waiting.as_mut_ptr());
            (ours.assume_init(), before.assume_init(), waiting.assume_init())
        };
        let result = write();
        for signal in [libc::SIGXFSZ, libc::SIGPIPE] {
            // SAFETY: sets that were made above. One that waited before was not sent for this; of one that was, this
            // thread is the receiver (signal(7)).
            unsafe {
                let mut one = ours;
                libc::sigemptyset(&mut one);
                libc::sigaddset(&mut one, signal);
                let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                if libc::sigismember(&waiting, signal) == 0 {
                    libc::sigtimedwait(&one, ptr::null_mut(), &at_once);
                }
            }
        }
        // SAFETY: the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut()) };
        result
    })
}
