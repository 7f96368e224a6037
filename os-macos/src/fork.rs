//! Forking: the core is told before and after, and the parent waits for the child's copy.
//!
//! `vfork` and `posix_spawn` run none of this: their child shares everything until it executes another
//! program. What is registered here Darwin never forgets, so the library must not be unloaded (`dlclose`).

use crate::RUNTIME;
use crate::errno::{preserved, retried};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use libc::c_int;

/// Both ends of the pipe on which the parent waits; -1: none.
static READ_END: AtomicI32 = AtomicI32::new(-1);
static WRITE_END: AtomicI32 = AtomicI32::new(-1);

/// Asks the C library to call us around forks; once is enough.
pub(crate) fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.load(Ordering::Relaxed) && !WATCHED.swap(true, Ordering::Relaxed) {
        // SAFETY: the functions fit. Without memory for it, forks go unnoticed: the child shares dual memory.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    }
}

extern "C" fn prepare() {
    if RUNTIME.before_fork() {
        let mut ends = [-1; 2];
        // SAFETY: room for two numbers; both are closed on exec. Without a pipe the parent doesn't wait.
        preserved(|| unsafe {
            if libc::pipe(ends.as_mut_ptr()) == 0 {
                libc::ioctl(ends[0], libc::FIOCLEX);
                libc::ioctl(ends[1], libc::FIOCLEX);
            }
        });
        READ_END.store(ends[0], Ordering::Relaxed);
        WRITE_END.store(ends[1], Ordering::Relaxed);
    }
}

/// Nothing is written to dual memory before the child has its copy: it says so, or dies.
extern "C" fn parent() {
    close(&WRITE_END);
    let end = READ_END.load(Ordering::Relaxed);
    if end >= 0 {
        let mut byte = 0u8;
        // SAFETY: room for a byte. Without one this ends when no process has the other end any more.
        let _ = preserved(|| retried(|| unsafe { libc::read(end, (&raw mut byte).cast(), 1) }));
    }
    close(&READ_END);
    // SAFETY: `prepare` ran in this thread.
    unsafe { RUNTIME.after_fork_in_parent() };
}

/// A byte, not the end of the pipe, tells the parent: another thread may have started a program before the
/// ends were marked to be closed on exec, and that program has them for as long as it runs.
extern "C" fn child() {
    // SAFETY: `prepare` ran in the thread that this one is the copy of; a child has one thread.
    preserved(|| unsafe { RUNTIME.after_fork_in_child() });
    let end = WRITE_END.load(Ordering::Relaxed);
    if end >= 0 {
        // SAFETY: a byte is readable. Our own reading end is open still, so no signal says that nobody reads.
        let _ = preserved(|| retried(|| unsafe { libc::write(end, [0u8].as_ptr().cast(), 1) }));
    }
    close(&WRITE_END);
    close(&READ_END);
}

fn close(end: &AtomicI32) {
    let file: c_int = end.swap(-1, Ordering::Relaxed);
    if file >= 0 {
        // SAFETY: the pipe is ours.
        preserved(|| unsafe { libc::close(file) });
    }
}
