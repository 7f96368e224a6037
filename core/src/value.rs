//! Values of the language runtime in front of us, made and read through a table of its operations.
//!
//! Until a runtime registers its own table, a built-in store serves. Operations run without any of our locks or
//! claims: they may call this library, and wait for threads that do. So what becomes a value is copied into a
//! `Draft` first, which belongs to nobody else.

mod blocks;
mod store;

use crate::error::Error;
use crate::lock::Lock;
use crate::platform::Platform;
use core::ptr;
use store::{Sort, Store};

/// A 64-bit word that belongs to the language runtime. This library never looks inside one.
pub type RtValue = u64;

/// Makes a value from `length` bytes at `data`, which are only lent for the call.
pub type MakeValue = unsafe extern "C" fn(data: *const u8, length: i64) -> RtValue;

/// Lends the bytes of a byte array: true, with the pointer and length filled in; or false.
pub type BorrowBytes = unsafe extern "C" fn(value: RtValue, data: *mut *const u8, length: *mut i64) -> bool;

/// The three operations that a runtime supplies.
#[derive(Clone, Copy)]
pub struct ValueOperations {
    /// Makes a byte array.
    pub make_bytes: MakeValue,
    /// Makes a string; the bytes are valid UTF-8.
    pub make_string: MakeValue,
    /// Lends a byte array's bytes until the library's call returns, or refuses.
    pub borrow_bytes: BorrowBytes,
}

/// The built-in store's nil.
pub const NIL: RtValue = 0x3;

/// A draft for the runtime's own operations is on the stack if it is at most so long, else in pages.
const SMALL: usize = 512;

/// The registered operations, or the built-in store.
pub(crate) struct Values<P: Platform> {
    platform: P,
    operations: Lock<Option<ValueOperations>>,
    store: Lock<Store>,
}

/// Bytes that are about to become a value.
pub(crate) struct Draft<'a, P: Platform> {
    values: &'a Values<P>,
    operations: Option<ValueOperations>,
    small: [u8; SMALL],
    /// A block of the store, or pages for the runtime's own operations; null if the bytes are in `small`.
    block: *mut u8,
    length: usize,
}

impl<P: Platform> Draft<'_, P> {
    /// Where the bytes are to be written.
    pub(crate) fn start(&mut self) -> *mut u8 {
        if self.block.is_null() { self.small.as_mut_ptr() } else { self.block }
    }

    /// A byte array.
    ///
    /// # Safety
    /// All bytes were written.
    pub(crate) unsafe fn into_bytes(mut self) -> Result<RtValue, Error> {
        match self.operations {
            // SAFETY: the runtime registered this function for exactly this.
            Some(operations) => Ok(unsafe { (operations.make_bytes)(self.start(), self.length as i64) }),
            None => self.keep(Sort::Bytes),
        }
    }

    /// A string, with U+FFFD for what isn't UTF-8.
    ///
    /// # Safety
    /// All bytes were written.
    pub(crate) unsafe fn into_string(mut self) -> Result<RtValue, Error> {
        // SAFETY: the bytes are this draft's alone, and were written, by the caller's word.
        let bytes = unsafe { core::slice::from_raw_parts(self.start(), self.length) };
        if core::str::from_utf8(bytes).is_ok() {
            return self.into_valid_string();
        }
        let mut total = 0;
        for_each_piece(bytes, &mut |piece| total += piece.len());
        let mut text = self.values.draft(total)?;
        let mut end = text.start();
        for_each_piece(bytes, &mut |piece| {
            // SAFETY: the draft holds all pieces, one behind the other.
            unsafe {
                ptr::copy_nonoverlapping(piece.as_ptr(), end, piece.len());
                end = end.add(piece.len());
            }
        });
        text.into_valid_string()
    }

    fn into_valid_string(mut self) -> Result<RtValue, Error> {
        match self.operations {
            // SAFETY: the runtime registered this function for exactly this.
            Some(operations) => Ok(unsafe { (operations.make_string)(self.start(), self.length as i64) }),
            None => self.keep(Sort::Text),
        }
    }

    /// Leaves the block to the store.
    fn keep(mut self, sort: Sort) -> Result<RtValue, Error> {
        let Values { platform, ref store, .. } = *self.values;
        let value = store.lock(platform).insert(self.block, self.length, sort, platform)?;
        self.block = ptr::null_mut();
        Ok(value)
    }
}

impl<P: Platform> Drop for Draft<'_, P> {
    fn drop(&mut self) {
        let Values { platform, ref store, .. } = *self.values;
        if self.block.is_null() {
            return;
        }
        match self.operations {
            // SAFETY: mapped by `draft` for this length. If they can't be unmapped they are lost.
            Some(_) => _ = unsafe { platform.unmap(blocks::pages(self.block, self.length, platform)) },
            // SAFETY: taken by `draft` for this length, and nobody has seen it.
            None => unsafe { store.lock(platform).give_back(self.block, self.length, platform) },
        }
    }
}

/// Shows the parts of a text that are UTF-8 to `each`, and U+FFFD for what is between them: as many as
/// `String::from_utf8_lossy` makes.
fn for_each_piece(mut text: &[u8], each: &mut dyn FnMut(&[u8])) {
    while let Err(error) = core::str::from_utf8(text) {
        let (valid, rest) = text.split_at_checked(error.valid_up_to()).unwrap_or_default();
        each(valid);
        each("\u{fffd}".as_bytes());
        text = error.error_len().and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    each(text);
}

impl<P: Platform> Values<P> {
    pub(crate) const fn new(platform: P) -> Self {
        Self { platform, operations: Lock::new(None), store: Lock::new(Store::new()) }
    }

    pub(crate) fn set_operations(&self, operations: ValueOperations) {
        *self.operations.lock(self.platform) = Some(operations);
    }

    /// Takes both locks until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self) {
        self.operations.lock_for_fork(self.platform);
        self.store.lock_for_fork(self.platform);
    }

    /// # Safety
    /// This thread took the locks with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(crate) unsafe fn unlock_after_fork(&self) {
        // SAFETY: the caller says that the locks are its own.
        unsafe {
            self.store.unlock_after_fork(self.platform);
            self.operations.unlock_after_fork(self.platform);
        }
    }

    fn operations(&self) -> Option<ValueOperations> {
        *self.operations.lock(self.platform)
    }

    /// Room for the bytes of a value.
    pub(crate) fn draft(&self, length: usize) -> Result<Draft<'_, P>, Error> {
        let operations = self.operations();
        let block = match operations {
            Some(_) if length <= SMALL => ptr::null_mut(),
            Some(_) => blocks::map(length, self.platform)?,
            None => self.store.lock(self.platform).take(length, self.platform)?,
        };
        Ok(Draft { values: self, operations, small: [0; SMALL], block, length })
    }

    /// A byte array of bytes that the caller lends.
    ///
    /// # Safety
    /// `data` is readable for `length` bytes.
    pub(crate) unsafe fn make_bytes(&self, data: *const u8, length: i64) -> Result<RtValue, Error> {
        if let Some(operations) = self.operations() {
            // SAFETY: the runtime registered this function for exactly this.
            return Ok(unsafe { (operations.make_bytes)(data, length) });
        }
        let mut draft = self.draft(length as usize)?;
        // SAFETY: `data` by the caller; the draft is fresh and as long.
        unsafe {
            ptr::copy_nonoverlapping(data, draft.start(), length as usize);
            draft.into_bytes()
        }
    }

    /// An empty byte array; nil if even that can't be made.
    pub(crate) fn empty_bytes(&self) -> RtValue {
        // SAFETY: there is no byte.
        self.draft(0).and_then(|draft| unsafe { draft.into_bytes() }).unwrap_or(NIL)
    }

    /// An empty string; nil if even that can't be made.
    pub(crate) fn empty_string(&self) -> RtValue {
        self.draft(0).and_then(Draft::into_valid_string).unwrap_or(NIL)
    }

    /// The bytes of a byte array. For the runtime's own values the pointer is good until it gets control
    /// again; for the built-in store's until the value is freed.
    pub(crate) fn borrow_bytes(&self, value: RtValue) -> Result<(*const u8, i64), Error> {
        let Some(operations) = self.operations() else {
            return self.store.lock(self.platform).bytes_of(value);
        };
        let (mut data, mut length) = (ptr::null(), -1);
        // SAFETY: the runtime registered this function for exactly this.
        let lent = unsafe { (operations.borrow_bytes)(value, &mut data, &mut length) };
        if !lent || length < 0 || (data.is_null() && length > 0) {
            return Err(Error::BadValue);
        }
        Ok((data, length))
    }

    /// Data and length of a built-in value.
    pub(crate) fn data_of(&self, value: RtValue) -> Result<(*const u8, usize), Error> {
        self.store.lock(self.platform).data_of(value)
    }

    /// Releases a built-in value. A second time is a *bad value*.
    pub(crate) fn free(&self, value: RtValue) -> Result<(), Error> {
        self.store.lock(self.platform).free(value, self.platform)
    }
}
