//! Values of the language runtime in front of us, made and read through a table of its operations.
//!
//! Until a runtime registers its own table, a built-in store serves: its values are handles (a slot and
//! a generation, never a pointer), so that a stale or invented one is refused instead of followed.

mod blocks;

use crate::error::Error;
use crate::memory::{Index, Pool, Slots};
use crate::platform::Platform;
use blocks::Blocks;
use core::ptr;

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

/// Low bits of the built-in store's handles.
const TAG: u64 = 0b001;
const TAG_BITS: u32 = 3;
/// Generations wrap around after so many bits: what is left of a word beside the tag and the slot.
const GENERATION_MASK: u32 = (1 << 29) - 1;

/// Text is made valid UTF-8 in a buffer of this size, if it fits, else in pages of its own.
const SMALL_TEXT: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Bytes,
    Text,
}

#[derive(Clone, Copy)]
struct Stored {
    data: *mut u8,
    length: usize,
    sort: Sort,
}

/// The registered operations, or the built-in store.
pub(crate) struct Values<P: Platform> {
    platform: P,
    operations: spin::Mutex<Option<ValueOperations>>,
    store: spin::Mutex<Store>,
}

struct Store {
    blocks: Blocks,
    values: Slots<Stored>,
    pool: Pool,
}

// SAFETY: the store owns what its pointers point to.
unsafe impl Send for Stored {}

/// Bytes for the time of a call: on the stack if they are few, else in pages.
struct Buffer<P: Platform> {
    small: [u8; SMALL_TEXT],
    /// Pages, if it has any.
    pages: *mut u8,
    length: usize,
    platform: P,
}

impl<P: Platform> Buffer<P> {
    fn new(length: usize, platform: P) -> Result<Self, Error> {
        let pages = if length > SMALL_TEXT { blocks::map(length, platform)? } else { ptr::null_mut() };
        Ok(Self { small: [0; SMALL_TEXT], pages, length, platform })
    }

    fn start(&mut self) -> *mut u8 {
        if self.pages.is_null() { self.small.as_mut_ptr() } else { self.pages }
    }
}

impl<P: Platform> Drop for Buffer<P> {
    fn drop(&mut self) {
        if !self.pages.is_null() {
            // SAFETY: mapped by `new`, and the buffer is gone. If they can't be unmapped they are lost.
            let _ = unsafe { self.platform.unmap(blocks::pages(self.pages, self.length, self.platform)) };
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
        Self {
            platform,
            operations: spin::Mutex::new(None),
            store: spin::Mutex::new(Store { blocks: Blocks::new(), values: Slots::new(), pool: Pool::new() }),
        }
    }

    pub(crate) fn set_operations(&self, operations: ValueOperations) {
        *self.operations.lock() = Some(operations);
    }

    /// Takes both locks until [`unlock_after_fork`](Self::unlock_after_fork).
    pub(crate) fn lock_for_fork(&self) {
        core::mem::forget((self.operations.lock(), self.store.lock()));
    }

    /// # Safety
    /// This thread took the locks with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(crate) unsafe fn unlock_after_fork(&self) {
        // SAFETY: the caller says that the locks are its own.
        unsafe {
            self.store.force_unlock();
            self.operations.force_unlock();
        }
    }

    fn operations(&self) -> Option<ValueOperations> {
        *self.operations.lock()
    }

    /// # Safety
    /// `data` is readable for `length` bytes.
    pub(crate) unsafe fn make_bytes(&self, data: *const u8, length: i64) -> Result<RtValue, Error> {
        match self.operations() {
            // SAFETY: the runtime registered this function for exactly this.
            Some(operations) => Ok(unsafe { (operations.make_bytes)(data, length) }),
            // SAFETY: the caller's promise.
            None => unsafe { self.keep(data, length as usize, Sort::Bytes) },
        }
    }

    /// # Safety
    /// `data` is readable for `length` bytes, which are valid UTF-8.
    unsafe fn make_string(&self, data: *const u8, length: usize) -> Result<RtValue, Error> {
        match self.operations() {
            // SAFETY: the runtime registered this function for exactly this.
            Some(operations) => Ok(unsafe { (operations.make_string)(data, length as i64) }),
            // SAFETY: the caller's promise.
            None => unsafe { self.keep(data, length, Sort::Text) },
        }
    }

    /// An empty byte array; nil if even that can't be made.
    pub(crate) fn empty_bytes(&self) -> RtValue {
        // SAFETY: no byte is read.
        unsafe { self.make_bytes(ptr::dangling(), 0) }.unwrap_or(NIL)
    }

    /// An empty string; nil if even that can't be made.
    pub(crate) fn empty_string(&self) -> RtValue {
        // SAFETY: no byte is read.
        unsafe { self.make_string(ptr::dangling(), 0) }.unwrap_or(NIL)
    }

    /// A string of the bytes, with U+FFFD for what isn't UTF-8.
    ///
    /// # Safety
    /// `data` is readable for `length` bytes. They may change meanwhile: they are read once.
    pub(crate) unsafe fn make_string_lossy(&self, data: *const u8, length: usize) -> Result<RtValue, Error> {
        let mut copy = Buffer::new(length, self.platform)?;
        let copy = copy.start();
        // SAFETY: `data` by the caller; the buffer has `length` bytes and is ours.
        let bytes = unsafe {
            ptr::copy_nonoverlapping(data, copy, length);
            core::slice::from_raw_parts(copy, length)
        };
        if core::str::from_utf8(bytes).is_ok() {
            // SAFETY: just checked.
            return unsafe { self.make_string(copy, length) };
        }
        let mut total = 0;
        for_each_piece(bytes, &mut |piece| total += piece.len());
        let mut text = Buffer::new(total, self.platform)?;
        let text = text.start();
        let mut end = text;
        for_each_piece(bytes, &mut |piece| {
            // SAFETY: the buffer holds all pieces, one behind the other.
            unsafe {
                ptr::copy_nonoverlapping(piece.as_ptr(), end, piece.len());
                end = end.add(piece.len());
            }
        });
        // SAFETY: the pieces are strings.
        unsafe { self.make_string(text, total) }
    }

    /// The bytes of a byte array. For the runtime's own values the pointer is good until it gets control
    /// again; for the built-in store's until the value is freed.
    pub(crate) fn borrow_bytes(&self, value: RtValue) -> Result<(*const u8, i64), Error> {
        let Some(operations) = self.operations() else {
            return match self.stored(value) {
                Some(stored) if stored.sort == Sort::Bytes => Ok((stored.data, stored.length as i64)),
                _ => Err(Error::BadValue),
            };
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
        let stored = self.stored(value).ok_or(Error::BadValue)?;
        Ok((stored.data, stored.length))
    }

    /// Releases a built-in value. A second time is a *bad value*.
    pub(crate) fn free(&self, value: RtValue) -> Result<(), Error> {
        let mut store = self.store.lock();
        let index = store.find(value).ok_or(Error::BadValue)?;
        let stored = store.values.remove(index).ok_or(Error::BadValue)?;
        // SAFETY: `keep` took it for this length, and the value is gone.
        unsafe { store.blocks.give_back(stored.data, stored.length, self.platform) };
        Ok(())
    }

    fn stored(&self, value: RtValue) -> Option<Stored> {
        let store = self.store.lock();
        store.values.get(store.find(value)?).copied()
    }

    /// # Safety
    /// `data` is readable for `length` bytes.
    unsafe fn keep(&self, data: *const u8, length: usize, sort: Sort) -> Result<RtValue, Error> {
        let mut store = self.store.lock();
        let Store { blocks, values, pool } = &mut *store;
        let copy = blocks.take(length, self.platform)?;
        // SAFETY: `data` by the caller; the copy is fresh and large enough.
        unsafe { ptr::copy_nonoverlapping(data, copy, length) };
        match values.insert(Stored { data: copy, length, sort }, pool, self.platform) {
            Ok(index) => Ok(store.handle(index)),
            Err(error) => {
                // SAFETY: taken above for this length, and nobody has seen it.
                unsafe { blocks.give_back(copy, length, self.platform) };
                Err(error)
            }
        }
    }
}

impl Store {
    fn handle(&self, index: Index) -> RtValue {
        let generation = self.values.generation(index).unwrap_or(0) & GENERATION_MASK;
        (generation as u64) << 35 | (index as u64) << TAG_BITS | TAG
    }

    fn find(&self, value: RtValue) -> Option<Index> {
        let index = (value >> TAG_BITS) as Index;
        self.values.generation(index)?;
        (self.handle(index) == value).then_some(index)
    }
}
