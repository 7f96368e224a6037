//! An owner of a mapped file.

use crate::error::{Call, Error, ErrorKind, signed};
use crate::os::runtime;
use core::ffi::CStr;
use execmem_core::{MapFlags, MapRequest, Protection};

/// A file mapped for reading, unmapped when dropped.
///
/// Its bytes are copied out by [`read`](Self::read), which needs no promise: a file is everybody's, who may write to it or
/// make it shorter while it is mapped. Who can promise that nobody does, has them by [`bytes`](Self::bytes).
#[derive(Debug)]
pub struct MappedFile {
    address: i64,
    size: i64,
}

/// The whole file, privately.
const WHOLE: MapRequest<'static> =
    MapRequest { path: None, protection: Protection::READ, flags: MapFlags::PRIVATE, offset: 0, length: 0 };

impl MappedFile {
    /// Maps the whole file, privately.
    pub fn open(path: &CStr) -> Result<Self, Error> {
        Self::from(runtime().map_file(MapRequest { path: Some(path), ..WHOLE }), "MappedFile::open")
    }

    /// Maps the whole file behind an open descriptor, privately. The descriptor stays the caller's, and may be closed.
    pub fn from_descriptor(descriptor: i32) -> Result<Self, Error> {
        Self::from(runtime().map_descriptor(descriptor, WHOLE), "MappedFile::from_descriptor")
    }

    fn from(mapped: Result<(usize, usize), ErrorKind>, name: &'static str) -> Result<Self, Error> {
        let call = Call { name, address: 0, size: 0 };
        let (address, size) = mapped.map_err(|kind| call.failed(kind))?;
        Ok(Self { address: address as i64, size: size as i64 })
    }

    /// The bytes where they are, with no copy.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// // SAFETY: the name is a C string, the bytes are there, and the descriptor is this program's.
    /// let file = unsafe {
    ///     let file = libc::memfd_create(c"sealed".as_ptr(), libc::MFD_ALLOW_SEALING);
    ///     libc::write(file, b"bytes".as_ptr().cast(), 5);
    ///     let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK;
    ///     assert_eq!(libc::fcntl(file, libc::F_ADD_SEALS, seals), 0);
    ///     file
    /// };
    /// let mapped = execmem::MappedFile::from_descriptor(file)?;
    /// // SAFETY: its seals keep the file as it is.
    /// assert_eq!(unsafe { mapped.bytes() }, b"bytes");
    /// # unsafe { libc::close(file) };
    /// # }
    /// # Ok::<(), execmem::Error>(())
    /// ```
    ///
    /// They are lent: no longer than the mapping is there.
    ///
    /// ```compile_fail,E0505
    /// let mapped = execmem::MappedFile::open(c"/etc/hosts")?;
    /// // SAFETY: nobody changes it.
    /// let bytes = unsafe { mapped.bytes() };
    /// drop(mapped);
    /// println!("{}", bytes.len());
    /// # Ok::<(), execmem::Error>(())
    /// ```
    ///
    /// Without a promise nobody has them:
    ///
    /// ```compile_fail,E0133
    /// let mapped = execmem::MappedFile::open(c"/etc/hosts")?;
    /// println!("{}", mapped.bytes().len());
    /// # Ok::<(), execmem::Error>(())
    /// ```
    ///
    /// # Safety
    /// While they are lent nobody changes the file's bytes or makes it shorter, nor changes, protects or unmaps the mapping
    /// by its address. Of a file in a file system no process can promise the first for all others: a mapping shows what
    /// they write, and raises `SIGBUS` behind a new end. Of these it is so:
    /// - a memory file of Linux with the seals `F_SEAL_WRITE` and `F_SEAL_SHRINK`, which nobody can take off;
    /// - a file of a bare-metal kernel's archive, which is never written to;
    /// - one that no other process can open, and to which this one doesn't write.
    pub unsafe fn bytes(&self) -> &[u8] {
        let start = core::ptr::with_exposed_provenance(self.address());
        // SAFETY: so many bytes are mapped, for reading, until this owner is dropped; that they stay the same is the caller's
        // promise.
        unsafe { core::slice::from_raw_parts(start, self.len()) }
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
