//! Forking: the core is told before and after.
//!
//! We ask for that as soon as the library is loaded: the C library calls whoever asked first last before a fork and
//! first after it. Others may have asked still earlier, and call the library in between, in the thread that forks and
//! holds all locks: see [`wait`].
//!
//! `vfork` and `posix_spawn` run none of this: their child shares dual memory with its parent, so it must not write to
//! any before it executes another program. What is registered here Darwin never forgets, so the library must not be
//! unloaded (`dlclose`).

use crate::RUNTIME;
use crate::errno::{self, preserved};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicUsize, Ordering};
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

/// The thread that holds all locks for a fork, told apart by its place for `errno`, which its copy in the child has
/// too; 0: none.
static FORKING: AtomicUsize = AtomicUsize::new(0);
/// The process that it is in, before the fork.
static PROCESS: AtomicI32 = AtomicI32::new(0);

fn process() -> i32 {
    // SAFETY: asks for a number.
    unsafe { libc::getpid() }
}

extern "C" fn prepare() {
    preserved(|| RUNTIME.before_fork());
    PROCESS.store(process(), Ordering::Relaxed);
    FORKING.store(errno::place(), Ordering::Release);
}

extern "C" fn parent() {
    if FORKING.swap(0, Ordering::AcqRel) != 0 {
        // SAFETY: `prepare` ran in this thread, which is not in a child.
        preserved(|| unsafe { RUNTIME.after_fork_in_parent() });
    }
}

/// Also called by whoever finds out first that this is a child.
extern "C" fn child() {
    if FORKING.swap(0, Ordering::AcqRel) != 0 {
        // SAFETY: `prepare` ran in the thread that this one is the copy of, and a child has one thread.
        preserved(|| unsafe { RUNTIME.after_fork_in_child() });
    }
}

/// So long a thread sleeps before it looks again: Darwin's calls that wait for a word are not public before macOS 14.4.
const NAP: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 50_000 };

/// Sleeps a moment if a word has a value. The thread that forks waits for nobody: another handler of its fork is
/// asking. In the parent it goes on under its own locks; in the child it does first what our handler would do later.
pub(crate) fn wait(word: &AtomicU32, value: u32) -> Turn {
    if FORKING.load(Ordering::Acquire) == errno::place() {
        if process() == PROCESS.load(Ordering::Relaxed) {
            return Turn::HeldForFork;
        }
        child();
        return Turn::Again;
    }
    if word.load(Ordering::Acquire) == value {
        // SAFETY: reads the time; what ends the sleep doesn't matter.
        preserved(|| unsafe { libc::nanosleep(&NAP, ptr::null_mut()) });
    }
    Turn::Again
}
