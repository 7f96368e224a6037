//! Calling code by its address, and questions about any address.

use super::Runtime;
use crate::error::{Error, Result};
use crate::icache::{INSTRUCTION_ALIGNMENT, is_landing_pad};
use crate::platform::Platform;
use crate::protection::{Hardening, Protection};
use core::mem::transmute;
use core::ops::ControlFlow;

/// The most arguments that a call can have: so many go in registers on every supported architecture.
pub(crate) const MAX_ARGUMENTS: i64 = 6;

impl<P: Platform> Runtime<P> {
    /// The protection of the page at any address: from the registry if it is ours, else from the system.
    /// `None`: nothing is mapped there. Takes no lock.
    pub fn protection_at(&self, address: i64) -> Result<Option<Protection>> {
        if address <= 0 {
            return Err(Error::InvalidArgument);
        }
        let address = address as usize;
        if let Some(page) = self.space.registry.page(address) {
            return Ok(Some(page.protection));
        }
        let mut found = None;
        self.space.platform.mappings(address, &mut |mapping| {
            if mapping.start <= address {
                found = Some(mapping.protection);
            }
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Whether an address can be executed: its page allows it and is not a further view that only the library
    /// uses; if it is a code heap's, a live block holds the address. Takes no lock.
    pub fn is_executable(&self, address: i64) -> Result<bool> {
        if address <= 0 {
            return Ok(false);
        }
        if let Some(page) = self.space.registry.page(address as usize) {
            let is_code = page.protection.contains(Protection::EXEC) && !page.is_other_view;
            return Ok(is_code && (page.chunk == 0 || self.find_block(address).is_some()));
        }
        let found = self.protection_at(address)?;
        Ok(found.is_some_and(|protection| protection.contains(Protection::EXEC)))
    }

    /// Whether a call of what can be executed at an address finds a landing pad, or needs none. Of pages that can't be
    /// read nobody knows.
    fn accepts_call(&self, address: usize) -> bool {
        const LOOKED_AT: Protection = Protection::READ.union(Protection::BTI);
        if !P::HARDENING.contains(Hardening::BTI)
            || !self.space.registry.page(address).is_some_and(|page| page.protection.contains(LOOKED_AT))
        {
            return true;
        }
        let first = core::ptr::with_exposed_provenance::<u32>(address);
        // SAFETY: an instruction starts there, as the caller has checked, on a page of ours that can be read. That nobody
        // frees it before the call is over, the one who calls it promises.
        is_landing_pad(unsafe { first.read_volatile() })
    }

    /// Calls the function at an address in the C convention, with up to six integers.
    /// An address that isn't executable as far as the system tells, or not a multiple of the instruction alignment, or
    /// without the landing pad that its page asks for, fails with *not executable* before anything is jumped to.
    ///
    /// # Safety
    /// If the address is executable there is a function of so many integer arguments, and there it stays until it
    /// returns.
    pub unsafe fn call(&self, function: i64, arguments: &[i64]) -> Result<i64> {
        if !function.is_positive()
            || !(function as usize).is_multiple_of(INSTRUCTION_ALIGNMENT)
            || !self.is_executable(function).unwrap_or(false)
            || !self.accepts_call(function as usize)
        {
            return Err(Error::NotExecutable);
        }
        let code = core::ptr::with_exposed_provenance::<()>(function as usize);
        macro_rules! call {
            ($($argument:ident: $type:ty),*) => {
                // SAFETY: the address was executable a moment ago. The caller says that then there is a function of so
                // many integers, and that nobody frees or changes it before it has returned.
                unsafe { transmute::<*const (), extern "C" fn($($type),*) -> i64>(code)($($argument),*) }
            };
        }
        Ok(match *arguments {
            [] => call!(),
            [a] => call!(a: i64),
            [a, b] => call!(a: i64, b: i64),
            [a, b, c] => call!(a: i64, b: i64, c: i64),
            [a, b, c, d] => call!(a: i64, b: i64, c: i64, d: i64),
            [a, b, c, d, e] => call!(a: i64, b: i64, c: i64, d: i64, e: i64),
            [a, b, c, d, e, f] => call!(a: i64, b: i64, c: i64, d: i64, e: i64, f: i64),
            _ => return Err(Error::InvalidArgument),
        })
    }
}
