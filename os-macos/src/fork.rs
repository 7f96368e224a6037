//! Forking: the core is told before and after.
//!
//! We ask for that as soon as the library is loaded: the C library calls whoever asked first last before a fork
//! and first after it. Others may have asked still earlier, and call the library in between, in the thread that
//! forks and holds all locks: see [`wait`].
//!
//! `vfork` and `posix_spawn` run none of this: their child shares dual memory with its parent, so it must not write to
//! any before it executes another program. What is registered here Darwin never forgets, so the library must not be
//! unloaded (`dlclose`).

use crate::RUNTIME;
use crate::errno::{self, preserved};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use execmem_core::AtFork;
use execmem_core::platform::Turn;

/// Runs when the library is loaded, before the program's own code.
#[used]
#[unsafe(link_section = "__DATA,__mod_init_func,mod_init_funcs")]
static WATCH: extern "C" fn() = watch;

/// Asks the C library to call us around forks; once is enough.
pub(crate) extern "C" fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.load(Ordering::Relaxed) && !WATCHED.swap(true, Ordering::Relaxed) {
        // SAFETY: the functions fit. Without memory for it, forks go unnoticed: the child shares dual memory.
        unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
    }
}

static AT_FORK: AtFork = AtFork::new();

fn process() -> i32 {
    // SAFETY: asks for a number.
    unsafe { libc::getpid() }
}

extern "C" fn prepare() {
    // SAFETY: the place is this thread's own, and its copy's; the C library forks next.
    preserved(|| unsafe { AT_FORK.before(&RUNTIME, errno::place(), process()) });
}

extern "C" fn parent() {
    // SAFETY: the C library calls it in the thread that forked, after `prepare`.
    preserved(|| unsafe { AT_FORK.in_parent(&RUNTIME) });
}

extern "C" fn child() {
    // SAFETY: the C library calls it in the copy of the thread that forked, after `prepare`.
    preserved(|| unsafe { AT_FORK.in_child(&RUNTIME) });
}

/// So long a thread sleeps before it looks again: Darwin's calls that wait for a word are not public before macOS
/// 14.4.
const NAP: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };

/// Sleeps a moment if a word has a value. The thread that forks waits for nobody.
pub(crate) fn wait(word: &AtomicU32, value: u32) -> Turn {
    // SAFETY: the numbers are as in `prepare`.
    if let Some(turn) = unsafe { AT_FORK.turn(&RUNTIME, errno::place(), process) } {
        return turn;
    }
    if word.load(Ordering::Acquire) == value {
        // SAFETY: reads the time; what ends the sleep doesn't matter.
        preserved(|| unsafe { libc::nanosleep(&NAP, ptr::null_mut()) });
    }
    Turn::Again
}
