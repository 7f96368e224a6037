//! Values of the language runtime in front of us, made and read through a table of its operations.
//!
//! Until a runtime registers its own table, a built-in store serves. Operations run without any of our locks or
//! claims: they may call this library, and wait for threads that do. So what becomes a value is copied into a
//! `Draft` first, which belongs to nobody else.

mod store;

use crate::error::{Error, Result};
use crate::header::{RT_VALUE_NIL, RtValue, RtValueOps};
use crate::lock::{Guard, Lock};
use crate::platform::Platform;
use core::ptr;
use store::{Buffer, Store};

/// The registered operations, or the built-in store.
pub(crate) struct Values<P: Platform> {
    platform: P,
    pub(crate) contents: Lock<Contents>,
}

pub(crate) struct Contents {
    /// A table that has all of them.
    operations: Option<RtValueOps>,
    store: Store,
}

/// Bytes that are about to become a value.
pub(crate) struct Draft<'a, P: Platform> {
    values: &'a Values<P>,
    operations: Option<RtValueOps>,
    buffer: Buffer,
}

impl<P: Platform> Draft<'_, P> {
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.buffer.bytes()
    }

    /// A byte array.
    pub(crate) fn into_bytes(self) -> Result<RtValue> {
        self.into_value(false)
    }

    /// A string, with U+FFFD for what isn't UTF-8: as many as `String::from_utf8_lossy` makes.
    pub(crate) fn into_string(mut self) -> Result<RtValue> {
        let values = self.values;
        let bytes = &*self.buffer.bytes();
        if core::str::from_utf8(bytes).is_ok() {
            return self.into_value(true);
        }
        let mut total = 0;
        for_each_piece(bytes, &mut |piece| total += piece.len());
        let mut text = values.draft(total)?;
        let mut target = text.bytes().iter_mut();
        for_each_piece(bytes, &mut |piece| {
            piece.iter().zip(&mut target).for_each(|(byte, target)| *target = *byte);
        });
        text.into_value(true)
    }

    fn into_value(mut self, is_text: bool) -> Result<RtValue> {
        let values = self.values;
        let make = |table: RtValueOps| if is_text { table.make_string } else { table.make_bytes };
        let Some(make) = self.operations.and_then(make) else {
            return values.lock().store.insert(self.buffer.take(), is_text, values.platform);
        };
        let bytes = self.buffer.bytes();
        // SAFETY: who registered the operation said that it makes a value of bytes that it is lent.
        Ok(unsafe { make(bytes.as_ptr(), bytes.len() as i64) })
    }
}

/// Shows the parts of a text that are UTF-8 to `each`, and U+FFFD for what is between them.
fn for_each_piece(mut text: &[u8], each: &mut dyn FnMut(&[u8])) {
    while let Err(error) = core::str::from_utf8(text) {
        let (valid, rest) = text.split_at_checked(error.valid_up_to()).unwrap_or_default();
        each(valid);
        each("\u{fffd}".as_bytes());
        text = error.error_len().and_then(|length| rest.get(length..)).unwrap_or_default();
    }
    each(text);
}

impl<P: Platform> Drop for Draft<'_, P> {
    fn drop(&mut self) {
        if !self.buffer.bytes().is_empty() {
            self.values.lock().store.give_back(self.buffer.take(), self.values.platform);
        }
    }
}

impl<P: Platform> Values<P> {
    pub(crate) const fn new(platform: P) -> Self {
        Self { platform, contents: Lock::new(Contents { operations: None, store: Store::new() }) }
    }

    fn lock(&self) -> Guard<'_, Contents, P> {
        self.contents.lock(self.platform)
    }

    /// Registers the operations of a table, which has all of them.
    ///
    /// # Safety
    /// They do what the table's fields say.
    pub(crate) unsafe fn set_operations(&self, table: RtValueOps) -> Result {
        let RtValueOps { make_bytes: Some(_), make_string: Some(_), borrow_bytes: Some(_), .. } = table
        else {
            return Err(Error::InvalidArgument);
        };
        self.lock().operations = Some(table);
        Ok(())
    }

    /// Room for the bytes of a value.
    pub(crate) fn draft(&self, length: usize) -> Result<Draft<'_, P>> {
        let mut contents = self.lock();
        let buffer = contents.store.take(length, self.platform)?;
        Ok(Draft { values: self, operations: contents.operations, buffer })
    }

    /// A byte array of bytes that the caller lends.
    ///
    /// # Safety
    /// `data` is readable for `length` bytes.
    pub(crate) unsafe fn make_bytes(&self, data: *const u8, length: i64) -> Result<RtValue> {
        let mut draft = self.draft(length as usize)?;
        // SAFETY: the caller lends so many bytes; the draft has as many, and is nobody else's.
        unsafe { ptr::copy_nonoverlapping(data, draft.bytes().as_mut_ptr(), length as usize) };
        draft.into_bytes()
    }

    /// An empty byte array; nil if even that can't be made.
    pub(crate) fn empty_bytes(&self) -> RtValue {
        self.draft(0).and_then(Draft::into_bytes).unwrap_or(RT_VALUE_NIL)
    }

    /// An empty string; nil if even that can't be made.
    pub(crate) fn empty_string(&self) -> RtValue {
        self.draft(0).and_then(Draft::into_string).unwrap_or(RT_VALUE_NIL)
    }

    /// The bytes of a byte array. For the runtime's own values the pointer is good until it gets control
    /// again; for the built-in store's until the value is freed.
    pub(crate) fn borrow_bytes(&self, value: RtValue) -> Result<(*const u8, i64)> {
        let contents = self.lock();
        let Some(borrow_bytes) = contents.operations.and_then(|table| table.borrow_bytes) else {
            let value = contents.store.get(value)?;
            return if value.is_text { Err(Error::BadValue) } else { Ok((value.data, value.length as i64)) };
        };
        drop(contents);
        let (mut data, mut length) = (ptr::null(), -1);
        // SAFETY: who registered the operation said that it fills in both, or refuses.
        let lent = unsafe { borrow_bytes(value, &mut data, &mut length) };
        if !lent || length < 0 || (data.is_null() && length > 0) {
            return Err(Error::BadValue);
        }
        Ok((data, length))
    }

    /// Data and length of a built-in value.
    pub(crate) fn data_of(&self, value: RtValue) -> Result<(*const u8, usize)> {
        self.lock().store.get(value).map(|value| (value.data.cast_const(), value.length))
    }

    /// Releases a built-in value. A second time is a *bad value*.
    pub(crate) fn free(&self, value: RtValue) -> Result {
        self.lock().store.free(value, self.platform)
    }
}
