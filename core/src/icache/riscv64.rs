//! riscv64: `fence.i` orders this hart's fetches behind its own stores (unprivileged specification, chapter "Zifencei"). It
//! says nothing of other harts: "to make a store to instruction memory visible to all RISC-V harts, the writing hart also
//! has to execute a data FENCE before requesting that all remote RISC-V harts execute a FENCE.I". Nor does it follow a
//! thread that goes on on another hart: "the OS cannot rely on user FENCE.I".
//!
//! So this is enough where there is one hart, or where the platform's
//! [`flush_icache`](crate::platform::Pages::flush_icache) has every hart execute one.

pub(super) const INSTRUCTION_ALIGNMENT: usize = 2;
/// `ebreak`.
pub(super) const TRAP: [u8; 4] = 0x0010_0073u32.to_le_bytes();

/// No pages ask for any.
pub(super) fn is_landing_pad(_instruction: u32) -> bool {
    true
}

/// See [`super::make_coherent`].
pub(super) unsafe fn make_coherent(_written: usize, _executed: usize, _length: usize) {
    // SAFETY: both only order this hart's own fetches and stores; other harts see the stores before what follows.
    unsafe { core::arch::asm!("fence rw, rw", "fence.i", options(nostack, preserves_flags)) };
}
