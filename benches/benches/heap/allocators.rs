//! What is compared, behind the same operations: ours, and bare system calls.

use execmem_os_linux::*;
use std::ffi::c_void;

/// Makes functions.
pub trait Functions {
    /// A fresh allocator.
    fn new() -> Self;
    /// Memory for code.
    fn alloc(&mut self, size: usize) -> Block;
    /// Writes code to the block, so that it can be called.
    fn write(&mut self, block: Block, code: &[u8]);
    /// Frees the block, if single functions can be freed.
    fn release(&mut self, block: Block) {
        let _ = block;
    }
}

/// And knows them.
pub trait Allocator: Functions {
    /// The size of the block that holds an address.
    fn find(&mut self, address: usize) -> usize;
}

/// Where a block can be executed, and where it can be written.
#[derive(Clone, Copy)]
pub struct Block {
    pub code: usize,
    pub writable: usize,
    pub size: usize,
}

/// The code heap, through the C symbols as a runtime calls them.
pub struct Ours;

impl Functions for Ours {
    fn new() -> Self {
        Self
    }

    fn alloc(&mut self, size: usize) -> Block {
        // SAFETY: takes a number.
        let code = unsafe { rt_code_alloc(size as i64) } as usize;
        assert_ne!(code, 0);
        Block { code, writable: 0, size }
    }

    fn write(&mut self, block: Block, code: &[u8]) {
        let (address, length) = (block.code as i64, code.len() as i64);
        // SAFETY: the slice is readable.
        unsafe {
            assert_eq!(rt_code_write(address, code.as_ptr(), length, 0), length);
            assert_eq!(rt_code_publish(address, length), 1);
        }
    }

    fn release(&mut self, block: Block) {
        // SAFETY: nobody runs the code.
        assert_eq!(unsafe { rt_code_free(block.code as i64) }, 1);
    }
}

impl Allocator for Ours {
    fn find(&mut self, address: usize) -> usize {
        let mut block = execmem::abi::RtCodeBlock { address: 0, size: 0 };
        // SAFETY: room for a block.
        unsafe { rt_code_find(address as i64, &mut block) };
        block.size as usize
    }
}

/// One mapping for each function, as programs without an allocator do.
pub struct Mappings;

impl Functions for Mappings {
    fn new() -> Self {
        Self
    }

    fn alloc(&mut self, size: usize) -> Block {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), size, protection, flags, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        Block { code: page as usize, writable: page as usize, size }
    }

    fn write(&mut self, block: Block, code: &[u8]) {
        // SAFETY: mapped by `alloc`, and as long as the code.
        unsafe {
            std::ptr::copy_nonoverlapping(code.as_ptr(), block.writable as *mut u8, code.len());
            libc::mprotect(block.code as *mut c_void, block.size, libc::PROT_READ | libc::PROT_EXEC);
        }
    }

    fn release(&mut self, block: Block) {
        // SAFETY: mapped by `alloc`.
        unsafe { libc::munmap(block.code as *mut c_void, block.size) };
    }
}

impl Allocator for Mappings {
    fn find(&mut self, _: usize) -> usize {
        0
    }
}

/// One page for all functions, flipped to read-write and back for each: what a pair of `mprotect` costs.
pub struct Flip {
    page: usize,
    used: usize,
}

impl Functions for Flip {
    fn new() -> Self {
        Self { page: Mappings.alloc(FLIP_BYTES).code, used: 0 }
    }

    fn alloc(&mut self, size: usize) -> Block {
        let code = self.page + self.used % FLIP_BYTES;
        self.used += size;
        Block { code, writable: code, size }
    }

    fn write(&mut self, block: Block, code: &[u8]) {
        let (page, length) = ((block.code & !4095) as *mut c_void, 4096);
        // SAFETY: the block lies in one page of the mapping, which nobody else uses.
        unsafe {
            assert_eq!(libc::mprotect(page, length, libc::PROT_READ | libc::PROT_WRITE), 0);
            std::ptr::copy_nonoverlapping(code.as_ptr(), block.writable as *mut u8, code.len());
            assert_eq!(libc::mprotect(page, length, libc::PROT_READ | libc::PROT_EXEC), 0);
        }
    }
}

const FLIP_BYTES: usize = 4 << 20;
