//! What is compared: each allocator behind the same operations.

use execmem_os_linux::*;
use std::ffi::{c_int, c_void};

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

unsafe extern "C" {
    fn asmjit_new(fill: bool) -> *mut c_void;
    fn asmjit_delete(allocator: *mut c_void);
    fn asmjit_alloc(allocator: *mut c_void, size: usize, writable: *mut *mut c_void) -> *mut c_void;
    fn asmjit_write(code: *mut c_void, writable: *mut c_void, source: *const c_void, size: usize);
    fn asmjit_release(allocator: *mut c_void, code: *mut c_void) -> c_int;
    fn asmjit_query(allocator: *mut c_void, address: *mut c_void) -> usize;
}

/// asmjit's `JitAllocator`, dual mapping. `FILL`: freed code becomes traps, as ours does.
pub struct Asmjit<const FILL: bool>(*mut c_void);

impl<const FILL: bool> Functions for Asmjit<FILL> {
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
}

impl<const FILL: bool> Allocator for Asmjit<FILL> {
    fn find(&mut self, address: usize) -> usize {
        // SAFETY: takes any address.
        unsafe { asmjit_query(self.0, address as *mut c_void) }
    }
}

impl<const FILL: bool> Drop for Asmjit<FILL> {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { asmjit_delete(self.0) };
    }
}

/// asmkit's allocator, dual mapping.
#[cfg(feature = "peers")]
pub struct Asmkit(Box<asmkit::JitAllocator>);

#[cfg(feature = "peers")]
impl Functions for Asmkit {
    fn new() -> Self {
        use asmkit::{JitAllocator, JitAllocatorOptions};
        Self(JitAllocator::new(JitAllocatorOptions { use_dual_mapping: true, ..Default::default() }))
    }

    fn alloc(&mut self, size: usize) -> Block {
        let span = self.0.alloc(size).expect("memory");
        Block { code: span.rx() as usize, writable: span.rw() as usize, size }
    }

    fn write(&mut self, block: Block, code: &[u8]) {
        // SAFETY: the block is as long as the code; the write view is the allocator's.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), block.writable as *mut u8, code.len()) };
    }

    fn release(&mut self, block: Block) {
        // SAFETY: the block is the allocator's, and nobody runs the code.
        unsafe { self.0.release(block.code as *const u8) }.expect("a live block");
    }
}

#[cfg(feature = "peers")]
impl Allocator for Asmkit {
    fn find(&mut self, address: usize) -> usize {
        self.0.query(address as *const u8).map_or(0, |span| span.size())
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

/// `cranelift-jit`'s system provider, each function finalized before its first call. It frees all or nothing.
#[cfg(feature = "peers")]
pub struct Cranelift(cranelift_jit::SystemMemoryProvider);

#[cfg(feature = "peers")]
impl Functions for Cranelift {
    fn new() -> Self {
        Self(cranelift_jit::SystemMemoryProvider::new())
    }

    fn alloc(&mut self, size: usize) -> Block {
        use cranelift_jit::{JITMemoryKind, JITMemoryProvider};
        let code = self.0.allocate(size, 16, JITMemoryKind::Executable).expect("memory") as usize;
        Block { code, writable: code, size }
    }

    fn write(&mut self, block: Block, code: &[u8]) {
        use cranelift_jit::{BranchProtection, JITMemoryProvider};
        // SAFETY: allocated by `alloc`, as long as the code, and not finalized yet.
        unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), block.writable as *mut u8, code.len()) };
        self.0.finalize(BranchProtection::None).expect("finalized");
    }
}

/// dynasmrt's buffers, one for each function.
#[cfg(feature = "peers")]
pub struct Dynasm {
    open: Option<dynasmrt::mmap::MutableBuffer>,
    done: Vec<dynasmrt::mmap::ExecutableBuffer>,
}

#[cfg(feature = "peers")]
impl Functions for Dynasm {
    fn new() -> Self {
        Self { open: None, done: Vec::new() }
    }

    fn alloc(&mut self, size: usize) -> Block {
        let mut buffer = dynasmrt::mmap::MutableBuffer::new(size).expect("memory");
        buffer.set_len(size);
        let code = buffer.as_mut_ptr() as usize;
        self.open = Some(buffer);
        Block { code, writable: code, size }
    }

    fn write(&mut self, _: Block, code: &[u8]) {
        let mut buffer = self.open.take().expect("a buffer");
        buffer[..code.len()].copy_from_slice(code);
        self.done.push(buffer.make_exec().expect("executable"));
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
