//! System calls' error numbers, and the contract's words for them.

use crate::Error;

/// Where the calling thread's number is: every thread has a place of its own.
#[cfg(target_os = "linux")]
#[inline]
fn location() -> *mut i32 {
    // SAFETY: has no preconditions (errno(3)).
    unsafe { libc::__errno_location() }
}

/// Where the calling thread's number is: every thread has a place of its own.
#[cfg(not(target_os = "linux"))]
#[inline]
fn location() -> *mut i32 {
    // SAFETY: has no preconditions (sys/errno.h).
    unsafe { libc::__error() }
}

/// The number of the thread's last failed system call.
pub fn number() -> i32 {
    // SAFETY: the C library gives the calling thread's own place, which lasts as long as the thread.
    unsafe { *location() }
}

/// As [`Process::thread`](crate::platform::Process::thread).
#[inline]
pub fn thread() -> usize {
    location().addr()
}

/// Runs `work` and puts the caller's `errno` back: lookups may run in a signal handler.
pub fn preserved<R>(work: impl FnOnce() -> R) -> R {
    let before = number();
    let result = work();
    // SAFETY: the C library gives the calling thread's own place, which lasts as long as the thread.
    unsafe { *location() = before };
    result
}

/// No call is interrupted so often in a row by signals: a filter that always says so must not hang us.
const MOST_INTERRUPTIONS: usize = 1 << 16;

/// Runs a system call again when a signal interrupts it. Negative results are errors.
pub fn retried(mut call: impl FnMut() -> isize) -> Result<usize, i32> {
    for _ in 0..MOST_INTERRUPTIONS {
        let result = call();
        if result >= 0 {
            return Ok(result as usize);
        }
        match number() {
            libc::EINTR => {}
            error => return Err(error),
        }
    }
    Err(libc::EINTR)
}

/// Makes a system call that answers 0 or -1.
pub fn check(mut call: impl FnMut() -> i32) -> Result<(), Error> {
    retried(|| call() as isize).map(drop).map_err(translate)
}

/// What a caller can act on. Numbers as in the manual pages of the calls that adapters make.
pub fn translate(number: i32) -> Error {
    match number {
        libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EAGAIN | libc::ENOBUFS => {
            Error::NoMemory
        }
        libc::EACCES | libc::EPERM | libc::EROFS | libc::ETXTBSY => Error::Refused,
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => Error::NotFound,
        libc::EISDIR | libc::ENXIO | libc::ENODEV => Error::NotRegularFile,
        libc::EIO | libc::EFAULT | libc::EBUSY | libc::EOVERFLOW | libc::EINTR => Error::Io,
        libc::ENOSYS | libc::ENOTSUP => Error::Unsupported,
        // The file is a socket (open(2)). On Linux that is ENXIO, and this number is ENOTSUP's.
        #[cfg(not(target_os = "linux"))]
        libc::EOPNOTSUPP => Error::NotRegularFile,
        _ => Error::InvalidArgument,
    }
}
