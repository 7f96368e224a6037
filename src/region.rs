//! An owner of a region, whatever is in it.

use crate::error::{Call, Error, ErrorKind, positive, signed};
use crate::os::runtime;
use execmem_core::{Advice, Protection};

/// A live region of code or data memory, freed when dropped.
#[derive(Debug)]
pub(crate) struct OwnedRegion {
    pub(crate) address: i64,
    pub(crate) size: i64,
}

impl OwnedRegion {
    /// `size` bytes that `alloc` gives.
    pub(crate) fn new(
        name: &'static str,
        size: usize,
        alloc: impl FnOnce(i64) -> Result<usize, ErrorKind>,
    ) -> Result<Self, Error> {
        Self::from(Call { name, address: 0, size }, alloc)
    }

    /// `size` bytes that `alloc` gives for such a size, target and distance.
    pub(crate) fn near(
        name: &'static str,
        (size, target, max_distance): (usize, usize, usize),
        alloc: impl FnOnce(i64, i64, i64) -> Result<usize, ErrorKind>,
    ) -> Result<Self, Error> {
        let near = |size| alloc(size, positive(target)?, positive(max_distance)?);
        Self::from(Call { name, address: target, size }, near)
    }

    fn from(call: Call, alloc: impl FnOnce(i64) -> Result<usize, ErrorKind>) -> Result<Self, Error> {
        let made = positive(call.size).and_then(|size| Ok(Self { address: alloc(size)? as i64, size }));
        made.map_err(|kind| call.failed(kind))
    }

    pub(crate) fn address(&self) -> usize {
        self.address as usize
    }

    pub(crate) fn len(&self) -> usize {
        self.size as usize
    }

    /// What a failure of an operation on `size` bytes at an offset says.
    pub(crate) fn failed(
        &self,
        name: &'static str,
        offset: usize,
        size: usize,
    ) -> impl Fn(ErrorKind) -> Error {
        let call = Call { name, address: self.address().wrapping_add(offset), size };
        move |kind| call.failed(kind)
    }

    pub(crate) fn write(&self, name: &'static str, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let written = signed(offset).and_then(|offset| {
            // SAFETY: the slice is readable.
            unsafe { runtime().write(self.address, bytes.as_ptr(), bytes.len() as i64, offset) }
        });
        written.map(drop).map_err(self.failed(name, offset, bytes.len()))
    }

    pub(crate) fn read(&self, name: &'static str, offset: usize, target: &mut [u8]) -> Result<(), Error> {
        let size = target.len();
        let read = signed(offset).and_then(|offset| {
            // SAFETY: the slice is writable.
            unsafe { runtime().read_into(self.address, offset, target.as_mut_ptr(), size as i64) }
        });
        read.map(drop).map_err(self.failed(name, offset, size))
    }

    pub(crate) fn set_protection(&self, name: &'static str, protection: Protection) -> Result<(), Error> {
        let set = runtime().set_protection(self.address, self.size, protection);
        set.map_err(self.failed(name, 0, self.len()))
    }

    pub(crate) fn keep_from_children(&self, name: &'static str) -> Result<(), Error> {
        let kept = runtime().advise(self.address, self.size, Advice::DontFork);
        kept.map_err(self.failed(name, 0, self.len()))
    }
}

impl Drop for OwnedRegion {
    fn drop(&mut self) {
        // The pair is right; if the system can't unmap it there is nobody to tell.
        let _ = runtime().free_exec(self.address, self.size);
    }
}
