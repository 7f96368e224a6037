//! An owner of code memory.

use crate::error::{Call, Error, ErrorKind, positive, signed};
use crate::os::runtime;
use execmem_core::Protection;

/// Code memory that is freed when dropped.
#[derive(Debug)]
pub struct CodeMemory {
    address: i64,
    size: i64,
}

impl CodeMemory {
    /// `size` bytes that can be written with [`write`](Self::write) and executed, as the policy provides it.
    pub fn new(size: usize) -> Result<Self, Error> {
        let made = positive(size).and_then(|size| Ok((runtime().alloc_exec(size)?, size)));
        Self::from(made, Call { name: "CodeMemory::new", address: 0, size })
    }

    /// As [`new`](Self::new), with every byte within `max_distance` bytes of `target`.
    pub fn near(size: usize, target: usize, max_distance: usize) -> Result<Self, Error> {
        let made = positive(size).and_then(|size| {
            Ok((runtime().alloc_exec_near(size, positive(target)?, positive(max_distance)?)?, size))
        });
        Self::from(made, Call { name: "CodeMemory::near", address: target, size })
    }

    fn from(made: Result<(usize, i64), ErrorKind>, call: Call) -> Result<Self, Error> {
        let (address, size) = made.map_err(|kind| call.failed(kind))?;
        Ok(Self { address: address as i64, size })
    }

    fn call_at(&self, name: &'static str, offset: usize, size: usize) -> Call {
        Call { name, address: self.address().wrapping_add(offset), size }
    }

    /// The first byte's address.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "no memory is empty")]
    pub fn len(&self) -> usize {
        self.size as usize
    }

    /// Copies `code` to `offset` bytes behind the start: all of it, or nothing with an error.
    pub fn write(&self, offset: usize, code: &[u8]) -> Result<(), Error> {
        let written = signed(offset).and_then(|offset| {
            // SAFETY: the slice is readable.
            unsafe { runtime().write(self.address, code.as_ptr(), code.len() as i64, offset) }
        });
        written.map(drop).map_err(|kind| self.call_at("CodeMemory::write", offset, code.len()).failed(kind))
    }

    /// Makes the memory read-execute, with coherent caches.
    pub fn make_executable(&self) -> Result<(), Error> {
        let call = self.call_at("CodeMemory::make_executable", 0, self.size as usize);
        runtime().make_executable(self.address, self.size).map_err(|kind| call.failed(kind))
    }

    /// Makes the memory read-write, to be rewritten by plain stores. Nobody executes there meanwhile. *Unsupported* under
    /// policy `jit`.
    pub fn make_writable(&self) -> Result<(), Error> {
        let call = self.call_at("CodeMemory::make_writable", 0, self.len());
        runtime().make_writable(self.address, self.size).map_err(|kind| call.failed(kind))
    }

    /// Gives the pages that `size` bytes at `offset` touch another protection: what is data beside the code can be made
    /// read-only. What becomes executable is published. Under policy `jit` code memory keeps its protection.
    pub fn set_protection(&self, offset: usize, size: usize, protection: Protection) -> Result<(), Error> {
        let set = match offset.checked_add(size) {
            // An empty range may lie at the end.
            Some(end) if end <= self.len() => {
                runtime().set_protection(self.address + offset as i64, size as i64, protection)
            }
            _ => Err(ErrorKind::NotOwned),
        };
        set.map_err(|kind| self.call_at("CodeMemory::set_protection", offset, size).failed(kind))
    }

    /// Makes every core execute what was written. Needed where memory that is executable already was
    /// written anew.
    pub fn flush_icache(&self) -> Result<(), Error> {
        let call = self.call_at("CodeMemory::flush_icache", 0, self.size as usize);
        runtime().flush_icache(self.address, self.size).map_err(|kind| call.failed(kind))
    }

    /// Seals the memory, which was made executable: the system refuses to change or unmap it from then on, and it stays for
    /// as long as the process lives, also when this is dropped. [`ErrorKind::Unsupported`] where the system can't.
    pub fn seal(&self) -> Result<(), Error> {
        let call = self.call_at("CodeMemory::seal", 0, self.size as usize);
        runtime().seal(self.address, self.size).map_err(|kind| call.failed(kind))
    }

    /// Calls the function at `offset` with up to six integers, in the C convention.
    ///
    /// # Safety
    /// There is a function of so many integer arguments, which returns.
    pub unsafe fn call(&self, offset: usize, arguments: &[i64]) -> Result<i64, Error> {
        let result = if offset < self.size as usize {
            // SAFETY: the caller's promise, passed on.
            unsafe { runtime().call(self.address + offset as i64, arguments) }
        } else {
            Err(ErrorKind::InvalidArgument)
        };
        result.map_err(|kind| self.call_at("CodeMemory::call", offset, 0).failed(kind))
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // The pair is right; if the system can't unmap it there is nobody to tell.
        let _ = runtime().free_exec(self.address, self.size);
    }
}
