//! The process around the library: its environment and stderr, and cells of its threads.

use super::errno::retried;
use crate::sync::{AtomicI32, AtomicI64, Ordering};
use core::ffi::{CStr, c_void};
use core::ptr;

/// As [`Process::environment`](crate::platform::Process::environment).
pub fn environment(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: a `CStr` ends with its zero.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    // SAFETY: the C library gives a C string, which stays until somebody changes the environment (getenv(3)). The
    // core keeps none: it compares the value with its own words at once.
    (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
}

/// Writes a line to stderr at once, so that lines of several threads don't mix. What stderr refuses is lost.
pub fn print(line: &[u8]) {
    let mut rest = line;
    while !rest.is_empty() {
        // SAFETY: the slice can be read for its whole length.
        match retried(|| unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) }) {
            Ok(written @ 1..) => rest = &rest[written.min(rest.len())..],
            _ => return,
        }
    }
}

/// What the C libraries do when something in them panics. Nothing does on any input; if a mistake of ours does, the
/// process ends here: unwinding into C is no choice.
pub fn end_by_panic() -> ! {
    print(b"execmem: internal error\n");
    // SAFETY: has no preconditions (abort(3)).
    unsafe { libc::abort() }
}

/// A number of each thread; 0 at first.
///
/// A pthread key holds the number itself in place of a pointer: nothing is allocated for a thread and
/// nothing has to be released when it ends.
pub struct Cell {
    /// The key, once it was made; else one of the two numbers below.
    key: AtomicI64,
}

const NOT_MADE: i64 = -1;
/// The process has used up its keys.
const NONE_LEFT: i64 = -2;

impl Cell {
    /// A cell without a key: that is made when it is first needed, and stays.
    #[expect(clippy::new_without_default, reason = "it exists in a static")]
    pub const fn new() -> Self {
        Self { key: AtomicI64::new(NOT_MADE) }
    }

    /// Makes the key now, if it was not made yet. Whether there is one.
    pub fn is_ready(&self) -> bool {
        self.key().is_some()
    }

    /// The thread's number, if there is a key.
    pub fn get(&self) -> Option<i32> {
        // SAFETY: `pthread_key_create` gave the key, and no key that `key` returns is ever deleted.
        self.key().map(|key| unsafe { libc::pthread_getspecific(key) }.addr() as i32)
    }

    /// Sets the thread's number. Whether there was a key for it.
    pub fn set(&self, number: i32) -> bool {
        let Some(key) = self.key() else { return false };
        let value = ptr::without_provenance::<c_void>(number as usize);
        // SAFETY: `pthread_key_create` gave the key, and no key that `key` returns is ever deleted. A thread that
        // the C library has no memory for keeps the number it had.
        unsafe { libc::pthread_setspecific(key, value) };
        true
    }

    fn key(&self) -> Option<libc::pthread_key_t> {
        let mut key = self.key.load(Ordering::Acquire);
        if key == NOT_MADE {
            let mut made = 0;
            // SAFETY: `made` is there to be written; without a destructor nothing is ever called.
            let fresh = match unsafe { libc::pthread_key_create(&mut made, None) } {
                0 => made as i64,
                _ => NONE_LEFT,
            };
            key = match self.key.compare_exchange(NOT_MADE, fresh, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => fresh,
                Err(earlier) => {
                    if fresh != NONE_LEFT {
                        // SAFETY: made above, and no other thread has seen it.
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

/// As [`Process::set_last_error`](crate::platform::Process::set_last_error).
pub fn set_last_error(code: i32) {
    if !LAST_ERROR.set(code) {
        SHARED_CELL.store(code, Ordering::Relaxed);
    }
}

/// As [`Process::last_error`](crate::platform::Process::last_error).
pub fn last_error() -> i32 {
    LAST_ERROR.get().unwrap_or_else(|| SHARED_CELL.load(Ordering::Relaxed))
}
