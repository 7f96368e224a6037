//! Instructions that a branch to an address may end at, for whoever checks code before it runs, on any machine.

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
