//! In place of `keys.rs` where the processor has no protection keys, or the library doesn't use them yet (aarch64's
//! permission overlays).

use execmem_core::{Error, Span};

pub(crate) fn acquire() -> Result<(), Error> {
    Err(Error::Unsupported)
}

pub(crate) unsafe fn attach(_pages: Span) -> Result<(), Error> {
    Err(Error::Unsupported)
}

pub(crate) fn with_access<R>(access: impl FnOnce() -> R) -> R {
    access()
}
