//! The thread's cell for the last error, and the environment.
//!
//! A pthread key holds the code itself in place of a pointer: nothing is allocated for a thread and
//! nothing has to be released when it ends.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicI64, Ordering};

/// The key, once it was made; else one of the two numbers below.
static KEY: AtomicI64 = AtomicI64::new(NOT_MADE);
const NOT_MADE: i64 = -1;
/// The process has used up its keys: all threads share one cell.
const NONE_LEFT: i64 = -2;
static SHARED_CELL: AtomicI32 = AtomicI32::new(0);

fn key() -> Option<libc::pthread_key_t> {
    let mut key = KEY.load(Ordering::Acquire);
    if key == NOT_MADE {
        let mut made = 0;
        // SAFETY: writes the key; no destructor.
        let fresh = match unsafe { libc::pthread_key_create(&mut made, None) } {
            0 => made.into(),
            _ => NONE_LEFT,
        };
        key = match KEY.compare_exchange(NOT_MADE, fresh, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => fresh,
            Err(earlier) => {
                if fresh != NONE_LEFT {
                    // SAFETY: made above, and nobody has seen it.
                    unsafe { libc::pthread_key_delete(made) };
                }
                earlier
            }
        };
    }
    libc::pthread_key_t::try_from(key).ok()
}

pub(crate) fn set_last_error(code: i32) {
    match key() {
        Some(key) => {
            let value = ptr::without_provenance::<libc::c_void>(code as usize);
            // SAFETY: the key exists. A thread that can't have the cell keeps the code it had.
            unsafe { libc::pthread_setspecific(key, value) };
        }
        None => SHARED_CELL.store(code, Ordering::Relaxed),
    }
}

pub(crate) fn last_error() -> i32 {
    match key() {
        // SAFETY: the key exists.
        Some(key) => unsafe { libc::pthread_getspecific(key) }.addr() as i32,
        None => SHARED_CELL.load(Ordering::Relaxed),
    }
}

pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name is a C string.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: a variable's value is a C string; the core reads it at once.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}
