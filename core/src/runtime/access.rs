//! Copying bytes into and out of regions.

use super::Runtime;
use crate::error::{Error, Result};
use crate::header::RtValue;
use crate::platform::{PageRequest, Platform};
use crate::policy::Policy;
use crate::protection::Protection;
use crate::registry::{Access, Claim, Kind, Wanted};
use crate::span::Span;
use crate::value::Draft;
use core::ptr;

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
    pub unsafe fn write(&self, address: i64, source: *const u8, length: i64, offset: i64) -> Result<usize> {
        let Some(span) = self.part(address, offset, length)? else { return Ok(0) };
        if source.is_null() {
            return Err(Error::InvalidArgument);
        }
        let access = match self.space.policy.get(self.space.platform) {
            // Two flips of one page would undo each other.
            Ok(Policy::Toggle) => Access::Exclusive,
            _ => Access::Shared,
        };
        let claim = self.space.claim_to_write(Wanted::Bytes(address as usize, span), access);
        // Where it is: a claim is long to move, in a write of a few bytes.
        let claim = claim.as_ref().map_err(|error| *error)?;
        let region = claim.region();
        let policy = self.policy_of_write(claim, span)?;
        let (pages, mut copied) = (region.pages(self.page_size()), Ok(()));
        let mut copy_to = |target: usize| {
            // SAFETY: the caller lends `source`. The target shows bytes of the region, which the claim keeps mapped,
            // and is writable when each of the calls below gets here; so is, or can be read, what lies beside it.
            copied = unsafe { self.space.copy_into(pages, span.start(), source, target, span.length()) };
        };
        if region.has_several_views() {
            self.space.write_for_child(span.start(), span.length(), &mut copy_to)?;
        }
        match policy {
            None if region.kind == Kind::File => {
                self.check_presence(span, true)?;
                let source = source.expose_provenance();
                // SAFETY: the caller lends `source`; the pages are writable, and the claim keeps them mapped.
                unsafe { self.space.platform.copy_guarded(source, span.start(), span.length()) }?;
            }
            Some(Policy::Dual) => {
                let view = region.writable_view + (span.start() - region.base);
                self.space.platform.with_view_writes(&mut || copy_to(view));
            }
            // SAFETY: the pages are the region's, and under this policy the claim is exclusive.
            Some(Policy::Toggle) => unsafe {
                self.space.flip(span.pages(self.page_size()), &mut || copy_to(span.start()))?;
            },
            Some(Policy::Jit) => self.space.platform.with_jit_writes(&mut || copy_to(span.start())),
            _ => copy_to(span.start()),
        }
        copied.map(|()| span.length())
    }

    /// As [`write`](Self::write), with the bytes of a byte-array value.
    pub fn write_value(&self, address: i64, code: RtValue, offset: i64) -> Result<usize> {
        let (source, length) = self.values.borrow_bytes(code)?;
        // SAFETY: the store, or the operation that the runtime registered, lends so many bytes.
        unsafe { self.write(address, source, length, offset) }
    }

    /// The policy by which code is written that the caller could not store to; `None`: all pages are writable.
    fn policy_of_write(&self, claim: &Claim<'_, P>, span: Span) -> Result<Option<Policy>> {
        if claim.all_pages(span, &|page| page.contains(Protection::WRITE)) {
            return Ok(None);
        }
        // Code memory can be written under its policy as long as it is code, or already writable.
        let is_code = |page: Protection| page.intersects(Protection::EXEC | Protection::WRITE);
        if claim.region().kind != Kind::Code || !claim.all_pages(span, &is_code) {
            return Err(Error::WrongProtection);
        }
        match self.policy()? {
            Policy::Dual if claim.region().writable_view == 0 => Err(Error::WrongProtection),
            policy @ (Policy::Dual | Policy::Toggle | Policy::Jit) => Ok(Some(policy)),
            Policy::Auto | Policy::Rwx => Err(Error::WrongProtection),
        }
    }

    /// Copies `length` bytes at `address + offset` to `target`. Returns the number of bytes.
    ///
    /// # Safety
    /// `target` is writable for `length` bytes.
    pub unsafe fn read_into(&self, address: i64, offset: i64, target: *mut u8, length: i64) -> Result<usize> {
        let Some(span) = self.part(address, offset, length)? else { return Ok(0) };
        if target.is_null() {
            return Err(Error::InvalidArgument);
        }
        let claim = self.claim_to_read(address as usize, span, span)?;
        if claim.region().kind == Kind::File {
            self.check_presence(span, false)?;
        }
        drop(claim);
        // SAFETY: the caller lends `target`, which has room for the span.
        unsafe { self.copy_out(address as usize, span, target) }?;
        Ok(span.length())
    }

    /// A byte-array value with a copy of `length` bytes at `address + offset`.
    pub fn read_bytes(&self, address: i64, offset: i64, length: i64) -> Result<RtValue> {
        match self.part(address, offset, length)? {
            Some(span) => self.draft(address as usize, span)?.into_bytes(),
            None => Ok(self.values.empty_bytes()),
        }
    }

    /// A string value with a copy of the text at `address + offset`: at most `max_length` bytes of it,
    /// or, for 0, up to the first NUL; in both cases up to the region's end.
    pub fn read_string(&self, address: i64, offset: i64, max_length: i64) -> Result<RtValue> {
        if max_length < 0 {
            return Err(Error::InvalidArgument);
        }
        let rest = self.rest_of(address, offset)?;
        let length = match (rest, max_length) {
            (None, _) => 0,
            (Some(rest), 0) => self.text_length(address as usize, rest)?,
            (Some(rest), most) => rest.length().min(most as usize),
        };
        match rest.filter(|_| length > 0) {
            Some(rest) => self.draft(address as usize, Span::from_parts(rest.start(), length))?.into_string(),
            None => Ok(self.values.empty_string()),
        }
    }

    /// A copy of a range of the region that holds `address`, to become a value. Nothing is allocated for what can't
    /// be read.
    fn draft(&self, address: usize, span: Span) -> Result<Draft<'_, P>> {
        drop(self.claim_to_read(address, span, span)?);
        let mut draft = self.values.draft(span.length())?;
        // SAFETY: the draft is as long as the span.
        unsafe { self.copy_out(address, span, draft.bytes().as_mut_ptr()) }?;
        Ok(draft)
    }

    /// The bytes to be copied. `None`: there are none, which is fine at every offset of a live region, its end
    /// included.
    fn part(&self, address: i64, offset: i64, length: i64) -> Result<Option<Span>> {
        match length {
            0 => self.rest_of(address, offset).map(|_| None),
            _ => Span::at_offset(address, offset, length).map(Some),
        }
    }

    /// What is left of the region that holds `address`, from `offset` on: `None` at its end.
    fn rest_of(&self, address: i64, offset: i64) -> Result<Option<Span>> {
        let first = Span::new(address, 1)?;
        let offset = usize::try_from(offset).map_err(|_| Error::InvalidArgument)?;
        let wanted = Wanted::Bytes(first.start(), first);
        let claim = self.space.registry.claim(wanted, Access::Shared)?;
        let left = claim.region().requested().end() - first.start();
        let rest = left.checked_sub(offset).ok_or(Error::NotOwned)?;
        Ok((rest > 0).then(|| Span::from_parts(first.start() + offset, rest)))
    }

    /// Bytes before the first NUL. Pages behind it need not be readable.
    fn text_length(&self, address: usize, rest: Span) -> Result<usize> {
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

    /// Brings a mapped file's pages in before several of them are copied, so that a file which is too short is
    /// noticed while nothing has been. Of a single page all is copied or nothing.
    fn check_presence(&self, span: Span, for_write: bool) -> Result {
        let pages = span.pages(self.page_size());
        if pages.length() == self.page_size() {
            return Ok(());
        }
        // SAFETY: the callers have claimed the pages' region; populating changes no contents.
        unsafe { self.space.platform.request(pages, PageRequest::Populate { for_write }) }
    }

    /// Copies a range of the region that holds `address` to `target`. What fails may have copied some of it.
    ///
    /// # Safety
    /// `target` is writable for the span's length.
    unsafe fn copy_out(&self, address: usize, span: Span, target: *mut u8) -> Result {
        for done in (0..span.length()).step_by(PIECE) {
            let piece = Span::from_parts(span.start() + done, PIECE.min(span.length() - done));
            let claim = self.claim_to_read(address, span, piece)?;
            let target = target.wrapping_add(done);
            // SAFETY: the piece is readable, and the claim keeps it mapped; the caller lends `target`.
            unsafe {
                // The caller's own bytes may be a mapped file's too.
                if claim.region().kind == Kind::File || self.space.may_be_files(target.addr()) {
                    let target = target.expose_provenance();
                    self.space.platform.copy_guarded(piece.start(), target, piece.length())?;
                } else {
                    ptr::copy(ptr::with_exposed_provenance(piece.start()), target, piece.length());
                }
            }
        }
        Ok(())
    }

    /// Claims the region that holds an address and `whole`, if what is read of it is readable.
    fn claim_to_read(&self, address: usize, whole: Span, read: Span) -> Result<Claim<'_, P>> {
        let wanted = Wanted::Bytes(address, whole);
        let claim = self.space.registry.claim(wanted, Access::Shared)?;
        match claim.all_pages(read, &|page| page.contains(Protection::READ)) {
            true => Ok(claim),
            false => Err(Error::WrongProtection),
        }
    }
}
