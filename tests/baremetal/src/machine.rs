//! QEMU's board "virt" with 128 MiB: what lies where, and the kernel's own memory for page tables.

use aarch64_cpu::asm::barrier;
use arm_gic::gicv3::registers::{Gicd, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicV3, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, UniqueMmioPointer, irq_disable, irq_enable, wfi};
use core::ops::Range;
use core::ptr::NonNull;
use execmem_os_baremetal::aarch64::SYNCHRONIZE;
use execmem_os_baremetal::{PAGE_SIZE, Usage, cores};

/// The registers of the serial port.
pub const SERIAL_PORT: Range<usize> = 0x0900_0000..0x0900_1000;
/// The interrupt controller's distributor, and its redistributors: 128 KiB for each core.
const INTERRUPT_CONTROLLER: Range<usize> = 0x0800_0000..0x0900_0000;
const REDISTRIBUTORS: usize = 0x080a_0000;
/// Physical memory for the library: behind the kernel, the archive and the device tree, up to the end.
pub const MEMORY: Range<usize> = 0x4500_0000..0x4800_0000;
/// Addresses for the library: below the kernel, so that direct branches reach it.
pub const ADDRESSES: Range<usize> = 0x2000_0000..0x4000_0000;
/// In the midst of them. The library takes addresses from the start on, and not so many in all.
pub const UNMAPPED: usize = 0x3000_0000;

/// Interrupts other cores for no more than to wake them.
pub const WAKE: IntId = IntId::sgi(1);

/// The kernel's parts, as aarch64-rt's image.ld lays them out.
pub fn kernel_parts() -> [(Range<usize>, Usage); 5] {
    unsafe extern "C" {
        static text_begin: u8;
        static rodata_begin: u8;
        static data_begin: u8;
        static dma_region: u8;
    }
    let text = (&raw const text_begin).addr();
    let constants = (&raw const rodata_begin).addr();
    let data = (&raw const data_begin).addr();
    let end = (&raw const dma_region).addr();
    [
        (INTERRUPT_CONTROLLER, Usage::Device),
        (SERIAL_PORT, Usage::Device),
        (text..constants, Usage::Code),
        (constants..data, Usage::Constants),
        (data..end, Usage::Data),
    ]
}

/// The pages that a range touches.
pub fn pages(range: &Range<usize>) -> Range<usize> {
    range.start & !(PAGE_SIZE - 1)..range.end.next_multiple_of(PAGE_SIZE)
}

/// Sets the interrupt controller up, for all of so many cores. The first core calls it, before the others start.
pub fn set_up_interrupts(core_count: usize) {
    let distributor = NonNull::new(INTERRUPT_CONTROLLER.start as *mut Gicd).expect("not 0");
    let redistributors = NonNull::new(REDISTRIBUTORS as *mut GicrSgi).expect("not 0");
    // SAFETY: the registers are there and mapped; this is the only driver, and it is dropped at the end.
    let controller = unsafe { GicV3::new(UniqueMmioPointer::new(distributor), redistributors, core_count) };
    let mut controller = controller.expect("a GICv3");
    controller.setup(0);
    for core in 0..core_count {
        let _ = controller.redistributor_mark_core_awake(core);
        for interrupt in [SYNCHRONIZE, WAKE] {
            controller.set_interrupt_priority(interrupt, Some(core), 0x80).expect("a priority");
            controller.enable_interrupt(interrupt, Some(core), true).expect("an interrupt");
        }
    }
}

/// Lets this core take interrupts, and the library know of it.
pub fn take_interrupts() {
    GicCpuInterface::enable_system_register_el1();
    GicCpuInterface::enable_group1(true);
    GicCpuInterface::set_priority_mask(0xff);
    cores::enter().expect("a place for this core");
    irq_enable();
}

/// Sleeps until something has happened that another core tells with [`wake_others`]. A core that waits in a
/// loop takes the time of those that QEMU wants to emulate.
pub fn sleep_until(mut happened: impl FnMut() -> bool) {
    loop {
        // An interrupt that comes before the sleep ends it at once, and is taken when it is over.
        irq_disable();
        let is_done = happened();
        if !is_done {
            wfi();
        }
        irq_enable();
        if is_done {
            return;
        }
    }
}

/// Wakes all other cores, which see what this one has stored.
pub fn wake_others() {
    barrier::dsb(barrier::ISHST);
    let sent = GicCpuInterface::send_sgi(WAKE, SgiTarget::All, SgiTargetGroup::CurrentGroup1);
    sent.expect("an interrupt between cores");
}
