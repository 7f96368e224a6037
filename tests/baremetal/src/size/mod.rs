//! A kernel that has nothing but the library: programs that are never run, to be measured. Only what a program
//! refers to beside the set-up is linked.

use core::ops::Range;
use execmem_os_baremetal::aarch64::interrupt_others_by_gicv3;
use execmem_os_baremetal::{Console, IdentityTables, Serial, Setup, Usage, init, set_archive};

static TABLES: IdentityTables = IdentityTables::new();

/// The set-up, with everything that only a kernel knows as an argument.
///
/// # Safety
/// As [`init`]; but it is never called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _start(
    kernel: &[(Range<usize>, Usage); 4],
    memory: &Range<usize>,
    addresses: &Range<usize>,
    archive: &'static [u8; 4096],
) -> bool {
    // SAFETY: the caller's promise, passed on.
    let set_up = unsafe {
        TABLES.build(kernel, addresses.clone(), memory.clone()).and_then(|memory| {
            TABLES.enter()?;
            let console = Console::Serial(Serial::pl011(core::ptr::NonNull::dangling()));
            let addresses = addresses.clone();
            let interrupt_others: Option<fn()> = Some(interrupt_others_by_gicv3);
            init(Setup { tables: &TABLES, memory, addresses, console, interrupt_others })
        })
    };
    set_up.is_ok() && set_archive(archive).is_ok()
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
