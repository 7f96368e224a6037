//! Owners of data that code refers to.

use crate::error::Error;
use crate::os::runtime;
use crate::region::OwnedRegion;
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
    region: OwnedRegion,
}

impl DataMemory {
    /// `size` bytes anywhere.
    pub fn new(size: usize) -> Result<Self, Error> {
        let region = OwnedRegion::new("DataMemory::new", size, |size| runtime().alloc_rw(size))?;
        Ok(Self { region })
    }

    /// The same, with every byte within `max_distance` bytes of `target`.
    pub fn near(size: usize, target: usize, max_distance: usize) -> Result<Self, Error> {
        let alloc = |size, target, distance| runtime().alloc_rw_near(size, target, distance);
        let region = OwnedRegion::near("DataMemory::near", (size, target, max_distance), alloc)?;
        Ok(Self { region })
    }

    /// The first byte's address: a multiple of the page size.
    pub fn address(&self) -> usize {
        self.region.address()
    }

    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "no memory is empty")]
    pub fn len(&self) -> usize {
        self.region.len()
    }

    /// The first byte. Its memory is read-write while this owner lives; code may use it, too.
    pub fn as_ptr(&self) -> *mut u8 {
        core::ptr::with_exposed_provenance_mut(self.address())
    }

    /// Copies `bytes` to `offset` bytes behind the start: all of them, or nothing with an error.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.region.write("DataMemory::write", offset, bytes)
    }

    /// Forked children don't get this memory: neither a fork nor a later write copies it.
    ///
    /// # Safety
    /// A child neither uses this owner nor drops it: what is at its addresses then is somebody else's.
    pub unsafe fn keep_from_children(&self) -> Result<(), Error> {
        self.region.keep_from_children("DataMemory::keep_from_children")
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
        self.region.set_protection("DataMemory::into_constants", Protection::READ)?;
        Ok(Constants { memory: self })
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
        self.memory.region.read("Constants::read", offset, target)
    }
}
