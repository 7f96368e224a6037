//! Telling the process's unwinder of a table.

use std::ffi::c_void;

/// A table that the unwinder knows of, until this is dropped.
#[derive(Debug)]
pub struct Registration {
    /// What was registered.
    addresses: Vec<usize>,
}

unsafe extern "C" {
    // GCC's library and LLVM's have them, and Rust's standard library needs one of those.
    fn __register_frame(begin: *const c_void);
    fn __deregister_frame(begin: *const c_void);
}

/// Whether the unwinder is LLVM's, which takes one description at a time. GCC's takes a table up to its end.
const IS_LLVMS: bool =
    cfg!(any(target_os = "macos", all(target_env = "musl", target_feature = "crt-static")));

impl Registration {
    /// Registers a table.
    ///
    /// # Safety
    /// At `start` lies a sound table, which ends with a zero, and stays as it is until this is dropped.
    pub unsafe fn new(start: usize) -> Self {
        // SAFETY: the caller vouches for the table.
        let addresses = if IS_LLVMS { unsafe { frames(start) } } else { vec![start] };
        for address in &addresses {
            // SAFETY: the unwinder is what links into this program, and the table is sound.
            unsafe { __register_frame(*address as *const c_void) };
        }
        Self { addresses }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        for address in &self.addresses {
            // SAFETY: it was registered, and is registered once.
            unsafe { __deregister_frame(*address as *const c_void) };
        }
    }
}

/// The addresses of the descriptions in a table.
///
/// # Safety
/// As of [`Registration::new`].
unsafe fn frames(start: usize) -> Vec<usize> {
    let mut addresses = Vec::new();
    let mut at = start;
    loop {
        // SAFETY: the table is readable up to its zero, and before that each entry has two words at least.
        let [length, back] = unsafe { [0, 4].map(|offset| ((at + offset) as *const u32).read_unaligned()) };
        if length == 0 {
            return addresses;
        }
        if back != 0 {
            addresses.push(at);
        }
        at += 4 + length as usize;
    }
}
