//! Access to memory by its address: the only place with raw pointers.
//!
//! Each function's range lies in the arena of a [`Space`](crate::memory::Space), which lives for ever, so the
//! access itself is always valid. That nobody writes there at the same time is what the core promises for
//! the pages that a call names; Miri reports it if it doesn't hold.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Keeps arenas reachable, so that they are no leaks to Miri.
static ARENAS: Mutex<Vec<AtomicPtr<u8>>> = Mutex::new(Vec::new());

/// Zeroed memory that lives for ever.
pub(crate) fn new_arena(length: usize, align: usize) -> usize {
    // Aligned by hand: a large alignment would make the allocator write the zeros itself.
    let layout = Layout::from_size_align(length + align, 1).expect("an arena is smaller than memory");
    // SAFETY: the length is not 0.
    let start = unsafe { alloc_zeroed(layout) };
    if start.is_null() {
        handle_alloc_error(layout);
    }
    ARENAS.lock().unwrap_or_else(PoisonError::into_inner).push(AtomicPtr::new(start));
    start.expose_provenance().next_multiple_of(align)
}

/// A copy of the bytes.
pub(crate) fn read(address: usize, length: usize) -> Vec<u8> {
    let mut copy = vec![0; length];
    // SAFETY: inside the arena; the copy is ours.
    unsafe { ptr::copy_nonoverlapping(ptr::with_exposed_provenance(address), copy.as_mut_ptr(), length) };
    copy
}

/// Whether memory holds exactly `expected`.
pub(crate) fn equal(address: usize, expected: &[u8]) -> bool {
    // SAFETY: inside the arena, initialised, and not written meanwhile.
    let bytes: &[u8] =
        unsafe { std::slice::from_raw_parts(ptr::with_exposed_provenance(address), expected.len()) };
    bytes == expected
}

pub(crate) fn write(address: usize, bytes: &[u8]) {
    // SAFETY: inside the arena.
    unsafe {
        ptr::copy_nonoverlapping(bytes.as_ptr(), ptr::with_exposed_provenance_mut(address), bytes.len())
    };
}

pub(crate) fn fill(address: usize, length: usize, byte: u8) {
    // SAFETY: inside the arena.
    unsafe { ptr::write_bytes(ptr::with_exposed_provenance_mut::<u8>(address), byte, length) };
}

/// Zeros whole words, at which another thread may be looking.
pub(crate) fn zero(address: usize, length: usize) {
    for word in (address..address + length).step_by(size_of::<AtomicUsize>()) {
        // SAFETY: inside the arena, and aligned: pages are.
        let word = unsafe { &*ptr::with_exposed_provenance::<AtomicUsize>(word) };
        word.store(0, Ordering::Relaxed);
    }
}

/// Copies between any memory, as `memmove` does.
///
/// # Safety
/// The source is readable and the target writable.
pub(crate) unsafe fn copy(source: usize, target: usize, length: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        ptr::copy::<u8>(
            ptr::with_exposed_provenance(source),
            ptr::with_exposed_provenance_mut(target),
            length,
        );
    }
}
