//! Telling debuggers, profilers and unwinders of code.

use super::Runtime;
use super::unwind_records;
use crate::error::{Error, Result};
use crate::platform::{About, Platform};
use crate::registry::{Access, Wanted};
use crate::span::Span;
use core::ffi::CStr;

impl<P: Platform> Runtime<P> {
    /// Names code for debuggers and profilers: `size` bytes inside one live block or region.
    pub fn set_name(&self, address: i64, size: i64, name: &CStr) -> Result {
        let code = self.live_code(address, size)?;
        if name.is_empty() {
            return Err(Error::InvalidArgument);
        }
        // SAFETY: a name is copied.
        unsafe { self.space.platform.announce(code, About::Name(name.to_bytes())) }
    }

    /// Gives the process's unwinder the records of code, `length` bytes in the format of `.eh_frame`. Each of them is
    /// about a part of that code.
    ///
    /// # Safety
    /// The records are readable, true of this code, and stay as they are until they are replaced or the code was freed.
    pub unsafe fn set_unwind(&self, address: i64, size: i64, eh_frame: *const u8, length: i64) -> Result {
        let code = self.live_code(address, size)?;
        let records = Span::new(eh_frame.expose_provenance() as i64, length)?;
        // SAFETY: the caller lends so many bytes.
        if !unsafe { unwind_records::are_of(records, code) } {
            return Err(Error::InvalidArgument);
        }
        if self.find_block(address).is_none() {
            // Before the region is marked, which stays so.
            if !self.space.platform.can_unwind() {
                return Err(Error::Unsupported);
            }
            self.space.registry.claim(Wanted::Bytes(code.start(), code), Access::Shared)?.record_unwound()?;
        }
        // SAFETY: they are whole, and about this code alone; the caller's promise is passed on.
        unsafe { self.space.platform.announce(code, About::Frames(records)) }
    }

    /// A range inside one live block, or inside one region's requested size. That it stays so is the caller's promise.
    fn live_code(&self, address: i64, size: i64) -> Result<Span> {
        let code = Span::new(address, size)?;
        match self.find_block(address) {
            Some(block) if block.span().contains(code) => Ok(code),
            Some(_) => Err(Error::NotOwned),
            None => {
                let wanted = Wanted::Bytes(code.start(), code);
                self.space.registry.claim(wanted, Access::Shared).map(|_| code)
            }
        }
    }
}
