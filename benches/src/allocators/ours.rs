//! This library, through the C symbols as a runtime calls them.

use super::{Allocator, Block};
use execmem_os_linux::*;

/// The code heap.
pub struct Ours;

impl Allocator for Ours {
    const IS_OURS: bool = true;

    fn new() -> Self {
        Self
    }

    fn alloc(&mut self, size: usize) -> Block {
        // SAFETY: the contract takes any size.
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

    fn find(&mut self, address: usize) -> usize {
        let mut block = execmem::abi::RtCodeBlock { address: 0, size: 0 };
        // SAFETY: room for a block.
        unsafe { rt_code_find(address as i64, &mut block) };
        block.size as usize
    }
}
