//! Owners of data that code refers to.

use crate::error::{Call, Error, ErrorKind, positive, signed};
use crate::os::runtime;
use execmem_core::Protection;

/// Data beside code: cells of a GOT, constants, jump tables. Read-write, zeroed, and freed when dropped.
///
/// It takes whole pages, so that many cells share one owner. What shall not change any more
/// becomes [`Constants`](Self::into_constants).
///
/// ```
/// # use execmem::{DataMemory, Function};
/// let place = Function::<unsafe extern "C" fn() -> i64>::reserve(64)?;
/// let mut cells = DataMemory::near(4096, place.address(), 1 << 30)?;   // for code that adds a displacement of 32 bits
/// cells.write(8, &42_u64.to_ne_bytes())?;
/// assert!(cells.address().abs_diff(place.address()) < 1 << 30);
/// // SAFETY: the cell is inside, and nobody else has it.
/// unsafe { assert_eq!(cells.as_ptr().cast::<u64>().add(1).read(), 42) };
/// # Ok::<(), execmem::Error>(())
/// ```
#[derive(Debug)]
pub struct DataMemory {
    address: i64,
    size: i64,
}

impl DataMemory {
    /// `size` bytes anywhere.
    pub fn new(size: usize) -> Result<Self, Error> {
        let made = positive(size).and_then(|size| Ok((runtime().alloc_rw(size)?, size)));
        Self::from(made, Call { name: "DataMemory::new", address: 0, size })
    }

    /// The same, with every byte within `max_distance` bytes of `target`.
    pub fn near(size: usize, target: usize, max_distance: usize) -> Result<Self, Error> {
        let made = positive(size).and_then(|size| {
            Ok((runtime().alloc_rw_near(size, positive(target)?, positive(max_distance)?)?, size))
        });
        Self::from(made, Call { name: "DataMemory::near", address: target, size })
    }

    fn from(made: Result<(usize, i64), ErrorKind>, call: Call) -> Result<Self, Error> {
        let (address, size) = made.map_err(|kind| call.failed(kind))?;
        Ok(Self { address: address as i64, size })
    }

    /// The first byte's address: a multiple of the page size.
    pub fn address(&self) -> usize {
        self.address as usize
    }

    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "no memory is empty")]
    pub fn len(&self) -> usize {
        self.size as usize
    }

    /// The first byte. Its memory is read-write while this owner lives; code may use it, too.
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.address())
    }

    /// Copies `bytes` to `offset` bytes behind the start: all of them, or nothing with an error.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        let written = signed(offset).and_then(|offset| {
            // SAFETY: the slice is readable.
            unsafe { runtime().write(self.address, bytes.as_ptr(), bytes.len() as i64, offset) }
        });
        let call = Call {
            name: "DataMemory::write",
            address: self.address().wrapping_add(offset),
            size: bytes.len(),
        };
        written.map(drop).map_err(|kind| call.failed(kind))
    }

    /// Makes it read-only, and gives what can't be written any more. If it fails, the memory is freed.
    ///
    /// ```compile_fail,E0382
    /// let mut cells = execmem::DataMemory::new(8)?;
    /// let constants = cells.into_constants()?;
    /// cells.write(0, &[1])?;
    /// # Ok::<(), execmem::Error>(())
    /// ```
    pub fn into_constants(self) -> Result<Constants, Error> {
        let call = Call { name: "DataMemory::into_constants", address: self.address(), size: self.len() };
        runtime()
            .set_protection(self.address, self.size, Protection::READ)
            .map_err(|kind| call.failed(kind))?;
        Ok(Constants { memory: self })
    }
}

impl Drop for DataMemory {
    fn drop(&mut self) {
        // The pair is right; if the system can't unmap it there is nobody to tell.
        let _ = runtime().free_exec(self.address, self.size);
    }
}

/// [`DataMemory`] that was made read-only, and freed when dropped.
///
/// ```
/// let mut table = execmem::DataMemory::new(16)?;
/// table.write(0, b"sixteen letters.")?;
/// let mut letters = [0; 7];
/// table.into_constants()?.read(8, &mut letters)?;
/// assert_eq!(&letters, b"letters");
/// # Ok::<(), execmem::Error>(())
/// ```
///
/// ```compile_fail,E0599
/// let constants = execmem::DataMemory::new(8)?.into_constants()?;
/// constants.write(0, &[1])?;
/// # Ok::<(), execmem::Error>(())
/// ```
#[derive(Debug)]
pub struct Constants {
    memory: DataMemory,
}

impl Constants {
    /// The first byte's address: a multiple of the page size.
    pub fn address(&self) -> usize {
        self.memory.address()
    }

    /// Copies bytes from `offset` on into `target`, all of it.
    pub fn read(&self, offset: usize, target: &mut [u8]) -> Result<(), Error> {
        let size = target.len();
        let read = signed(offset).and_then(|offset| {
            // SAFETY: the slice is writable.
            unsafe { runtime().read_into(self.memory.address, offset, target.as_mut_ptr(), size as i64) }
        });
        let call = Call { name: "Constants::read", address: self.address().wrapping_add(offset), size };
        read.map(drop).map_err(|kind| call.failed(kind))
    }
}
