//! Making instruction caches coherent with what was written: pure decisions here, one file of
//! instructions for each architecture.

pub mod ctr;
mod landing_pads;

pub use landing_pads::is_aarch64_landing_pad;

#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "riscv64.rs")]
mod arch;

/// Instructions start at multiples of this many bytes; a call to anything else would fault.
pub const INSTRUCTION_ALIGNMENT: usize = arch::INSTRUCTION_ALIGNMENT;

/// Trap instructions: what freed code is filled with.
pub const TRAP: [u8; 4] = arch::TRAP;

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
