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

/// A read gives its claim back after so many bytes: who waits for the region waits for one piece at most.
const PIECE: usize = 1 << 20;

/// The end of a text is looked for in pieces of at most so many bytes.
const TEXT_PIECE: usize = 1024;

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
        let access = match self.space.policy.get(self.space.platform) {
            // Two flips of one page would undo each other.
            Ok(Policy::Toggle) => Access::Exclusive,
            _ => Access::Shared,
        };
        let claim = self.space.claim_to_write(Wanted::Bytes(address as usize, span), access)?;
        let region = *claim.region();
        let mut copied = Ok(());
        let mut copy_to = |target: usize| {
            // SAFETY: `source` by the caller; the destination is inside the claimed region, and each way
            // below makes it writable first.
            copied = unsafe { self.space.copy_from(source, target, span.length()) };
        };
        let way = self.way_to_write(&claim, span)?;
        if region.has_several_views() {
            self.space.write_for_child(span.start(), span.length(), &mut copy_to)?;
        }
        match way {
            Way::Directly if region.kind == Kind::File => {
                self.check_presence(span, true)?;
                // SAFETY: `source` by the caller; the destination is writable and stays mapped while it is claimed.
                unsafe {
                    self.space.platform.copy_guarded(
                        source.expose_provenance(),
                        span.start(),
                        span.length(),
                    )?;
                }
            }
            Way::Directly => copy_to(span.start()),
            Way::ThroughView => copy_to(region.writable_view + (span.start() - region.base)),
            Way::BySwitch => self.space.platform.with_jit_writes(&mut || copy_to(span.start())),
            // SAFETY: the pages are the claimed region's, and under policy `toggle` the claim is exclusive.
            Way::ByFlip => unsafe {
                self.space.flip(span.pages(self.page_size()), &mut || copy_to(span.start()))?;
            },
        }
        copied.map(|()| span.length())
    }

    /// As [`write`](Self::write), with the bytes of a byte-array value.
    pub fn write_value(&self, address: i64, code: RtValue, offset: i64) -> Result<usize, Error> {
        let (source, length) = self.values.borrow_bytes(code)?;
        // SAFETY: the value's operations lend `length` readable bytes.
        unsafe { self.write(address, source, length, offset) }
    }

    /// An empty range is fine at every offset of a live region, its end included.
    fn check_empty(&self, address: i64, offset: i64) -> Result<(), Error> {
        self.rest_of(address, offset).map(|_| ())
    }

    /// What is left of the region that holds `address`, from `offset` on: `None` at its end.
    fn rest_of(&self, address: i64, offset: i64) -> Result<Option<Span>, Error> {
        let first = Span::new(address, 1)?;
        let offset = usize::try_from(offset).map_err(|_| Error::InvalidArgument)?;
        let claim = self.space.registry.claim(
            Wanted::Bytes(first.start(), first),
            Access::Shared,
            self.space.platform,
        )?;
        let left = claim.region().requested().end() - first.start();
        match left.checked_sub(offset) {
            None => Err(Error::NotOwned),
            Some(0) => Ok(None),
            Some(rest) => Ok(Some(Span::from_parts(first.start() + offset, rest))),
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
        match self.space.policy.get(self.space.platform)? {
            Policy::Dual if claim.region().writable_view != 0 => Ok(Way::ThroughView),
            Policy::Toggle => Ok(Way::ByFlip),
            Policy::Jit => Ok(Way::BySwitch),
            _ => Err(Error::WrongProtection),
        }
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
        let claim = self.claim_to_read(address as usize, span, span)?;
        if claim.region().kind == Kind::File {
            self.check_presence(span, false)?;
        }
        drop(claim);
        // SAFETY: `target` by the caller.
        unsafe { self.copy_out(address as usize, span, target) }?;
        Ok(span.length())
    }

    /// Brings a mapped file's pages in before several of them are copied, so that a file which is too short is
    /// noticed while nothing has been. Of a single page all is copied or nothing.
    fn check_presence(&self, span: Span, for_write: bool) -> Result<(), Error> {
        let pages = span.pages(self.page_size());
        if pages.length() == self.page_size() {
            return Ok(());
        }
        // SAFETY: the pages belong to a claimed region; populating changes no contents.
        unsafe { self.space.platform.request(pages, PageRequest::Populate { for_write }) }
    }

    /// A byte-array value with a copy of `length` bytes at `address + offset`.
    pub fn read_bytes(&self, address: i64, offset: i64, length: i64) -> Result<RtValue, Error> {
        if length == 0 {
            self.check_empty(address, offset)?;
            return Ok(self.values.empty_bytes());
        }
        let span = Span::at_offset(address, offset, length)?;
        // Nothing is allocated for what can't be read.
        drop(self.claim_to_read(address as usize, span, span)?);
        let mut draft = self.values.draft(span.length())?;
        // SAFETY: the draft is as long as the span, and is written in full.
        unsafe {
            self.copy_out(address as usize, span, draft.start())?;
            draft.into_bytes()
        }
    }

    /// A string value with a copy of the text at `address + offset`: at most `max_length` bytes of it,
    /// or, for 0, up to the first NUL; in both cases up to the region's end.
    pub fn read_string(&self, address: i64, offset: i64, max_length: i64) -> Result<RtValue, Error> {
        if max_length < 0 {
            return Err(Error::InvalidArgument);
        }
        let Some(rest) = self.rest_of(address, offset)? else {
            return Ok(self.values.empty_string());
        };
        let address = address as usize;
        let length = match max_length {
            0 => self.text_length(address, rest)?,
            most => rest.length().min(most as usize),
        };
        if length == 0 {
            return Ok(self.values.empty_string());
        }
        let text = Span::from_parts(rest.start(), length);
        drop(self.claim_to_read(address, text, text)?);
        let mut draft = self.values.draft(length)?;
        // SAFETY: the draft is as long as the text, and is written in full.
        unsafe {
            self.copy_out(address, text, draft.start())?;
            draft.into_string()
        }
    }

    /// Bytes before the first NUL. Pages behind it need not be readable.
    fn text_length(&self, address: usize, rest: Span) -> Result<usize, Error> {
        let mut buffer = [0u8; TEXT_PIECE];
        let mut at = rest.start();
        while at < rest.end() {
            let page_end = Span::from_parts(at, 1).pages(self.page_size()).end();
            let piece = Span::from_parts(at, TEXT_PIECE.min(page_end.min(rest.end()) - at));
            // SAFETY: the buffer has room for a piece.
            unsafe { self.copy_out(address, piece, buffer.as_mut_ptr()) }?;
            let bytes = buffer.get(..piece.length()).unwrap_or_default();
            if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
                return Ok(at + end - rest.start());
            }
            at = piece.end();
        }
        Ok(rest.length())
    }

    /// Copies a range of the region that holds `address` to `target`. What fails may have copied some of it.
    ///
    /// # Safety
    /// `target` is writable for the span's length.
    unsafe fn copy_out(&self, address: usize, span: Span, target: *mut u8) -> Result<(), Error> {
        let mut done = 0;
        while done < span.length() {
            let piece = Span::from_parts(span.start() + done, PIECE.min(span.length() - done));
            let claim = self.claim_to_read(address, span, piece)?;
            let target = target.wrapping_add(done);
            // SAFETY: the piece is readable and stays mapped while the claim is held; `target` by the caller.
            unsafe {
                // The caller's own bytes may be a mapped file's too.
                if claim.region().kind == Kind::File || self.space.may_be_files(target.addr()) {
                    let target = target.expose_provenance();
                    self.space.platform.copy_guarded(piece.start(), target, piece.length())?;
                } else {
                    ptr::copy(ptr::with_exposed_provenance(piece.start()), target, piece.length());
                }
            }
            done += piece.length();
        }
        Ok(())
    }

    /// Claims the region that holds an address and `whole`, if what is read of it is readable.
    fn claim_to_read(&self, address: usize, whole: Span, read: Span) -> Result<Claim<'_, P>, Error> {
        let claim =
            self.space.registry.claim(Wanted::Bytes(address, whole), Access::Shared, self.space.platform)?;
        match claim.all_pages(read, |page| page.contains(Protection::READ)) {
            true => Ok(claim),
            false => Err(Error::WrongProtection),
        }
    }
}
