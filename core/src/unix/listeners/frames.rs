//! The process's unwinder: `__register_frame` of the C++ runtime, if the process has one.
//!
//! libgcc's takes all records up to the word of zeros. LLVM's libunwind takes one function's at a time; there is a
//! function that only it has.

use crate::Error;
use crate::span::Span;
use core::ffi::{CStr, c_void};
use core::{mem, ptr};

/// Records, and by which functions the unwinder takes them.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    records: Span,
    register: OfRecords,
    deregister: OfRecords,
    is_of_functions: bool,
}

type OfRecords = unsafe extern "C" fn(*const c_void);

fn function(name: &CStr) -> Option<OfRecords> {
    // SAFETY: a `CStr` ends with its zero.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    // SAFETY: in both runtimes the functions of these names take an address alone. A null is `None`.
    unsafe { mem::transmute::<*mut c_void, Option<OfRecords>>(found) }
}

/// By which functions the process's unwinder takes records, and takes them back.
fn unwinder() -> Result<(OfRecords, OfRecords), Error> {
    let [register, deregister] =
        [c"__register_frame", c"__deregister_frame"].map(|name| function(name).ok_or(Error::Unsupported));
    Ok((register?, deregister?))
}

/// Where the library that a function is in was loaded.
fn object_of(function: OfRecords) -> Option<usize> {
    let mut found = mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: room for the structure, of which zeros are a value; nothing is done at the address (dladdr(3)).
    unsafe {
        let is_found = libc::dladdr(function as *const c_void, found.as_mut_ptr()) != 0;
        is_found.then(|| found.assume_init().dli_fbase.addr())
    }
}

impl Frames {
    /// Whether the process has an unwinder.
    pub(super) fn are_taken() -> bool {
        unwinder().is_ok()
    }

    /// Records, and the process's unwinder, which stays loaded: who looks a function up there depends on it. (glibc notes
    /// that, musl unloads nothing.) *Unsupported*: there is none.
    pub(super) fn new(records: Span) -> Result<Self, Error> {
        let (register, deregister) = unwinder()?;
        // LLVM's may be there beside libgcc's.
        let of_llvm = function(c"__unw_add_dynamic_fde").and_then(object_of);
        let is_of_functions = of_llvm.is_some() && of_llvm == object_of(register);
        Ok(Self { records, register, deregister, is_of_functions })
    }

    /// Tells the unwinder of them.
    ///
    /// # Safety
    /// They are whole, and stay as they are until [`deregister`](Self::deregister). The unwinder has none of the same
    /// functions.
    pub(super) unsafe fn register(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.each(self.register) }
    }

    /// Takes them back.
    ///
    /// # Safety
    /// They were registered, once, and are still as they were.
    pub(super) unsafe fn deregister(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.each(self.deregister) }
    }

    /// # Safety
    /// The records are whole.
    unsafe fn each(&self, function_of: OfRecords) {
        let start = ptr::with_exposed_provenance::<u8>(self.records.start());
        // SAFETY: the caller's promise: lengths lead from record to record, up to the one of zero.
        unsafe {
            if !self.is_of_functions {
                return function_of(start.cast());
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
    }
}
