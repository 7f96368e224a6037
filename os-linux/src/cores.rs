//! Making other cores drop instructions that they have fetched: `membarrier(2)`.

use crate::errno::{last, number};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use execmem_core::Error;
use libc::c_int;

// linux/membarrier.h; since 4.16.
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: c_int = 1 << 6;
const PRIVATE_EXPEDITED_SYNC_CORE: c_int = 1 << 5;

/// Every running thread of this process executes a core-serialising instruction before it goes on.
/// The process registers itself when the kernel says that it has not (a fork's child inherits it).
pub(crate) fn synchronize() -> Result<(), Error> {
    if membarrier(PRIVATE_EXPEDITED_SYNC_CORE) == 0 {
        return Ok(());
    }
    if number() == libc::EPERM
        && membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE) == 0
        && membarrier(PRIVATE_EXPEDITED_SYNC_CORE) == 0
    {
        return Ok(());
    }
    match number() {
        // Kernels before 4.16, or built without it, say that the command is invalid.
        libc::EINVAL => Err(Error::Unsupported),
        _ => Err(last()),
    }
}

fn membarrier(command: c_int) -> c_int {
    // SAFETY: changes nothing but what other cores have fetched ahead.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) as c_int }
}

/// Whether the C library knows of no thread but this one: `__libc_single_threaded` of glibc (2.32, see
/// sys/single_threaded.h). Looked up by name, since other C libraries have no such variable.
pub(crate) fn is_single_threaded() -> bool {
    static VARIABLE: AtomicPtr<libc::c_char> = AtomicPtr::new(ptr::null_mut());
    static MISSING: libc::c_char = 0;
    let mut variable = VARIABLE.load(Ordering::Relaxed);
    if variable.is_null() {
        // SAFETY: the name is a C string.
        variable = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) }.cast();
        if variable.is_null() {
            variable = (&raw const MISSING).cast_mut();
        }
        VARIABLE.store(variable, Ordering::Relaxed);
    }
    // SAFETY: the C library's variable, or ours. It changes only when this thread starts the first other one.
    unsafe { variable.read_volatile() != 0 }
}
