//! The little that the core needs of the process around it.

use crate::error::Error;
use crate::span::Span;
use crate::sync::AtomicUsize;
use core::ffi::CStr;

/// What a thread that waits for another one does next: see [`Process::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Looks again.
    Again,
    /// Goes on: this thread holds all locks itself, for a fork that is under way.
    HeldForFork,
}

/// What those who look at a program from outside, or unwind it, can be told of code: see [`Process::announce`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About<'a> {
    /// Its name, of one byte at least and without a NUL.
    Name(&'a [u8]),
    /// How it is unwound: where records are in the format of `.eh_frame`, which end with a word of zeros.
    Frames(Span),
}

/// What the core needs of the process around it.
///
/// # Safety
/// [`wait`](Process::wait) says [`Turn::HeldForFork`] only in a thread that has called
/// [`Runtime::before_fork`](crate::Runtime), which said yes, and not yet the method that follows it.
pub unsafe trait Process: Copy + Send + Sync + 'static {
    /// Whether processes of the system can fork. Where they can't, nothing of what that takes is linked.
    const CAN_FORK: bool = true;

    /// The value of an environment variable, if the system has such a thing.
    fn environment(self, name: &CStr) -> Option<&'static CStr> {
        let _ = name;
        None
    }

    /// A number of the calling thread: a multiple of 4 that no other thread of the process has, and that its copy in a
    /// forked child keeps. The default is for systems that can't fork.
    fn thread(self) -> usize {
        0
    }

    /// Sleeps while `word` has `value`, until [`wake`](Self::wake) is called for it. May return at any time: the
    /// caller looks again. Of the word, its low half may be all that is compared. The default only passes a moment.
    ///
    /// A thread that holds all locks for a fork, or its copy in the child, never sleeps here. In the child, an
    /// adapter first lets the core know of the fork ([`Runtime::after_fork_in_child`](crate::Runtime)), if that was
    /// not done yet: who waits may be another handler of the fork's.
    fn wait(self, word: &AtomicUsize, value: usize) -> Turn {
        let _ = (word, value);
        core::hint::spin_loop();
        Turn::Again
    }

    /// Wakes one thread that sleeps for `word`, or everybody who does.
    fn wake(self, word: &AtomicUsize, everybody: bool) {
        let _ = (word, everybody);
    }

    /// Tells those who listen something about code: debuggers, profilers, unwinders. What was said of the same kind
    /// about bytes of it goes. With nobody listening it does nothing. The default is for systems where nobody can.
    ///
    /// # Safety
    /// Records of [`About::Frames`] are whole, and stay as they are until they go.
    unsafe fn announce(self, code: Span, about: About<'_>) -> Result<(), Error> {
        let _ = (code, about);
        Err(Error::Unsupported)
    }

    /// Whether [`announce`](Self::announce) takes [`About::Frames`].
    fn can_unwind(self) -> bool {
        false
    }

    /// Whether anybody was told anything of any code.
    fn has_announced(self) -> bool {
        false
    }

    /// Takes back what was said about bytes of this code, and calls `end` once, which ends the code; if that says that it
    /// could not, all is said again.
    fn while_retracted(self, code: Span, end: &mut dyn FnMut() -> bool) {
        let _ = code;
        end();
    }

    /// In a forked child, which does not have this code: what was said about it goes. The child's other handlers, those of an
    /// allocator too, may not have run yet.
    fn forget_announced(self, code: Span) {
        let _ = code;
    }

    /// Shows a line of text to people: stderr, or the console.
    fn print(self, line: &[u8]);

    /// Sets the calling thread's cell for the last error.
    fn set_last_error(self, code: i32);

    /// The calling thread's cell; 0 before the first failure.
    fn last_error(self) -> i32;
}
