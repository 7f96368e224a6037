//! riscv64: `fence.i` orders this hart's fetches behind its stores (unprivileged specification, Zifencei).
//! It says nothing of other harts: `synchronize_cores` does.

pub(super) const INSTRUCTION_ALIGNMENT: usize = 2;
/// `ebreak`.
pub(super) const TRAP: [u8; 4] = 0x0010_0073u32.to_le_bytes();

/// See [`super::make_coherent`].
pub(super) unsafe fn make_coherent(_written: usize, _executed: usize, _length: usize) {
    // SAFETY: it only orders this hart's own fetches and stores.
    unsafe { core::arch::asm!("fence.i", options(nostack, preserves_flags)) };
}
