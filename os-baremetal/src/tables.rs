//! The seam to page tables: what a kernel that owns its tables has to implement.

use core::ops::Range;
use execmem_core::platform::Mapping;
use execmem_core::{Error, Protection};

/// Bytes in a page and in a frame.
pub const PAGE_SIZE: usize = 4096;

/// Page tables that the library may change at the addresses that the kernel gave it.
/// [`IdentityTables`](crate::IdentityTables) is one implementation; a kernel with tables of its own brings
/// another, and everything else stays the same.
///
/// Pages are the kernel's alone: programs that it runs can neither access nor execute them. Of the protections, WRITE
/// without READ may give both, and EXEC without READ too; without EXEC the kernel itself can't execute a page. WRITE
/// with EXEC is never asked for.
///
/// The library calls `map`, `protect` and `unmap` one at a time, under its lock. [`next`](Self::next) may be
/// called at any time, also in a handler that has interrupted one of the others.
///
/// # Safety
/// The library hands out memory on this trait's word: each method does exactly what it says to the pages it is
/// given and to no others, and all cores see it when it returns. A method that fails has changed nothing.
pub unsafe trait PageTables: Sync {
    /// Makes an unmapped page show a frame of physical memory: cached, and coherent between all cores. Table
    /// memory that is missing is [`Error::NoMemory`].
    ///
    /// # Safety
    /// The page is among the library's addresses, and nothing relies on it being unmapped.
    unsafe fn map(&self, page: usize, frame: usize, protection: Protection) -> Result<(), Error>;

    /// Changes what mapped pages allow. Pages with no access keep their frames.
    ///
    /// # Safety
    /// [`map`](Self::map) mapped the pages, and nothing relies on the access that they lose.
    unsafe fn protect(&self, pages: Range<usize>, protection: Protection) -> Result<(), Error>;

    /// Unmaps pages. Then, when no core can reach the frames through them any more, shows each frame to
    /// `released`.
    ///
    /// # Safety
    /// [`map`](Self::map) mapped the pages, and nothing uses them.
    unsafe fn unmap(&self, pages: Range<usize>, released: &mut dyn FnMut(usize)) -> Result<(), Error>;

    /// The frame that a mapped page shows.
    fn frame(&self, page: usize) -> Option<usize>;

    /// The mapping that contains an address, or the next one: of anybody's, the kernel's own included.
    fn next(&self, from: usize) -> Option<Mapping>;
}
