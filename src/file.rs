//! An owner of a mapped file.

use crate::error::{Call, Error, signed};
use crate::os::runtime;
use core::ffi::CStr;
use execmem_core::{MapFlags, MapRequest, Protection};

/// A file mapped for reading, unmapped when dropped.
#[derive(Debug)]
pub struct MappedFile {
    address: i64,
    size: i64,
}

impl MappedFile {
    /// Maps the whole file, privately.
    pub fn open(path: &CStr) -> Result<Self, Error> {
        let mapped = runtime().map_file(MapRequest {
            path: Some(path),
            protection: Protection::READ,
            flags: MapFlags::PRIVATE,
            offset: 0,
            length: 0,
        });
        let call = Call { name: "MappedFile::open", address: 0, size: 0 };
        let (address, size) = mapped.map_err(|kind| call.failed(kind))?;
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

    /// Copies bytes from `offset` on into `target`, all of it. A file that has become shorter is an error of kind
    /// [`Io`](crate::ErrorKind::Io), not a signal.
    pub fn read(&self, offset: usize, target: &mut [u8]) -> Result<(), Error> {
        let size = target.len();
        let read = signed(offset).and_then(|offset| {
            // SAFETY: the slice is writable.
            unsafe { runtime().read_into(self.address, offset, target.as_mut_ptr(), size as i64) }
        });
        let call = Call { name: "MappedFile::read", address: self.address().wrapping_add(offset), size };
        read.map(drop).map_err(|kind| call.failed(kind))
    }
}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // The pair is right; if the system can't unmap it there is nobody to tell.
        let _ = runtime().unmap(self.address, self.size);
    }
}
