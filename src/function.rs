//! An owner for one of many small functions.

use crate::{Error, positive, runtime};

/// A function in the process's code heap, freed when dropped.
///
/// Functions share pages, so that each costs little more than its bytes. No page is writable and executable,
/// except under policy `rwx`.
///
/// ```
/// # #[cfg(target_arch = "x86_64")] const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
/// # #[cfg(target_arch = "aarch64")] const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];
/// # #[cfg(target_arch = "riscv64")] const CODE: &[u8] = &[0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0, 0];
/// let function = execmem::Function::new(CODE)?;
/// // SAFETY: the code is a function without arguments.
/// assert_eq!(unsafe { function.call(&[]) }?, 42);
/// # Ok::<(), execmem::Error>(())
/// ```
#[derive(Debug)]
pub struct Function {
    address: i64,
    size: usize,
}

impl Function {
    /// Copies `code` to where every core may execute it.
    pub fn new(code: &[u8]) -> Result<Self, Error> {
        let address = runtime().code_heap().alloc(positive(code.len())?)?;
        Self { address: address as i64, size: code.len() }.with(code)
    }

    /// The same, with every byte within `max_distance` bytes of `target`.
    pub fn near(code: &[u8], target: usize, max_distance: usize) -> Result<Self, Error> {
        let (size, target) = (positive(code.len())?, positive(target)?);
        let address = runtime().code_heap().alloc_near(size, target, positive(max_distance)?)?;
        Self { address: address as i64, size: code.len() }.with(code)
    }

    fn with(self, code: &[u8]) -> Result<Self, Error> {
        let (heap, length) = (runtime().code_heap(), code.len() as i64);
        // SAFETY: the slice is readable.
        unsafe { heap.write(self.address, code.as_ptr(), length, 0) }?;
        heap.publish(self.address, length)?;
        Ok(self)
    }

    /// The first byte's address: a multiple of 64.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// The code's length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no function is empty")]
    pub fn len(&self) -> usize {
        self.size
    }

    /// Calls it with up to six integers, in the C convention.
    ///
    /// # Safety
    /// The code is a function of so many integer arguments, which returns.
    pub unsafe fn call(&self, arguments: &[i64]) -> Result<i64, Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { runtime().call(self.address, arguments) }
    }

    /// Replaces the eight bytes at `offset`, a multiple of eight, while other threads may be executing them: they
    /// see the old ones or the new ones. *Unsupported* under policy `toggle`.
    pub fn patch(&self, offset: usize, word: u64) -> Result<(), Error> {
        if offset >= self.size {
            return Err(Error::NotOwned);
        }
        runtime().code_heap().patch(self.address + offset as i64, word)
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // The address is right; what the system refuses to take back is tried again later.
        let _ = runtime().code_heap().free(self.address);
    }
}
