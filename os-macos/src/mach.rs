//! Mach calls' error numbers in the contract's words.

use execmem_core::Error;
use mach2::kern_return::*;

/// For Mach calls, which answer with a number of their own and leave `errno` alone.
pub(crate) fn check(result: kern_return_t) -> Result<(), Error> {
    Err(match result {
        KERN_SUCCESS => return Ok(()),
        KERN_NO_SPACE | KERN_RESOURCE_SHORTAGE => Error::NoMemory,
        KERN_PROTECTION_FAILURE | KERN_NO_ACCESS | KERN_CODESIGN_ERROR | KERN_DENIED => Error::Refused,
        KERN_INVALID_ADDRESS | KERN_MEMORY_FAILURE | KERN_MEMORY_ERROR => Error::Io,
        KERN_NOT_SUPPORTED => Error::Unsupported,
        _ => Error::InvalidArgument,
    })
}
