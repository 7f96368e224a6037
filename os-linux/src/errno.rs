//! Linux's error numbers in the contract's words.

use execmem_core::Error;

/// The number of the thread's last failed system call.
pub(crate) fn number() -> i32 {
    // SAFETY: the location is the calling thread's own.
    unsafe { *libc::__errno_location() }
}

/// Where the thread's number is: every thread has a place of its own.
pub(crate) fn place() -> usize {
    // SAFETY: asks for an address.
    unsafe { libc::__errno_location() }.addr()
}

/// Runs `work` and puts the caller's `errno` back: lookups may run in a signal handler.
pub(crate) fn preserved<R>(work: impl FnOnce() -> R) -> R {
    let before = number();
    let result = work();
    // SAFETY: the location is the calling thread's own.
    unsafe { *libc::__errno_location() = before };
    result
}

/// Runs a system call again for as long as a signal interrupts it. Negative results are errors.
pub(crate) fn retried(mut call: impl FnMut() -> isize) -> Result<usize, i32> {
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result as usize);
        }
        match number() {
            libc::EINTR => {}
            error => return Err(error),
        }
    }
}

/// What a caller can act on. Numbers as in the manual pages of the calls that we make.
pub(crate) fn translate(number: i32) -> Error {
    match number {
        libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EAGAIN | libc::ENOBUFS => {
            Error::NoMemory
        }
        libc::EACCES | libc::EPERM | libc::EROFS | libc::ETXTBSY => Error::Refused,
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG => Error::NotFound,
        libc::EISDIR | libc::ENXIO | libc::ENODEV => Error::NotRegularFile,
        libc::EIO | libc::EFAULT | libc::EBUSY | libc::EOVERFLOW => Error::Io,
        libc::ENOSYS | libc::EOPNOTSUPP => Error::Unsupported,
        _ => Error::InvalidArgument,
    }
}

/// Makes a system call that answers 0 or -1.
pub(crate) fn check(mut call: impl FnMut() -> i32) -> Result<(), Error> {
    retried(|| call() as isize).map(drop).map_err(translate)
}
