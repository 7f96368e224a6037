//! An owner of code memory.

use crate::error::{Error, ErrorKind};
use crate::os::runtime;
use crate::region::OwnedRegion;
use execmem_core::Protection;

/// Code memory that is freed when dropped.
#[derive(Debug)]
pub struct CodeMemory {
    region: OwnedRegion,
}

impl CodeMemory {
    /// `size` bytes that can be written with [`write`](Self::write) and executed, as the policy provides it.
    pub fn new(size: usize) -> Result<Self, Error> {
        let region = OwnedRegion::new("CodeMemory::new", size, |size| runtime().alloc_exec(size))?;
        Ok(Self { region })
    }

    /// As [`new`](Self::new), with every byte within `max_distance` bytes of `target`.
    pub fn near(size: usize, target: usize, max_distance: usize) -> Result<Self, Error> {
        let alloc = |size, target, distance| runtime().alloc_exec_near(size, target, distance);
        let region = OwnedRegion::near("CodeMemory::near", (size, target, max_distance), alloc)?;
        Ok(Self { region })
    }

    /// The first byte's address.
    pub fn address(&self) -> usize {
        self.region.address()
    }

    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "no memory is empty")]
    pub fn len(&self) -> usize {
        self.region.len()
    }

    /// Copies `code` to `offset` bytes behind the start: all of it, or nothing with an error.
    pub fn write(&self, offset: usize, code: &[u8]) -> Result<(), Error> {
        self.region.write("CodeMemory::write", offset, code)
    }

    /// Forked children don't get this memory. A fork copies nothing of it, nor does a write, unless an earlier child has it
    /// in common still.
    ///
    /// # Safety
    /// A child neither uses this owner nor drops it, nor runs its code: what is at its addresses then is somebody else's.
    pub unsafe fn keep_from_children(&self) -> Result<(), Error> {
        self.region.keep_from_children("CodeMemory::keep_from_children")
    }

    /// Makes the memory read-execute, with coherent caches.
    pub fn make_executable(&self) -> Result<(), Error> {
        let made = runtime().make_executable(self.region.address, self.region.size);
        made.map_err(self.region.failed("CodeMemory::make_executable", 0, self.len()))
    }

    /// Makes the memory read-write, to be rewritten by plain stores. Nobody executes there meanwhile. *Unsupported* under
    /// policy `jit`.
    pub fn make_writable(&self) -> Result<(), Error> {
        self.region.set_protection("CodeMemory::make_writable", Protection::RW)
    }

    /// Gives the pages that `size` bytes at `offset` touch another protection: what is data beside the code can be made
    /// read-only. What becomes executable is published. Under policy `jit` code memory keeps its protection.
    pub fn set_protection(&self, offset: usize, size: usize, protection: Protection) -> Result<(), Error> {
        let set = match offset.checked_add(size) {
            // An empty range may lie at the end.
            Some(end) if end <= self.len() => {
                runtime().set_protection(self.region.address + offset as i64, size as i64, protection)
            }
            _ => Err(ErrorKind::NotOwned),
        };
        set.map_err(self.region.failed("CodeMemory::set_protection", offset, size))
    }

    /// Makes every core execute what was written. Needed where memory that is executable already was
    /// written anew.
    pub fn flush_icache(&self) -> Result<(), Error> {
        let done = runtime().flush_icache(self.region.address, self.region.size);
        done.map_err(self.region.failed("CodeMemory::flush_icache", 0, self.len()))
    }

    /// Seals the memory, which was made executable: the system refuses to change or unmap it from then on, and it stays for
    /// as long as the process lives, also when this is dropped. [`ErrorKind::Unsupported`] where the system can't.
    pub fn seal(&self) -> Result<(), Error> {
        let done = runtime().seal(self.region.address, self.region.size);
        done.map_err(self.region.failed("CodeMemory::seal", 0, self.len()))
    }

    /// Calls the function at `offset` with up to six integers, in the C convention.
    ///
    /// # Safety
    /// There is a function of so many integer arguments, which returns.
    pub unsafe fn call(&self, offset: usize, arguments: &[i64]) -> Result<i64, Error> {
        let result = if offset < self.len() {
            // SAFETY: the caller's promise, passed on.
            unsafe { runtime().call(self.region.address + offset as i64, arguments) }
        } else {
            Err(ErrorKind::InvalidArgument)
        };
        result.map_err(self.region.failed("CodeMemory::call", offset, 0))
    }
}
