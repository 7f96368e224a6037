//! Cells of a thread, and the environment.
//!
//! A pthread key holds a number itself in place of a pointer: nothing is allocated for a thread and
//! nothing has to be released when it ends.

use core::ffi::CStr;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicI64, Ordering};

/// A number of each thread; 0 at first.
pub(crate) struct Cell {
    /// The key, once it was made; else one of the two numbers below.
    key: AtomicI64,
}

const NOT_MADE: i64 = -1;
/// The process has used up its keys.
const NONE_LEFT: i64 = -2;

impl Cell {
    pub(crate) const fn new() -> Self {
        Self { key: AtomicI64::new(NOT_MADE) }
    }

    /// Makes the key now, if it was not made yet. Whether there is one.
    pub(crate) fn is_ready(&self) -> bool {
        self.key().is_some()
    }

    /// The thread's number; 0 if there is no key.
    pub(crate) fn get(&self) -> i32 {
        // SAFETY: the key exists.
        self.key().map_or(0, |key| unsafe { libc::pthread_getspecific(key) }.addr() as i32)
    }

    /// Sets the thread's number. Whether there was a key for it.
    pub(crate) fn set(&self, number: i32) -> bool {
        let Some(key) = self.key() else { return false };
        let value = ptr::without_provenance::<libc::c_void>(number as usize);
        // SAFETY: the key exists. A thread that can't have the cell keeps the number it had.
        unsafe { libc::pthread_setspecific(key, value) };
        true
    }

    fn key(&self) -> Option<libc::pthread_key_t> {
        let mut key = self.key.load(Ordering::Acquire);
        if key == NOT_MADE {
            let mut made = 0;
            // SAFETY: writes the key; no destructor.
            let fresh = match unsafe { libc::pthread_key_create(&mut made, None) } {
                0 => made as i64,
                _ => NONE_LEFT,
            };
            key = match self.key.compare_exchange(NOT_MADE, fresh, Ordering::AcqRel, Ordering::Acquire) {
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
}

static LAST_ERROR: Cell = Cell::new();
/// Stands in where the process has used up its keys: all threads share it then.
static SHARED_CELL: AtomicI32 = AtomicI32::new(0);

pub(crate) fn set_last_error(code: i32) {
    if !LAST_ERROR.set(code) {
        SHARED_CELL.store(code, Ordering::Relaxed);
    }
}

pub(crate) fn last_error() -> i32 {
    match LAST_ERROR.key() {
        Some(_) => LAST_ERROR.get(),
        None => SHARED_CELL.load(Ordering::Relaxed),
    }
}

pub(crate) fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: the name is a C string.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: a variable's value is a C string; the core reads it at once.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}
