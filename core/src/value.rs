//! Values of the language runtime in front of us, made and read through a table of its operations.
//!
//! Until a runtime registers its own table, a built-in store serves: its values are handles (a slot and
//! a generation, never a pointer), so that a stale or invented one is refused instead of followed.

use crate::error::Error;
use crate::memory::{Index, Pool, Slots};
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::span::Span;
use core::ptr;
use dlmalloc::Dlmalloc;

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
    store: spin::Mutex<Store<P>>,
}

struct Store<P: Platform> {
    heap: Dlmalloc<Pages<P>>,
    values: Slots<Stored>,
    pool: Pool,
}

// SAFETY: the store owns what its pointers point to.
unsafe impl<P: Platform> Send for Store<P> {}

/// Gives the allocator its memory.
struct Pages<P>(P);

// SAFETY: fresh pages of the platform, as the trait wants them.
unsafe impl<P: Platform> dlmalloc::Allocator for Pages<P> {
    fn alloc(&self, size: usize) -> (*mut u8, usize, u32) {
        match self.0.map(size, Memory::Private(Protection::RW), None) {
            Ok(views) => (ptr::with_exposed_provenance_mut(views.address), size, 0),
            Err(_) => (ptr::null_mut(), 0, 0),
        }
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        ptr::null_mut()
    }

    fn free_part(&self, start: *mut u8, old_size: usize, new_size: usize) -> bool {
        self.free(start.wrapping_add(new_size), old_size - new_size)
    }

    fn free(&self, start: *mut u8, size: usize) -> bool {
        // SAFETY: the allocator gives back pages that it got from `alloc` and uses no more.
        unsafe { self.0.unmap(Span::from_parts(start.addr(), size)) }.is_ok()
    }

    fn can_release_part(&self, _: u32) -> bool {
        true
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        self.0.page_size()
    }
}

impl<P: Platform> Values<P> {
    pub(crate) const fn new(platform: P) -> Self {
        Self {
            platform,
            operations: spin::Mutex::new(None),
            store: spin::Mutex::new(Store {
                heap: Dlmalloc::new_with_allocator(Pages(platform)),
                values: Slots::new(),
                pool: Pool::new(),
            }),
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
        self.with_buffer(length, |copy| {
            // SAFETY: `data` by the caller; the buffer has `length` bytes and is ours.
            let bytes = unsafe {
                ptr::copy_nonoverlapping(data, copy, length);
                core::slice::from_raw_parts(copy, length)
            };
            if core::str::from_utf8(bytes).is_ok() {
                // SAFETY: just checked.
                return unsafe { self.make_string(copy, length) };
            }
            let pieces = || {
                bytes.utf8_chunks().flat_map(|chunk| {
                    [chunk.valid(), if chunk.invalid().is_empty() { "" } else { "\u{fffd}" }]
                })
            };
            let total = pieces().map(str::len).sum();
            self.with_buffer(total, |text| {
                let mut end = text;
                for piece in pieces() {
                    // SAFETY: the buffer holds all pieces, one behind the other.
                    unsafe {
                        ptr::copy_nonoverlapping(piece.as_ptr(), end, piece.len());
                        end = end.add(piece.len());
                    }
                }
                // SAFETY: the pieces are strings.
                unsafe { self.make_string(text, total) }
            })
        })
    }

    /// Runs `then` with a buffer of `length` bytes: on the stack if small, else in pages.
    fn with_buffer<R>(
        &self,
        length: usize,
        then: impl FnOnce(*mut u8) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if length <= SMALL_TEXT {
            return then([0u8; SMALL_TEXT].as_mut_ptr());
        }
        let length = crate::span::round_up(length, self.platform.page_size());
        let start = self.platform.map(length, Memory::Private(Protection::RW), None)?.address;
        let result = then(ptr::with_exposed_provenance_mut(start));
        // SAFETY: mapped above, and `then` is done with it. If this fails the pages are lost.
        let _ = unsafe { self.platform.unmap(Span::from_parts(start, length)) };
        result
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
        // SAFETY: `keep` allocated it with these sizes, and the value is gone.
        unsafe { store.heap.free(stored.data, stored.length.max(1), 1) };
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
        // SAFETY: the size is not 0, the alignment a power of two.
        let copy = unsafe { store.heap.malloc(length.max(1), 1) };
        if copy.is_null() {
            return Err(Error::NoMemory);
        }
        // SAFETY: `data` by the caller; the copy is fresh and large enough.
        unsafe { ptr::copy_nonoverlapping(data, copy, length) };
        let Store { heap, values, pool } = &mut *store;
        match values.insert(Stored { data: copy, length, sort }, pool, self.platform) {
            Ok(index) => Ok(store.handle(index)),
            Err(error) => {
                // SAFETY: allocated above with this size, and nobody has seen it.
                unsafe { heap.free(copy, length.max(1), 1) };
                Err(error)
            }
        }
    }
}

impl<P: Platform> Store<P> {
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
