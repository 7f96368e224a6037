//! The peers in Rust.

use super::{Allocator, Block};

/// asmkit's allocator, dual mapping.
pub struct Asmkit(Box<asmkit::JitAllocator>);

impl Allocator for Asmkit {
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

    fn find(&mut self, address: usize) -> usize {
        self.0.query(address as *const u8).map_or(0, |span| span.size())
    }
}

/// `cranelift-jit`'s system provider, each function finalized before its first call. It frees all or nothing.
pub struct Cranelift(cranelift_jit::SystemMemoryProvider);

impl Allocator for Cranelift {
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
pub struct Dynasm {
    open: Option<dynasmrt::mmap::MutableBuffer>,
    done: Vec<dynasmrt::mmap::ExecutableBuffer>,
}

impl Allocator for Dynasm {
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
