//! What a program does without a library.

use super::{Allocator, Block};
use std::ffi::c_void;

/// New memory of this program's own.
pub fn map(length: usize, protection: i32, flags: i32) -> usize {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start as usize
}

/// One mapping for each function, as programs without an allocator do.
pub struct Mappings;

impl Allocator for Mappings {
    fn new() -> Self {
        Self
    }

    fn alloc(&mut self, size: usize) -> Block {
        let page = map(size, libc::PROT_READ | libc::PROT_WRITE, 0);
        Block { code: page, writable: page, size }
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

/// One page for all functions, flipped to read-write and back for each: what a pair of `mprotect` costs.
pub struct Flip {
    page: usize,
    used: usize,
}

impl Allocator for Flip {
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

/// What no allocator does without: a pointer that moves on, a number for each block that says where it starts, stores.
/// Memory is used again once all is released; code becomes traps then.
pub struct Bump {
    memory: usize,
    used: usize,
    live: usize,
    starts: Vec<u32>,
}

impl Allocator for Bump {
    fn new() -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let memory = map(BUMP_BYTES, protection, libc::MAP_NORESERVE);
        Self { memory, used: 0, live: 0, starts: vec![0; BUMP_BYTES / GRANULE] }
    }

    fn alloc(&mut self, size: usize) -> Block {
        if self.used + size > BUMP_BYTES {
            self.used = 0;
        }
        self.live += 1;
        let code = self.memory + self.used;
        self.starts[self.used / GRANULE] = size as u32;
        self.used = (self.used + size).next_multiple_of(GRANULE);
        Block { code, writable: code, size }
    }

    fn write(&mut self, block: Block, code: &[u8]) {
        // SAFETY: the block lies in the mapping, and is as long as the code.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), block.writable as *mut u8, code.len()) };
    }

    fn release(&mut self, block: Block) {
        // SAFETY: the block lies in the mapping.
        unsafe { std::ptr::write_bytes(block.writable as *mut u8, 0xcc, block.size) };
        self.live -= 1;
        if self.live == 0 {
            self.used = 0;
        }
    }

    fn find(&mut self, address: usize) -> usize {
        self.starts[(address - self.memory) / GRANULE] as usize
    }
}

const BUMP_BYTES: usize = 1 << 30;
const GRANULE: usize = 64;
