//! `sys_icache_invalidate`, and a machine on which it was forgotten.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static DOES_NOTHING: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Makes it do nothing from now on.
pub fn forget_maintenance() {
    DOES_NOTHING.store(true, Ordering::Relaxed);
}

/// How often it was called.
pub fn calls() -> usize {
    CALLS.load(Ordering::Relaxed)
}

/// `sys_icache_invalidate`: by the executed address, in lines no longer than any.
pub extern "C" fn invalidate(start: usize, length: usize) {
    CALLS.fetch_add(1, Ordering::Relaxed);
    if DOES_NOTHING.load(Ordering::Relaxed) {
        return;
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the range is readable, by the program's word.
    unsafe {
        use std::arch::asm;
        for line in (start & !15..start + length).step_by(16) {
            asm!("dc cvau, {0}", in(reg) line, options(nostack, preserves_flags));
        }
        asm!("dsb ish", options(nostack, preserves_flags));
        for line in (start & !15..start + length).step_by(16) {
            asm!("ic ivau, {0}", in(reg) line, options(nostack, preserves_flags));
        }
        asm!("dsb ish", "isb", options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "x86_64")]
    let _ = (start, length);
}
