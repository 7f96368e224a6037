//! Forking: the core is told before and after.
//!
//! An adapter asks for that as soon as the library is loaded: the C library calls whoever asked first last before a
//! fork and first after it. Others may have asked still earlier, and call the library in between, in the thread that
//! forks and holds all locks: see [`Forks::wait`].
//!
//! `vfork`, `posix_spawn` and a raw `clone` run none of this: their child shares dual memory with its parent, so it
//! must not write to any before it executes another program. What is registered here Darwin never forgets, so there
//! the library must not be unloaded (`dlclose`).

use super::errno::{preserved, thread};
use crate::platform::{Platform, Turn};
use crate::{AtFork, Runtime};
use core::sync::atomic::{AtomicBool, Ordering};

/// A platform whose processes fork.
pub trait Forking: Platform {
    /// The forks of this process.
    fn forks() -> &'static Forks<Self>;

    /// What a child has to do before anything else.
    fn forget_parent() {}
}

/// The forks of a process that has a runtime.
pub struct Forks<P: Platform> {
    runtime: &'static Runtime<P>,
    at_fork: AtFork,
    is_watched: AtomicBool,
}

impl<P: Forking> Forks<P> {
    /// Forks that are not watched yet.
    pub const fn new(runtime: &'static Runtime<P>) -> Self {
        Self { runtime, at_fork: AtFork::new(), is_watched: AtomicBool::new(false) }
    }

    /// Asks the C library to call us around forks; once is enough. Whether this was the first time.
    pub fn watch(&self) -> bool {
        let is_first =
            !self.is_watched.load(Ordering::Relaxed) && !self.is_watched.swap(true, Ordering::Relaxed);
        if is_first {
            // SAFETY: the functions are there for as long as they may be called: glibc forgets them when it unloads
            // the library, musl unloads nothing, and on Darwin the program must not do it. Without memory for it,
            // forks go unnoticed: the child shares dual memory.
            unsafe { libc::pthread_atfork(Some(prepare::<P>), Some(parent::<P>), Some(child::<P>)) };
        }
        is_first
    }

    /// As [`Process::wait`](crate::platform::Process::wait): `sleep` is what a thread does that may wait. The thread
    /// that forks waits for nobody.
    pub fn wait(&self, sleep: impl FnOnce()) -> Turn {
        // SAFETY: the numbers are those that `prepare` gives: this thread's, which its copy in the child keeps, and
        // this process's.
        if let Some(turn) = unsafe { self.at_fork.turn(self.runtime, thread(), process) } {
            return turn;
        }
        preserved(sleep);
        Turn::Again
    }
}

fn process() -> i32 {
    // SAFETY: has no preconditions (getpid(2)).
    unsafe { libc::getpid() }
}

extern "C" fn prepare<P: Forking>() {
    let Forks { runtime, at_fork, .. } = P::forks();
    // SAFETY: no other thread has this thread's number, and its copy in the child keeps it; the C library, which alone
    // calls this, forks next.
    preserved(|| unsafe { at_fork.before(runtime, thread(), process()) });
}

extern "C" fn parent<P: Forking>() {
    let Forks { runtime, at_fork, .. } = P::forks();
    // SAFETY: the C library calls this in the thread that forked, after `prepare`.
    preserved(|| unsafe { at_fork.in_parent(runtime) });
}

extern "C" fn child<P: Forking>() {
    P::forget_parent();
    let Forks { runtime, at_fork, .. } = P::forks();
    // SAFETY: the C library calls this in the copy of the thread that forked, after `prepare`.
    preserved(|| unsafe { at_fork.in_child(runtime) });
}
