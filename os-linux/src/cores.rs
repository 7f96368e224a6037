//! Making other cores drop instructions that they have fetched: `membarrier(2)`.

use crate::errno::{last, number};
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
