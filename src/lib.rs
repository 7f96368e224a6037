//! Executable memory and mapped files for language runtimes, JIT compilers and kernels.
//!
//! This crate picks the adapter for the target ([`os`]) and adds owners that free what they hold. All
//! operations are methods of [`runtime()`]; the feature `symbols` exports the same ones as the `rt_*` C
//! symbols that `include/execmem.h` declares.
//!
//! ```
//! # #[cfg(target_arch = "x86_64")] const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
//! # #[cfg(target_arch = "aarch64")] const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];
//! # #[cfg(target_arch = "riscv64")] const CODE: &[u8] = &[0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0, 0];
//! let memory = execmem::CodeMemory::new(4096)?;
//! memory.write(0, CODE)?;
//! memory.make_executable()?;
//! // SAFETY: the code is a function without arguments.
//! assert_eq!(unsafe { memory.call(0, &[]) }?, 42);
//! # Ok::<(), execmem::Error>(())
//! ```
#![no_std]

mod function;

pub use execmem_core::MapRequest;
pub use execmem_core::{Advice, Error, MapFlags, Policy, Protection, Runtime, Span, abi};
pub use execmem_core::{Block, CodeHeap, Limits};

/// The adapter for this target.
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub use execmem_os_baremetal as os;
#[cfg(target_os = "linux")]
pub use execmem_os_linux as os;

/// The adapter for this target.
#[cfg(target_os = "macos")]
pub use execmem_os_macos as os;

#[cfg(not(any(target_os = "linux", target_os = "macos", all(target_os = "none", target_arch = "aarch64"))))]
compile_error!("execmem has no adapter for this system yet: implement execmem_core::Platform for it");

pub use function::Function;
pub use os::runtime;

use core::ffi::CStr;

/// Code memory that is freed when dropped.
#[derive(Debug)]
pub struct CodeMemory {
    address: i64,
    size: i64,
}

impl CodeMemory {
    /// `size` bytes that can be written with [`write`](Self::write) and executed, as the policy provides it.
    pub fn new(size: usize) -> Result<Self, Error> {
        let size = positive(size)?;
        runtime().alloc_exec(size).map(|address| Self { address: address as i64, size })
    }

    /// As [`new`](Self::new), with every byte within `max_distance` bytes of `target`.
    pub fn near(size: usize, target: usize, max_distance: usize) -> Result<Self, Error> {
        let size = positive(size)?;
        let address = runtime().alloc_exec_near(size, positive(target)?, positive(max_distance)?)?;
        Ok(Self { address: address as i64, size })
    }

    /// The first byte's address.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// Copies `code` to `offset` bytes behind the start: all of it, or nothing with an error.
    pub fn write(&self, offset: usize, code: &[u8]) -> Result<(), Error> {
        let (length, offset) =
            (code.len() as i64, i64::try_from(offset).map_err(|_| Error::InvalidArgument)?);
        // SAFETY: the slice is readable.
        unsafe { runtime().write(self.address, code.as_ptr(), length, offset) }.map(|_| ())
    }

    /// Makes the memory read-execute, with coherent caches.
    pub fn make_executable(&self) -> Result<(), Error> {
        runtime().make_executable(self.address, self.size)
    }

    /// Makes every core execute what was written. Needed where memory that is executable already was
    /// written anew.
    pub fn flush_icache(&self) -> Result<(), Error> {
        runtime().flush_icache(self.address, self.size)
    }

    /// Calls the function at `offset` with up to six integers, in the C convention.
    ///
    /// # Safety
    /// There is a function of so many integer arguments, which returns.
    pub unsafe fn call(&self, offset: usize, arguments: &[i64]) -> Result<i64, Error> {
        if offset >= self.size as usize {
            return Err(Error::InvalidArgument);
        }
        // SAFETY: the caller's promise, passed on.
        unsafe { runtime().call(self.address + offset as i64, arguments) }
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        // The pair is right; if the system can't unmap it there is nobody to tell.
        let _ = runtime().free_exec(self.address, self.size);
    }
}

/// A file mapped for reading, unmapped when dropped.
#[derive(Debug)]
pub struct MappedFile {
    address: i64,
    size: i64,
}

impl MappedFile {
    /// Maps the whole file, privately.
    pub fn open(path: &CStr) -> Result<Self, Error> {
        let (address, size) = runtime().map_file(MapRequest {
            path: Some(path),
            protection: Protection::READ,
            flags: MapFlags::PRIVATE,
            offset: 0,
            length: 0,
        })?;
        Ok(Self { address: address as i64, size: size as i64 })
    }

    /// The first byte's address.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// The file's length in bytes when it was mapped.
    #[expect(clippy::len_without_is_empty, reason = "an empty file can't be mapped")]
    pub fn len(&self) -> usize {
        self.size as usize
    }

    /// Copies bytes from `offset` on into `target`, all of it. A file that has become shorter is an
    /// [`Error::Io`], not a signal.
    pub fn read(&self, offset: usize, target: &mut [u8]) -> Result<(), Error> {
        let (length, offset) =
            (target.len() as i64, i64::try_from(offset).map_err(|_| Error::InvalidArgument)?);
        // SAFETY: the slice is writable.
        unsafe { runtime().read_into(self.address, offset, target.as_mut_ptr(), length) }.map(|_| ())
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // The pair is right; if the system can't unmap it there is nobody to tell.
        let _ = runtime().unmap(self.address, self.size);
    }
}

fn positive(number: usize) -> Result<i64, Error> {
    i64::try_from(number).ok().filter(|number| *number > 0).ok_or(Error::InvalidArgument)
}
