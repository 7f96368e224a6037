//! A lock whose waiters sleep, and which a fork leaves in good order.
//!
//! A waiter looks a few more times, then sleeps in [`Process::wait`] until the holder wakes it: so a thread of
//! high priority lets the holder run, on one core too. The three states, free, held and contended, are those of
//! U. Drepper, "Futexes Are Tricky" (2011), section 6; the word also says who holds the lock.
//!
//! Around a fork one thread holds every lock ([`Lock::lock_for_fork`]). Handlers of the program's own that the C
//! library runs in that thread meanwhile may call this library: the thread goes through its own locks.

use crate::platform::{Platform, Turn};
use crate::sync::{AtomicUsize, Ordering};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

const FREE: usize = 0;
/// Beside the number of the thread that holds the lock.
const HELD: usize = 1;
/// Beside that: somebody may be sleeping.
const CONTENDED: usize = 2;

/// So many times a waiter looks before it sleeps: about as long as records are usually held.
pub(crate) const SPINS: usize = 100;

/// What it guards is used by one thread at a time.
pub(crate) struct Lock<T> {
    state: AtomicUsize,
    contents: UnsafeCell<T>,
}

// SAFETY: the contents are reached by the lock's holder alone.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(contents: T) -> Self {
        Self { state: AtomicUsize::new(FREE), contents: UnsafeCell::new(contents) }
    }

    // A kernel pays for each place where it stands; nobody else notices a call.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn lock<P: Platform>(&self, platform: P) -> Guard<'_, T, P> {
        match self.try_lock(platform) {
            Some(guard) => guard,
            None => self.wait(platform),
        }
    }

    #[inline]
    pub(crate) fn try_lock<P: Platform>(&self, platform: P) -> Option<Guard<'_, T, P>> {
        let is_taken = self.replace(FREE, platform.thread() | HELD);
        is_taken.then(|| Guard { lock: self, platform, is_for_fork: false })
    }

    #[inline]
    fn replace(&self, seen: usize, state: usize) -> bool {
        self.state.compare_exchange(seen, state, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether this thread holds the lock.
    pub(crate) fn is_own(&self, platform: impl Platform) -> bool {
        self.state.load(Ordering::Relaxed) & !CONTENDED == platform.thread() | HELD
    }

    #[cold]
    #[inline(never)]
    fn wait<P: Platform>(&self, platform: P) -> Guard<'_, T, P> {
        for _ in 0..SPINS {
            if self.state.load(Ordering::Relaxed) == FREE
                && let Some(guard) = self.try_lock(platform)
            {
                return guard;
            }
            core::hint::spin_loop();
        }
        loop {
            let seen = self.state.load(Ordering::Relaxed);
            // Others may be sleeping still when this thread gets the lock.
            let state = if seen == FREE { platform.thread() | HELD } else { seen } | CONTENDED;
            if seen != state && !self.replace(seen, state) {
                continue;
            }
            if seen == FREE {
                return Guard { lock: self, platform, is_for_fork: false };
            }
            if platform.wait(&self.state, state) == Turn::HeldForFork {
                return Guard { lock: self, platform, is_for_fork: true };
            }
        }
    }

    /// Takes the lock until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self, platform: impl Platform) {
        core::mem::forget(self.lock(platform));
    }

    /// What is guarded, for the thread that forks.
    ///
    /// # Safety
    /// This thread holds the lock by [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did,
    /// and has no other reference to the contents.
    #[expect(clippy::mut_from_ref, reason = "the lock is held")]
    pub(crate) unsafe fn held_for_fork(&self) -> &mut T {
        // SAFETY: the caller holds the lock, and has no other reference.
        unsafe { &mut *self.contents.get() }
    }

    /// # Safety
    /// This thread holds the lock by [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(crate) unsafe fn unlock_after_fork(&self, platform: impl Platform) {
        self.unlock(platform);
    }

    /// In a forked child, which has one thread: whoever held the lock is not here.
    pub(crate) fn void(&self) {
        self.state.store(FREE, Ordering::Relaxed);
    }

    #[cfg_attr(target_os = "none", inline(never))]
    fn unlock(&self, platform: impl Platform) {
        if self.state.swap(FREE, Ordering::Release) & CONTENDED != 0 {
            platform.wake(&self.state, false);
        }
    }
}

/// The right to use what a lock guards; dropping it gives it back.
pub(crate) struct Guard<'a, T, P: Platform> {
    lock: &'a Lock<T>,
    platform: P,
    /// Whether the thread holds the lock for a fork: then it is given back after the fork.
    is_for_fork: bool,
}

impl<T, P: Platform> Guard<'_, T, P> {
    /// Whether this thread holds the lock for a fork: other threads can't go on before it has forked.
    pub(crate) fn is_for_fork(&self) -> bool {
        self.is_for_fork
    }
}

impl<T, P: Platform> Deref for Guard<'_, T, P> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread holds the lock: it took it, or the platform says that it did for a fork, when it takes all
        // but those that guard nothing. It has no other guard of it in use.
        unsafe { &*self.lock.contents.get() }
    }
}

impl<T, P: Platform> DerefMut for Guard<'_, T, P> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as for `deref`, by the guard's own uniqueness.
        unsafe { &mut *self.lock.contents.get() }
    }
}

impl<T, P: Platform> Drop for Guard<'_, T, P> {
    fn drop(&mut self) {
        if !self.is_for_fork {
            self.lock.unlock(self.platform);
        }
    }
}
