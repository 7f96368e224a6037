//! Making instruction caches coherent with what was written: pure decisions here, one file of
//! instructions for each architecture.

pub mod ctr;

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod arch;

/// Instructions start at multiples of this many bytes; a call to anything else would fault.
pub const INSTRUCTION_ALIGNMENT: usize = arch::INSTRUCTION_ALIGNMENT;

/// Trap instructions: what freed code is filled with.
pub const TRAP: [u8; 4] = arch::TRAP;

/// Whether `BLR` may branch to an instruction in a guarded page of aarch64 (DDI 0487, D8.4.6 "Branch Target
/// Identification"). Those that sign the return address are pads of calls whatever SCTLR_ELx.BT says.
#[must_use]
pub const fn is_aarch64_landing_pad(instruction: u32) -> bool {
    const BTI_C: u32 = 0xd503_245f;
    const BTI_JC: u32 = 0xd503_24df;
    const PACIASP: u32 = 0xd503_233f;
    const PACIBSP: u32 = 0xd503_237f;
    const PACIASPPC: u32 = 0xdac1_a3fe;
    const PACIBSPPC: u32 = 0xdac1_a7fe;
    matches!(instruction, BTI_C | BTI_JC | PACIASP | PACIBSP | PACIASPPC | PACIBSPPC)
}

/// Whether an indirect call of an instruction passes on pages with [`Protection::BTI`](crate::Protection::BTI).
pub(crate) fn is_landing_pad(instruction: u32) -> bool {
    arch::is_landing_pad(instruction)
}

/// Makes this core execute what was stored: `length` bytes, stored at `written` and executed at
/// `executed`. They differ where the memory has two views, and then each address matters: data is
/// cleaned by the one, instructions are invalidated by the other.
///
/// Other cores see the new bytes when they fetch them anew; what they fetched already is
/// [`synchronize_cores`](crate::platform::Pages::synchronize_cores)' matter.
///
/// # Safety
/// Both ranges are mapped and readable, and reading CTR_EL0 is allowed (not so in a macOS process).
pub unsafe fn make_coherent(written: usize, executed: usize, length: usize) {
    // SAFETY: the caller says that both ranges are mapped and readable, and that CTR_EL0 may be read.
    unsafe { arch::make_coherent(written, executed, length) }
}
