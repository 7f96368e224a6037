//! What the loader supplies: see `execmem_conformance::World`.

use core::ffi::c_char;

/// Why a rule ended: what [`suite_run`](crate::suite_run) returns.
pub const PASSED: i32 = 0;
/// The library broke the rule.
pub const FAILED: i32 = 1;
/// The machine lacks what the rule needs.
pub const NOT_APPLICABLE: i32 = 2;

/// The machine, as plain C: loader and library are made for different systems.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Host {
    /// The policy that was asked for in the environment.
    pub wished_policy: i32,
    /// Whether unsigned pages can become executable.
    pub gains_exec: bool,
    /// Whether pages that are behind a write switch to a program are writable and executable in truth.
    pub lacks_write_switch: bool,
    /// Whether stale code is executed where caches aren't invalidated.
    pub shows_stale_code: bool,
    /// Makes a new regular file of so many bytes, perhaps with a name that is not UTF-8.
    pub file: unsafe extern "C" fn(bytes: *const u8, length: usize, has_odd_name: bool) -> *const c_char,
    /// Opens a file for READ, WRITE or both, at an offset.
    pub open: unsafe extern "C" fn(path: *const c_char, access: i32, offset: i64) -> i64,
    /// Closes a descriptor: the offset that it had, or -1.
    pub close: extern "C" fn(descriptor: i64) -> i64,
    /// Makes a file that shorter.
    pub shrink_file: unsafe extern "C" fn(path: *const c_char, size: u64),
    /// A path where there is nothing.
    pub missing_file: *const c_char,
    /// The path of a directory.
    pub directory: *const c_char,
    /// The path of a FIFO.
    pub fifo: *const c_char,
    /// A function that returns `FOREIGN_RESULT`.
    pub foreign_code: extern "C" fn() -> i64,
    /// 64 bytes of the loader's.
    pub foreign_data: i64,
    /// An address with nothing near it.
    pub unmapped: i64,
    /// Whether any page is writable and executable at once.
    pub has_writable_code: extern "C" fn() -> bool,
    /// Maps so many bytes twice: read-write, read-execute.
    pub two_views: unsafe extern "C" fn(size: usize, views: *mut [i64; 2]),
    /// Takes the text that goes with a result.
    pub report: unsafe extern "C" fn(text: *const u8, length: usize),
}

// SAFETY: the pointers are to constant strings and to functions.
unsafe impl Sync for Host {}
