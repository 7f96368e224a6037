//! The JIT interface of GDB: "Debugging with GDB", chapter "JIT Compilation Interface".
//!
//! The debugger looks for two symbols in each file that the process has loaded: a descriptor, which leads to a list of
//! object files in memory, and a function that is called when the list has changed, where it sets a breakpoint. The
//! names are local here: another JIT in the same program (LLVM, Wasmtime) has its own, and neither linker nor lock
//! mixes them up. A debugger therefore needs the file's symbol table.

use core::ptr;

/// An object file in memory. The list's memory is the debugger's to read, and ours to change.
#[repr(C)]
pub(super) struct Entry {
    next: *mut Entry,
    previous: *mut Entry,
    image: *const u8,
    length: u64,
}

#[repr(C)]
struct Descriptor {
    version: u32,
    action: u32,
    relevant: *mut Entry,
    first: *mut Entry,
}

const ADDED: u32 = 1;
const REMOVED: u32 = 2;

static mut DESCRIPTOR: Descriptor =
    Descriptor { version: 1, action: 0, relevant: ptr::null_mut(), first: ptr::null_mut() };

core::arch::global_asm!(
    ".set __jit_debug_descriptor, {descriptor}",
    ".set __jit_debug_register_code, {function}",
    descriptor = sym DESCRIPTOR,
    function = sym list_has_changed,
);

/// Where the debugger stops the process for a moment.
#[inline(never)]
extern "C" fn list_has_changed() {
    // An empty function would be no call at all.
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}

impl Entry {
    pub(super) const fn new() -> Self {
        Self { next: ptr::null_mut(), previous: ptr::null_mut(), image: ptr::null(), length: 0 }
    }

    pub(super) fn set_image(&mut self, image: &'static [u8]) {
        (self.image, self.length) = (image.as_ptr(), image.len() as u64);
    }

    pub(super) fn image(&self) -> &[u8] {
        // SAFETY: `set_image` was given so many bytes, which stay as long as the entry.
        unsafe { core::slice::from_raw_parts(self.image, self.length as usize) }
    }
}

/// Adds an entry.
///
/// # Safety
/// The caller holds the lock. The entry stays where it is, and is in no list, until [`remove`].
pub(super) unsafe fn add(entry: *mut Entry) {
    // SAFETY: the lock keeps other threads out of the list, and all entries in it are alive.
    unsafe {
        let first = DESCRIPTOR.first;
        (*entry).next = first;
        (*entry).previous = ptr::null_mut();
        if !first.is_null() {
            (*first).previous = entry;
        }
        DESCRIPTOR.first = entry;
        tell(ADDED, entry);
    }
}

/// Removes an entry.
///
/// # Safety
/// The caller holds the lock, and the entry was added.
pub(super) unsafe fn remove(entry: *mut Entry) {
    // SAFETY: the lock keeps other threads out of the list, and all entries in it are alive.
    unsafe {
        let (previous, next) = ((*entry).previous, (*entry).next);
        match previous.is_null() {
            true => DESCRIPTOR.first = next,
            false => (*previous).next = next,
        }
        if !next.is_null() {
            (*next).previous = previous;
        }
        tell(REMOVED, entry);
    }
}

/// # Safety
/// The caller holds the lock.
unsafe fn tell(action: u32, entry: *mut Entry) {
    // SAFETY: the caller's lock. The debugger reads what was stored before the call.
    unsafe {
        (&raw mut DESCRIPTOR.relevant).write_volatile(entry);
        (&raw mut DESCRIPTOR.action).write_volatile(action);
        list_has_changed();
        (&raw mut DESCRIPTOR.action).write_volatile(0);
    }
}
