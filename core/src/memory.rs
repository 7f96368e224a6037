//! Memory for the library's own records: pages from the platform, handed out in order, ours for ever.
//!
//! Their addresses are never given back to the system because a reader without a lock may still look there. Whoever
//! takes memory here uses it again: a table its places, and the page map its nodes, of which it gives back what is in
//! them. Records that nobody reads without a lock lie elsewhere: in [`Slots`](crate::slots::Slots).

use crate::error::{Error, Result};
use crate::platform::{Memory, PageRequest, Platform};
use crate::protection::Protection;
use crate::span::Span;
use crate::sync::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64, Ordering};
use core::marker::PhantomData;
use core::ptr::{self, NonNull};

/// What the page map takes at a time.
pub(crate) const UNIT: usize = 4096;

/// What the pool hands out has multiples of two cache lines: nothing that needs to be alone in its lines needs more.
const ALIGNMENT: usize = 128;

/// What is taken from the platform at a time, for the pool and for slots, unless more is asked for or a page is more.
pub(crate) const SLAB: usize = 64 * 1024;

/// Zeroed memory, whatever the page size.
pub(crate) struct Pool {
    next: usize,
    end: usize,
    mapped: usize,
}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self { next: 0, end: 0, mapped: 0 }
    }

    /// Bytes that the pool has mapped so far.
    pub(crate) fn mapped(&self) -> usize {
        self.mapped
    }

    /// At least `length` zeroed bytes that are ours for ever: rounded up to a multiple of [`ALIGNMENT`], and aligned as
    /// that length is, to a [`UNIT`] at most.
    pub(crate) fn take(&mut self, platform: impl Platform, length: usize) -> Result<NonNull<u8>> {
        let length = length.next_multiple_of(ALIGNMENT);
        let mut start = aligned_for(length, self.next);
        if self.end < start + length {
            // A long piece gets what it takes, but for the first: records follow that one.
            let is_exact = length > SLAB && self.mapped > 0;
            let unit = if is_exact { platform.page_size() } else { SLAB.max(platform.page_size()) };
            let slab = length.next_multiple_of(unit);
            start = platform.map(slab, Memory::Private(Protection::RW), None)?.address;
            self.end = start + slab;
            self.mapped += slab;
        }
        self.next = start + length;
        NonNull::new(ptr::with_exposed_provenance_mut(start)).ok_or(Error::NoMemory)
    }

    /// Takes back what was taken last, and not written to.
    pub(crate) fn put_back(&mut self, memory: NonNull<u8>) {
        self.next = memory.addr().get();
    }
}

/// The next address for `length` bytes.
fn aligned_for(length: usize, next: usize) -> usize {
    next.next_multiple_of(1 << length.trailing_zeros().min(UNIT.ilog2()))
}

/// Has memory of a pool brought in that is about to be filled: all its pages in one call, not one by one.
pub(crate) fn bring_in(memory: Span, platform: impl Platform) {
    let pages = memory.pages(platform.page_size());
    // SAFETY: the pages are the pool's. Only a hint: if it fails, each page comes when it is touched.
    let _ = unsafe { platform.request(pages, PageRequest::Populate { for_write: true }) };
}

/// Cuts memory into arrays; without any memory it only measures.
pub(crate) struct Arrays {
    start: *mut u8,
    used: usize,
    length: usize,
}

/// What zeroed memory may be taken for.
///
/// # Safety
/// Zeros are a value of the type.
pub(crate) unsafe trait Word {}
// SAFETY: an atomic integer has the bytes of the integer.
unsafe impl Word for AtomicU16 {}
// SAFETY: an atomic integer has the bytes of the integer.
unsafe impl Word for AtomicU64 {}

impl Arrays {
    /// Every array is empty. [`used`](Self::used) says how many bytes they take.
    pub(crate) const fn measuring() -> Self {
        Self { start: ptr::null_mut(), used: 0, length: usize::MAX }
    }

    /// # Safety
    /// The memory has `length` zeroed bytes, is aligned to a word, and nobody else ever uses it.
    pub(crate) unsafe fn over(memory: NonNull<u8>, length: usize) -> Self {
        Self { start: memory.as_ptr(), used: 0, length }
    }

    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The memory, if there is any.
    pub(crate) fn memory(&self) -> Option<Span> {
        (!self.start.is_null()).then(|| Span::from_parts(self.start.addr(), self.length))
    }

    /// An array of `count` zeros. Where the memory has ended it is empty.
    pub(crate) fn next<T: Word>(&mut self, count: usize) -> &'static [T] {
        let offset = self.used.next_multiple_of(align_of::<T>());
        let end = offset + count * size_of::<T>();
        if end > self.length {
            return &[];
        }
        self.used = end;
        if self.start.is_null() {
            return &[];
        }
        // SAFETY: `over` was promised zeroed memory of our own for ever, this part of it is inside, aligned and
        // given to nobody else, and zeros are a value of every `Word`.
        unsafe { core::slice::from_raw_parts(self.start.add(offset).cast(), count) }
    }
}

/// Index of a record in a [`Table`].
pub(crate) type Index = u32;

/// How many pieces a table has at most: enough for any number of records that there is memory for.
const PIECES: usize = 27;
const _: () = assert!(place(Index::MAX - 64, 64).0 < PIECES);

/// Which piece holds a place, and where in it. Piece `n` has `first << n` places.
const fn place(index: Index, first: usize) -> (usize, usize) {
    let position = index as usize / first + 1;
    let piece = position.ilog2() as usize;
    (piece, index as usize - first * ((1 << piece) - 1))
}

/// Records with stable addresses that are only ever added to, in pieces of `FIRST` places, twice, four times as many.
/// Reading takes no lock.
pub(crate) struct Table<T, const FIRST: usize = 64> {
    pieces: [AtomicPtr<T>; PIECES],
    /// How many records there are.
    length: AtomicU32,
    records: PhantomData<T>,
}

impl<T, const FIRST: usize> Table<T, FIRST> {
    const IS_ALIGNED: () = assert!(align_of::<T>() <= ALIGNMENT);

    pub(crate) const fn new() -> Self {
        Self {
            pieces: [const { AtomicPtr::new(ptr::null_mut()) }; PIECES],
            length: AtomicU32::new(0),
            records: PhantomData,
        }
    }

    /// All records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.indexes().filter_map(|index| self.get(index))
    }

    /// Every index that was handed out.
    pub(crate) fn indexes(&self) -> core::ops::Range<Index> {
        0..self.length.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn get(&self, index: Index) -> Option<&T> {
        // SAFETY: the record was initialised before its index was handed out, and stays where it is.
        self.pointer(index).map(|pointer| unsafe { &*pointer })
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        // SAFETY: the table hands out initialised records; `&mut self` makes the access exclusive.
        self.pointer(index).map(|pointer| unsafe { &mut *pointer })
    }

    #[inline]
    fn pointer(&self, index: Index) -> Option<*mut T> {
        if index >= self.length.load(Ordering::Acquire) {
            return None;
        }
        let (piece, offset) = place(index, FIRST);
        Some(self.pieces.get(piece)?.load(Ordering::Relaxed).wrapping_add(offset))
    }

    /// Adds the record that `make` makes for its index. *No memory*: the table can't grow.
    ///
    /// # Safety
    /// Nobody else is adding, which a lock of the caller's sees to.
    pub(crate) unsafe fn add(
        &self,
        pool: &mut Pool,
        platform: impl Platform,
        make: impl FnOnce(Index) -> T,
    ) -> Result<Index> {
        const { Self::IS_ALIGNED };
        let index = self.length.load(Ordering::Relaxed);
        let (piece, offset) = place(index, FIRST);
        let start = self.pieces.get(piece).ok_or(Error::NoMemory)?;
        if start.load(Ordering::Relaxed).is_null() {
            let bytes = size_of::<T>() * (FIRST << piece);
            start.store(pool.take(platform, bytes)?.as_ptr().cast(), Ordering::Relaxed);
        }
        // SAFETY: the piece has the place, and no reader goes there before the index is handed out.
        unsafe { start.load(Ordering::Relaxed).add(offset).write(make(index)) };
        self.length.store(index + 1, Ordering::Release);
        Ok(index)
    }
}

#[cfg(test)]
impl Arrays {
    /// Over memory that nothing else uses.
    pub(crate) fn leaked(length: usize) -> Self {
        extern crate std;
        let memory: &'static mut [u64] = std::vec![0; length.div_ceil(8)].leak();
        // SAFETY: zeroed, leaked, and as long.
        unsafe { Self::over(NonNull::from(memory).cast(), length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_as_its_length_whatever_came_before() {
        for (next, length, start) in [
            (0x1_0080, 4096, 0x1_1000),
            (0x1_1000, 4096, 0x1_1000),
            (0x1_0080, 8192, 0x1_1000),
            (0x1_0080, 128, 0x1_0080),
        ] {
            assert_eq!(aligned_for(length, next), start, "{length}");
        }
        assert_eq!(aligned_for(2560, 0x1_0080), 0x1_0200);
    }

    #[test]
    fn arrays_are_cut_one_behind_the_other_and_never_past_the_end() {
        let mut arrays = Arrays::measuring();
        assert!(arrays.next::<AtomicU16>(3).is_empty() && arrays.next::<AtomicU64>(2).is_empty());
        assert_eq!(arrays.used(), 24);
        let mut arrays = Arrays::leaked(24);
        assert_eq!((arrays.next::<AtomicU16>(3).len(), arrays.next::<AtomicU64>(2).len()), (3, 2));
        assert!(arrays.next::<AtomicU16>(1).is_empty());
    }
}
