//! The process's unwinder: `__register_frame` of the C++ runtime, if the process has one.
//!
//! libgcc's takes all records up to the word of zeros. LLVM's libunwind takes one function's at a time; there is a
//! function that only it has.

use crate::Error;
use crate::span::Span;
use core::ffi::{CStr, c_void};
use core::{mem, ptr};

/// Records that were registered.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    pub(super) records: Span,
}

type OfRecords = unsafe extern "C" fn(*const c_void);

fn function(name: &CStr) -> Option<OfRecords> {
    // SAFETY: a `CStr` ends with its zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: in both runtimes the functions of these names take an address alone. A null is `None`.
    unsafe { mem::transmute::<*mut c_void, Option<OfRecords>>(found) }
}

/// Tells the unwinder of records. *Unsupported*: there is none.
///
/// # Safety
/// They are whole, and stay as they are until [`deregister`].
pub(super) unsafe fn register(records: Span) -> Result<(), Error> {
    // SAFETY: the caller's promise.
    unsafe { each(function(c"__register_frame"), records) }
}

/// Takes records back. The unwinder was there when they were registered; if it has gone, so have they.
///
/// # Safety
/// They were registered, once, and are still as they were.
pub(super) unsafe fn deregister(records: Span) {
    // SAFETY: the caller's promise.
    let _ = unsafe { each(function(c"__deregister_frame"), records) };
}

/// # Safety
/// The records are whole.
unsafe fn each(function_of: Option<OfRecords>, records: Span) -> Result<(), Error> {
    let function_of = function_of.ok_or(Error::Unsupported)?;
    let start = ptr::with_exposed_provenance::<u8>(records.start());
    // SAFETY: the caller's promise: lengths lead from record to record, up to the one of zero.
    unsafe {
        if function(c"__unw_add_dynamic_fde").is_none() {
            function_of(start.cast());
            return Ok(());
        }
        let word = |at: usize| start.add(at).cast::<u32>().read();
        let mut at = 0;
        while word(at) != 0 {
            // A function's: it refers to a common record.
            if word(at + 4) != 0 {
                function_of(start.add(at).cast());
            }
            at += 4 + word(at) as usize;
        }
    }
    Ok(())
}
