//! asmjit's `JitAllocator` as plain functions: `asmjit.cpp`.

use std::ffi::{c_int, c_void};

unsafe extern "C" {
    pub safe fn asmjit_version() -> c_int;
    pub fn asmjit_new(fill: bool) -> *mut c_void;
    pub fn asmjit_delete(allocator: *mut c_void);
    pub fn asmjit_alloc(allocator: *mut c_void, size: usize, writable: *mut *mut c_void) -> *mut c_void;
    pub fn asmjit_write(code: *mut c_void, writable: *mut c_void, source: *const c_void, size: usize);
    pub fn asmjit_release(allocator: *mut c_void, code: *mut c_void) -> c_int;
    pub fn asmjit_query(allocator: *mut c_void, address: *mut c_void) -> usize;
}
