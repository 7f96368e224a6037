//! Copying bytes into and out of regions.

use super::Runtime;
use crate::error::Error;
use crate::platform::{PageRequest, Platform};
use crate::policy::Policy;
use crate::protection::Protection;
use crate::registry::{Access, Claim, Kind, Wanted};
use crate::span::Span;
use crate::value::RtValue;
use core::ptr;

/// How bytes get into the pages of a range.
enum Way {
    /// The pages are writable.
    Directly,
    /// Through the second, read-write view.
    ThroughView,
    /// By a flip to read-write and back.
    ByFlip,
    /// While this thread's write switch is on.
    BySwitch,
}

/// File pages are brought in and copied in pieces of this many bytes: a file that shrinks between the
/// two steps is noticed by the next piece.
const PIECE: usize = 1 << 20;

impl<P: Platform> Runtime<P> {
    /// Copies `length` bytes from `source` to `address + offset`. The whole write fits into one region,
    /// or nothing is written. Returns the number of bytes.
    ///
    /// # Safety
    /// `source` is readable for `length` bytes.
    pub unsafe fn write(
        &self,
        address: i64,
        source: *const u8,
        length: i64,
        offset: i64,
    ) -> Result<usize, Error> {
        if length == 0 {
            return self.check_empty(address, offset).map(|()| 0);
        }
        let span = Span::at_offset(address, offset, length)?;
        if source.is_null() {
            return Err(Error::InvalidArgument);
        }
        let access = match self.policy.get(self.platform) {
            // Two flips of one page would undo each other.
            Ok(Policy::Toggle) => Access::Exclusive,
            _ => Access::Shared,
        };
        let claim = self.registry.claim(Wanted::Bytes(address as usize, span), access, self.platform)?;
        let region = *claim.region();
        // SAFETY: `source` by the caller; the destination is inside the claimed region, and each way
        // below makes it writable first. `copy` allows that the two overlap.
        let copy_to = |target: usize| unsafe {
            ptr::copy(source, ptr::with_exposed_provenance_mut(target), span.length());
        };
        match self.way_to_write(&claim, span)? {
            Way::Directly => {
                if region.kind == Kind::File {
                    self.populate(span, true)?;
                }
                copy_to(span.start());
            }
            Way::ThroughView => copy_to(region.writable_view + (span.start() - region.base)),
            Way::BySwitch => self.platform.with_jit_writes(&mut || copy_to(span.start())),
            // The claim is exclusive.
            Way::ByFlip => self.flip(span.pages(self.page_size()), &mut || copy_to(span.start()))?,
        }
        Ok(span.length())
    }

    /// As [`write`](Self::write), with the bytes of a byte-array value.
    pub fn write_value(&self, address: i64, code: RtValue, offset: i64) -> Result<usize, Error> {
        let (source, length) = self.values.borrow_bytes(code)?;
        // SAFETY: the value's operations lend `length` readable bytes.
        unsafe { self.write(address, source, length, offset) }
    }

    /// An empty range is fine at every offset of a live region, its end included.
    fn check_empty(&self, address: i64, offset: i64) -> Result<(), Error> {
        self.claim_rest(address, offset).map(|_| ())
    }

    /// Claims the region that holds `address`, and gives what is left of it from `offset` on: `None` at
    /// its end.
    fn claim_rest(&self, address: i64, offset: i64) -> Result<(Claim<'_, P>, Option<Span>), Error> {
        let first = Span::new(address, 1)?;
        let offset = usize::try_from(offset).map_err(|_| Error::InvalidArgument)?;
        let claim =
            self.registry.claim(Wanted::Bytes(first.start(), first), Access::Shared, self.platform)?;
        let left = claim.region().requested().end() - first.start();
        match left.checked_sub(offset) {
            None => Err(Error::NotOwned),
            Some(0) => Ok((claim, None)),
            Some(rest) => Ok((claim, Some(Span::from_parts(first.start() + offset, rest)))),
        }
    }

    fn way_to_write(&self, claim: &Claim<'_, P>, span: Span) -> Result<Way, Error> {
        if claim.all_pages(span, |page| page.contains(Protection::WRITE)) {
            return Ok(Way::Directly);
        }
        // Code memory can be written under its policy as long as it is code, or already writable.
        let is_code = |page: Protection| page.intersects(Protection::EXEC | Protection::WRITE);
        if claim.region().kind != Kind::Code || !claim.all_pages(span, is_code) {
            return Err(Error::WrongProtection);
        }
        match self.policy.get(self.platform)? {
            Policy::Dual if claim.region().writable_view != 0 => Ok(Way::ThroughView),
            Policy::Toggle => Ok(Way::ByFlip),
            Policy::Jit => Ok(Way::BySwitch),
            _ => Err(Error::WrongProtection),
        }
    }

    /// Writes while pages, which the caller alone may change now, are read-write. If they can't be made what
    /// they were again they stay read-write, and the registry says so.
    pub(crate) fn flip(&self, pages: Span, write: &mut dyn FnMut()) -> Result<(), Error> {
        let registry = &self.registry;
        registry.prepare(pages, self.platform)?;
        // SAFETY: the pages are a region's, and the caller's alone.
        let protect = |pages, protection| unsafe { self.platform.protect(pages, protection) };
        if let Err(error) = protect(pages, Protection::RW) {
            for (run, page) in registry.runs(pages.range()) {
                let _ = protect(Span::from_parts(run.start, run.len()), page.protection);
            }
            return Err(error);
        }
        write();
        let mut result = Ok(());
        for (run, page) in registry.runs(pages.range()) {
            let run = Span::from_parts(run.start, run.len());
            // The bytes can't be taken back any more, so a momentary shortage gets a second chance.
            let again = |_| protect(run, page.protection);
            if let Err(error) = protect(run, page.protection).or_else(again) {
                registry.record(run, Protection::RW);
                result = Err(error);
            }
        }
        result
    }

    /// Copies `length` bytes at `address + offset` to `target`. Returns the number of bytes.
    ///
    /// # Safety
    /// `target` is writable for `length` bytes.
    pub unsafe fn read_into(
        &self,
        address: i64,
        offset: i64,
        target: *mut u8,
        length: i64,
    ) -> Result<usize, Error> {
        if length == 0 {
            return self.check_empty(address, offset).map(|()| 0);
        }
        let span = Span::at_offset(address, offset, length)?;
        if target.is_null() {
            return Err(Error::InvalidArgument);
        }
        let claim = self.claim_to_read(address, span)?;
        let is_file = claim.region().kind == Kind::File;
        let mut done = 0;
        while done < span.length() {
            let piece = Span::from_parts(span.start() + done, PIECE.min(span.length() - done));
            if is_file {
                self.populate(piece, false)?;
            }
            // SAFETY: the piece is readable and stays mapped while the claim is held; `target` by the caller.
            unsafe {
                ptr::copy(ptr::with_exposed_provenance(piece.start()), target.add(done), piece.length())
            };
            done += piece.length();
        }
        Ok(done)
    }

    /// A byte-array value with a copy of `length` bytes at `address + offset`.
    pub fn read_bytes(&self, address: i64, offset: i64, length: i64) -> Result<RtValue, Error> {
        if length == 0 {
            self.check_empty(address, offset)?;
            return Ok(self.values.empty_bytes());
        }
        let span = Span::at_offset(address, offset, length)?;
        let claim = self.claim_to_read(address, span)?;
        if claim.region().kind == Kind::File {
            self.populate(span, false)?;
        }
        // SAFETY: the span is readable and stays mapped while the claim is held.
        unsafe { self.values.make_bytes(ptr::with_exposed_provenance(span.start()), length) }
    }

    /// A string value with a copy of the text at `address + offset`: at most `max_length` bytes of it,
    /// or, for 0, up to the first NUL; in both cases up to the region's end.
    pub fn read_string(&self, address: i64, offset: i64, max_length: i64) -> Result<RtValue, Error> {
        if max_length < 0 {
            return Err(Error::InvalidArgument);
        }
        let (claim, Some(rest)) = self.claim_rest(address, offset)? else {
            return Ok(self.values.empty_string());
        };
        let length = match max_length {
            0 => self.text_length(&claim, rest)?,
            most => rest.length().min(most as usize),
        };
        if length == 0 {
            return Ok(self.values.empty_string());
        }
        let text = Span::from_parts(rest.start(), length);
        self.check_readable(&claim, text)?;
        if claim.region().kind == Kind::File {
            self.populate(text, false)?;
        }
        // SAFETY: the span is readable and stays mapped while the claim is held.
        unsafe { self.values.make_string_lossy(ptr::with_exposed_provenance(text.start()), length) }
    }

    /// Bytes before the first NUL, looked for page by page: pages behind it need not be readable.
    fn text_length(&self, claim: &Claim<'_, P>, rest: Span) -> Result<usize, Error> {
        let mut at = rest.start();
        while at < rest.end() {
            let page_end = Span::from_parts(at, 1).pages(self.page_size()).end();
            let piece = Span::from_parts(at, page_end.min(rest.end()) - at);
            self.check_readable(claim, piece)?;
            if claim.region().kind == Kind::File {
                self.populate(piece, false)?;
            }
            for address in piece.range() {
                // SAFETY: readable and mapped, as above. Volatile: a shared mapping may change at any time.
                let byte = unsafe { ptr::with_exposed_provenance::<u8>(address).read_volatile() };
                if byte == 0 {
                    return Ok(address - rest.start());
                }
            }
            at = piece.end();
        }
        Ok(rest.length())
    }

    fn claim_to_read(&self, address: i64, span: Span) -> Result<Claim<'_, P>, Error> {
        let claim =
            self.registry.claim(Wanted::Bytes(address as usize, span), Access::Shared, self.platform)?;
        self.check_readable(&claim, span)?;
        Ok(claim)
    }

    fn check_readable(&self, claim: &Claim<'_, P>, span: Span) -> Result<(), Error> {
        match claim.all_pages(span, |page| page.contains(Protection::READ)) {
            true => Ok(()),
            false => Err(Error::WrongProtection),
        }
    }

    /// Brings file pages in, so that an access can't fault where the file has shrunk.
    fn populate(&self, span: Span, for_write: bool) -> Result<(), Error> {
        let pages = span.pages(self.page_size());
        // SAFETY: the pages belong to a claimed region; populating changes no contents.
        unsafe { self.platform.request(pages, PageRequest::Populate { for_write }) }
    }
}
