//! Darwin's error numbers in the contract's words.

use execmem_core::Error;
use mach2::kern_return::*;

/// The number of the thread's last failed system call.
pub(crate) fn number() -> i32 {
    // SAFETY: the location is the calling thread's own.
    unsafe { *libc::__error() }
}

/// Where the thread's number is: every thread has a place of its own.
pub(crate) fn place() -> usize {
    // SAFETY: asks for an address.
    unsafe { libc::__error() }.addr()
}

/// Runs `work` and puts the caller's `errno` back.
pub(crate) fn preserved<R>(work: impl FnOnce() -> R) -> R {
    let before = number();
    let result = work();
    // SAFETY: the location is the calling thread's own.
    unsafe { *libc::__error() = before };
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
        // EOPNOTSUPP: the file is a socket.
        libc::EISDIR | libc::ENXIO | libc::ENODEV | libc::EOPNOTSUPP => Error::NotRegularFile,
        libc::EIO | libc::EFAULT | libc::EBUSY | libc::EOVERFLOW => Error::Io,
        libc::ENOSYS | libc::ENOTSUP => Error::Unsupported,
        _ => Error::InvalidArgument,
    }
}

/// The thread's last error, translated.
pub(crate) fn last() -> Error {
    translate(number())
}

/// For calls that answer 0 or -1.
pub(crate) fn check(result: i32) -> Result<(), Error> {
    if result == 0 { Ok(()) } else { Err(last()) }
}

/// For Mach calls, which answer with a number of their own and leave `errno` alone.
pub(crate) fn check_mach(result: kern_return_t) -> Result<(), Error> {
    Err(match result {
        KERN_SUCCESS => return Ok(()),
        KERN_NO_SPACE | KERN_RESOURCE_SHORTAGE => Error::NoMemory,
        KERN_PROTECTION_FAILURE | KERN_NO_ACCESS | KERN_CODESIGN_ERROR | KERN_DENIED => Error::Refused,
        KERN_INVALID_ADDRESS | KERN_MEMORY_FAILURE | KERN_MEMORY_ERROR => Error::Io,
        KERN_NOT_SUPPORTED => Error::Unsupported,
        _ => Error::InvalidArgument,
    })
}
