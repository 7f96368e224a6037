//! aarch64: clean data by the written view, invalidate instructions by the executed one.
//!
//! The sequence is the one of the Arm ARM (DDI 0487), B2.7.4.2 "Synchronization and coherency issues
//! between data and instruction accesses".

use super::ctr::{CacheType, lines};
use super::landing_pads::is_aarch64_landing_pad;
use core::arch::asm;

pub(super) const INSTRUCTION_ALIGNMENT: usize = 4;
/// `brk #0`.
pub(super) const TRAP: [u8; 4] = 0xd420_0000u32.to_le_bytes();

/// A landing pad, or `brk`, which raises its own exception: a debugger may have put it on a pad.
pub(super) fn is_landing_pad(instruction: u32) -> bool {
    const BRK: u32 = 0xd420_0000;
    const NUMBER: u32 = 0xffff << 5;
    is_aarch64_landing_pad(instruction) || instruction & !NUMBER == BRK
}

/// See [`super::make_coherent`].
pub(super) unsafe fn make_coherent(written: usize, executed: usize, length: usize) {
    let ctr: u64;
    // SAFETY: the caller says that CTR_EL0 may be read; it has no side effect.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) ctr, options(nomem, nostack, preserves_flags)) };
    let cache = CacheType::decode(ctr);

    // None of the blocks below has `nomem`: the compiler must not move stores past them.
    if !cache.skip_clean {
        for line in lines(written, length, cache.data_line) {
            // SAFETY: the line holds a byte of the written range, which the caller says is mapped and readable.
            unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
    }
    // SAFETY: a barrier. The cleaned (or stored) data is at the point of unification before what follows.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    if !cache.skip_invalidate {
        for line in lines(executed, length, cache.instruction_line) {
            // SAFETY: the line holds a byte of the executed range, which the caller says is mapped and readable.
            unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
        // SAFETY: a barrier: the invalidations are complete, on all cores of the inner shareable domain.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier: this core drops what it has fetched already.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}
