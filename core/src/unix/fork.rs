//! Forking: the core is told before and after.
//!
//! An adapter asks for that as soon as the library is loaded: the C library calls whoever asked first last before a
//! fork and first after it. Others may have asked still earlier, and call the library in between, in the thread that
//! forks and holds all locks: see [`Forks::wait`].
//!
//! `vfork`, `posix_spawn` and a raw `clone` run none of this, and in a signal handler that interrupted a call of the
//! library which had a lock it does nothing: their child shares dual memory with its parent, and locks may never come
//! free, so it must not write or call the library before it executes another program. What is registered here Darwin
//! never forgets, so there the library must not be unloaded (`dlclose`).

use super::errno::{preserved, thread};
use crate::Runtime;
use crate::platform::{Platform, Turn};
use crate::sync::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

/// A platform whose processes fork.
pub trait Forking: Platform {
    /// The forks of this process.
    fn forks() -> &'static Forks<Self>;

    /// What a child has to do before anything else.
    fn forget_parent() {}

    /// What the adapter tells others, if it does.
    #[cfg(target_os = "linux")]
    fn listeners() -> &'static super::listeners::Listeners<Self>;
}

/// The forks of a process that has a runtime.
pub struct Forks<P: Platform> {
    runtime: &'static Runtime<P>,
    is_watched: AtomicBool,
    /// The number of the thread that holds all locks for a fork, which its copy in the child has too; 0: none.
    thread: AtomicUsize,
    /// The process that it is in, before the fork.
    process: AtomicI32,
    /// How many more forks that thread has begun since, in a handler of the program's own.
    inner: AtomicUsize,
}

impl<P: Forking> Forks<P> {
    /// Forks that are not watched yet.
    pub const fn new(runtime: &'static Runtime<P>) -> Self {
        Self {
            runtime,
            is_watched: AtomicBool::new(false),
            thread: AtomicUsize::new(0),
            process: AtomicI32::new(0),
            inner: AtomicUsize::new(0),
        }
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
    /// that forks must not: another handler of its fork is asking. In the parent it goes on under its own locks; in
    /// the child it does first what our handler would do later.
    pub fn wait(&self, sleep: impl FnOnce()) -> Turn {
        if !self.is_in_this_thread() {
            preserved(sleep);
            return Turn::Again;
        }
        if process() == self.process.load(Ordering::Relaxed) {
            return Turn::HeldForFork;
        }
        // SAFETY: this thread has the number of the one that ran `prepare`, in another process: it is its copy.
        unsafe { self.in_child() };
        Turn::Again
    }

    /// Whether this thread, or the one that it is the copy of, holds all locks for a fork.
    fn is_in_this_thread(&self) -> bool {
        self.thread.load(Ordering::Acquire) == thread()
    }

    fn before(&self) {
        if self.is_in_this_thread() {
            if process() == self.process.load(Ordering::Relaxed) {
                self.inner.fetch_add(1, Ordering::Relaxed);
                return;
            }
            // SAFETY: as in `wait`.
            unsafe { self.in_child() };
        }
        #[cfg(target_os = "linux")]
        if P::listeners().is_own() {
            return;
        }
        if self.runtime.before_fork() {
            #[cfg(target_os = "linux")]
            P::listeners().lock_for_fork();
            self.process.store(process(), Ordering::Relaxed);
            self.thread.store(thread(), Ordering::Release);
        }
    }

    /// # Safety
    /// This thread has run [`before`](Self::before), and has forked or could not.
    unsafe fn in_parent(&self) {
        if !self.is_in_this_thread() {
            return;
        }
        if process() != self.process.load(Ordering::Relaxed) {
            // A child's handler has forked before ours ran. musl calls some handlers then, and not ours, before that
            // fork, and all of them after it.
            // SAFETY: as in `wait`.
            return unsafe { self.in_child() };
        }
        match self.inner.load(Ordering::Relaxed).checked_sub(1) {
            Some(rest) => self.inner.store(rest, Ordering::Relaxed),
            None => {
                self.thread.store(0, Ordering::Release);
                // SAFETY: the caller's promise, and `before` took the locks for the fork that this is.
                unsafe {
                    #[cfg(target_os = "linux")]
                    P::listeners().unlock_after_fork();
                    self.runtime.after_fork_in_parent();
                }
            }
        }
    }

    /// Whoever finds out first that this is a child does this once.
    ///
    /// # Safety
    /// This thread is the copy, in the child, of one that ran [`before`](Self::before).
    unsafe fn in_child(&self) {
        if self.is_in_this_thread() {
            self.inner.store(0, Ordering::Relaxed);
            self.thread.store(0, Ordering::Release);
            // SAFETY: the caller's promise, and `before` took the locks. A child has one thread, and whatever needs a
            // lock leads here first.
            unsafe {
                #[cfg(target_os = "linux")]
                P::listeners().unlock_after_fork();
                self.runtime.after_fork_in_child();
            }
        }
    }
}

fn process() -> i32 {
    // SAFETY: has no preconditions (getpid(2)).
    unsafe { libc::getpid() }
}

extern "C" fn prepare<P: Forking>() {
    preserved(|| P::forks().before());
}

extern "C" fn parent<P: Forking>() {
    // SAFETY: the C library calls this in the thread that forked, or could not, after `prepare`.
    preserved(|| unsafe { P::forks().in_parent() });
}

extern "C" fn child<P: Forking>() {
    P::forget_parent();
    // SAFETY: the C library calls this in the copy of the thread that forked, after `prepare`.
    preserved(|| unsafe { P::forks().in_child() });
}
