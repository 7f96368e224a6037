//! The peer in C++.

use super::{Allocator, Block};
use execmem_benches::asmjit::*;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::sync::LazyLock;

/// asmjit's `JitAllocator`, dual mapping. `FILL`: freed code becomes traps, as ours does.
pub struct Asmjit<const FILL: bool>(*mut c_void);

impl<const FILL: bool> Allocator for Asmjit<FILL> {
    fn new() -> Self {
        // SAFETY: makes an allocator.
        Self(unsafe { asmjit_new(FILL) })
    }

    fn alloc(&mut self, size: usize) -> Block {
        let mut writable = std::ptr::null_mut();
        // SAFETY: the allocator lives; room for a pointer.
        let code = unsafe { asmjit_alloc(self.0, size, &mut writable) } as usize;
        assert_ne!(code, 0);
        Block { code, writable: writable as usize, size }
    }

    fn write(&mut self, block: Block, code: &[u8]) {
        let (target, writable) = (block.code as *mut c_void, block.writable as *mut c_void);
        // SAFETY: the block is as long as the code.
        unsafe { asmjit_write(target, writable, code.as_ptr().cast(), code.len()) };
    }

    fn release(&mut self, block: Block) {
        // SAFETY: the block is the allocator's, and nobody runs the code.
        assert_eq!(unsafe { asmjit_release(self.0, block.code as *mut c_void) }, 1);
    }

    fn find(&mut self, address: usize) -> usize {
        // SAFETY: takes any address.
        unsafe { asmjit_query(self.0, address as *mut c_void) }
    }
}

impl Asmjit<false> {
    /// One that lives as long as the process, which all threads may use: it has a lock.
    pub fn shared() -> ManuallyDrop<Self> {
        static SHARED: LazyLock<usize> = LazyLock::new(|| {
            // SAFETY: makes an allocator.
            unsafe { asmjit_new(false) as usize }
        });
        ManuallyDrop::new(Self(*SHARED as *mut c_void))
    }
}

impl<const FILL: bool> Drop for Asmjit<FILL> {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { asmjit_delete(self.0) };
    }
}
