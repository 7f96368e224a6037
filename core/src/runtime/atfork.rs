//! What an adapter's handlers around a fork have in common.

use super::Runtime;
use crate::platform::{Platform, Turn};
use core::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

/// Which thread holds all locks for a fork. Handlers of the program's own may run in it between ours, and call the
/// library.
pub struct AtFork {
    /// A number of that thread's own, which its copy in the child has too; 0: none.
    thread: AtomicUsize,
    /// The process that it is in, before the fork.
    process: AtomicI32,
}

impl AtFork {
    /// Nobody forks.
    #[expect(clippy::new_without_default, reason = "it exists in a static")]
    pub const fn new() -> Self {
        Self { thread: AtomicUsize::new(0), process: AtomicI32::new(0) }
    }

    /// The handler before a fork. `thread`: a number of the calling thread's own, not 0, that its copy in the child
    /// has too, such as the address of its `errno`. `process`: the process's number.
    ///
    /// # Safety
    /// The numbers are what is said; this thread forks next, or says that it could not.
    pub unsafe fn before<P: Platform>(&self, runtime: &Runtime<P>, thread: usize, process: i32) {
        runtime.before_fork();
        self.process.store(process, Ordering::Relaxed);
        self.thread.store(thread, Ordering::Release);
    }

    /// The handler after a fork in the parent, or after one that failed.
    ///
    /// # Safety
    /// The thread that called [`before`](Self::before) calls it.
    pub unsafe fn in_parent<P: Platform>(&self, runtime: &Runtime<P>) {
        if self.thread.swap(0, Ordering::AcqRel) != 0 {
            // SAFETY: the caller says that this thread called `before`, which the number that was there confirms.
            unsafe { runtime.after_fork_in_parent() };
        }
    }

    /// The handler after a fork in the child. Whoever finds out first that this is a child may have done it already.
    ///
    /// # Safety
    /// The copy of the thread that called [`before`](Self::before) calls it, in the child.
    pub unsafe fn in_child<P: Platform>(&self, runtime: &Runtime<P>) {
        if self.thread.swap(0, Ordering::AcqRel) != 0 {
            // SAFETY: the caller says that this is the copy of the thread that called `before`. A child has no other one,
            // and whatever needs a lock leads here first.
            unsafe { runtime.after_fork_in_child() };
        }
    }

    /// What a thread does that is about to wait, if it must not: it is the one that forks, and another handler of
    /// its fork is asking. In the parent it goes on under its own locks; in the child it does first what our
    /// handler would do later.
    ///
    /// # Safety
    /// `thread` and `process` are as for [`before`](Self::before).
    pub unsafe fn turn<P: Platform>(
        &self,
        runtime: &Runtime<P>,
        thread: usize,
        process: impl FnOnce() -> i32,
    ) -> Option<Turn> {
        if self.thread.load(Ordering::Acquire) != thread {
            return None;
        }
        if process() == self.process.load(Ordering::Relaxed) {
            return Some(Turn::HeldForFork);
        }
        // SAFETY: this thread has the number of the one that called `before`, which the caller says is its own and
        // its copy's, in another process.
        unsafe { self.in_child(runtime) };
        Some(Turn::Again)
    }
}
