//! Forking: the core is told before and after.
//!
//! We ask for that as soon as the library is loaded: the C library calls whoever asked first last before a fork
//! and first after it. Others may have asked still earlier, and call the library in between, in the thread that
//! forks and holds all locks: see [`wait`].
//!
//! `vfork`, `posix_spawn` and a raw `clone` run none of this: their child shares dual memory with its parent, so it
//! must not write to any before it executes another program.

use crate::RUNTIME;
use crate::errno::{self, preserved};
use crate::{cores, mappings};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use execmem_core::AtFork;
use execmem_core::platform::Turn;

/// Runs when the library is loaded, before the program's own code.
#[used]
#[unsafe(link_section = ".init_array")]
static WATCH: extern "C" fn() = watch;

/// Asks the C library to call us around forks; once is enough.
pub(crate) extern "C" fn watch() {
    static WATCHED: AtomicBool = AtomicBool::new(false);
    if !WATCHED.load(Ordering::Relaxed) && !WATCHED.swap(true, Ordering::Relaxed) {
        cores::find_variable();
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
    mappings::forget_parent();
    // SAFETY: the C library calls it in the copy of the thread that forked, after `prepare`.
    preserved(|| unsafe { AT_FORK.in_child(&RUNTIME) });
}

/// Sleeps while a word has a value. The thread that forks waits for nobody.
pub(crate) fn wait(word: &AtomicU32, value: u32) -> Turn {
    // SAFETY: the numbers are as in `prepare`.
    if let Some(turn) = unsafe { AT_FORK.turn(&RUNTIME, errno::place(), process) } {
        return turn;
    }
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: reads the word, and sleeps at most; what ends the sleep doesn't matter.
    preserved(|| unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, core::ptr::null::<libc::timespec>())
    });
    Turn::Again
}

/// Wakes one thread that sleeps for a word, or all.
pub(crate) fn wake(word: &AtomicU32, everybody: bool) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    let most = if everybody { i32::MAX } else { 1 };
    // SAFETY: the word's address is a name here; nothing is read.
    preserved(|| unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, most) });
}
