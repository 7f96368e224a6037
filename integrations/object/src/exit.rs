//! What objects register to have called at their end: `atexit`, and the destructors of C++'s static variables. The
//! C library would call it at the process's end, when the image may be gone: so it is called when the image ends.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The function that registers: `int __cxa_atexit(void (*)(void *), void *, void *)`. "Itanium C++ ABI", section
/// 3.3.6.3.
pub const NAME: &str = "__cxa_atexit";

/// A function and its argument.
type Call = (usize, usize);

/// By the address of a live image's `__dso_handle`: what it has registered.
static REGISTERED: Mutex<BTreeMap<usize, Vec<Call>>> = Mutex::new(BTreeMap::new());

fn registered() -> MutexGuard<'static, BTreeMap<usize, Vec<Call>>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The address of what is [`NAME`] for an object.
pub fn address() -> usize {
    register as *const () as usize
}

extern "C" fn register(function: usize, argument: usize, handle: usize) -> c_int {
    match registered().get_mut(&handle) {
        Some(calls) => calls.push((function, argument)),
        // No image has that handle: nobody would ever call it.
        None => return -1,
    }
    0
}

/// Lets an image register calls, by the address of its `__dso_handle`.
pub fn open(handle: usize) {
    registered().insert(handle, Vec::new());
}

/// Makes an image's calls, the last one first, also those that are registered meanwhile.
///
/// # Safety
/// What the image has registered returns, and does nothing that is undefined behaviour.
pub unsafe fn run(handle: usize) {
    loop {
        // The call may register others.
        let call = registered().get_mut(&handle).and_then(Vec::pop);
        let Some((function, argument)) = call else { return };
        // SAFETY: it was registered as such a function, and the caller vouches for it.
        unsafe {
            let function: unsafe extern "C" fn(usize) = std::mem::transmute(function);
            function(argument);
        }
    }
}

/// Forgets an image.
pub fn close(handle: usize) {
    registered().remove(&handle);
}
