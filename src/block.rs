//! An owner of a block of the process's code heap, whatever is in it.

use crate::error::ErrorKind;
use crate::os::runtime;

/// A live block, freed when dropped.
#[derive(Debug)]
pub(crate) struct OwnedBlock {
    pub(crate) address: i64,
    pub(crate) size: usize,
}

impl OwnedBlock {
    /// Fills the block's first bytes, which are code once they are published.
    pub(crate) fn write(&self, code: &[u8]) -> Result<(), ErrorKind> {
        // SAFETY: the slice is readable.
        unsafe { runtime().code_heap().write(self.address, code.as_ptr(), code.len() as i64, 0) }.map(drop)
    }

    /// Gives back all but the first `size` bytes.
    pub(crate) fn shrink(&mut self, size: usize) -> Result<(), ErrorKind> {
        runtime().code_heap().shrink(self.address, size as i64)?;
        self.size = size;
        Ok(())
    }

    /// What [`publish_all`](execmem_core::CodeHeap::publish_all) wants to know.
    pub(crate) fn range(&self) -> (i64, i64) {
        (self.address, self.size as i64)
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        // The address is right; what the system refuses to take back is tried again later.
        let _ = runtime().code_heap().free(self.address);
    }
}
