//! Which core this is, what it has fetched, and how it interrupts others.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{MPIDR_EL1, Readable};
use arm_gic::IntId;
use arm_gic::gicv3::{GicCpuInterface, SgiTarget, SgiTargetGroup};

/// Aff3 in bits 39:32, Aff2, Aff1 and Aff0 in bits 23:0.
const AFFINITY: u64 = 0xff_00ff_ffff;
/// Bit 31 of MPIDR_EL1 is always set, so no number is 0.
const PRESENT: u64 = 1 << 31;

pub(crate) fn core_number() -> u64 {
    MPIDR_EL1.get() & AFFINITY | PRESENT
}

/// A context synchronisation event (Arm ARM, DDI 0487, B2.7.4.2).
pub(crate) fn drop_fetched() {
    barrier::isb(barrier::SY);
}

/// The software-generated interrupt of [`interrupt_others_by_gicv3`].
pub const SYNCHRONIZE: IntId = IntId::sgi(0);

/// For [`Setup::interrupt_others`](crate::Setup) on machines with a GICv3: sends [`SYNCHRONIZE`] to all other
/// cores. The kernel has set the controller up and enabled this interrupt on each core.
pub fn interrupt_others_by_gicv3() {
    // What the handlers will look at is visible before they are interrupted.
    barrier::dsb(barrier::ISHST);
    // It fails for interrupts of other kinds only.
    let _ = GicCpuInterface::send_sgi(SYNCHRONIZE, SgiTarget::All, SgiTargetGroup::CurrentGroup1);
}
