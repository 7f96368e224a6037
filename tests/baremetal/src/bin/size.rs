//! What the library costs a kernel: the first 26 symbols of the contract and the set-up, linked with nothing else.
//! It is never run; `cargo xtask test baremetal` measures it.
#![no_std]
#![no_main]

use core::ops::Range;
use execmem_os_baremetal::*;

/// The symbols that the contract had from the beginning.
#[used]
static SYMBOLS: [Symbol; 26] = [
    Symbol(rt_mmap_file as *const ()),
    Symbol(rt_munmap as *const ()),
    Symbol(rt_mmap_read_bytes as *const ()),
    Symbol(rt_mmap_read_string as *const ()),
    Symbol(rt_file_size_for_mmap as *const ()),
    Symbol(rt_get_page_size as *const ()),
    Symbol(rt_msync as *const ()),
    Symbol(rt_mlock as *const ()),
    Symbol(rt_munlock as *const ()),
    Symbol(rt_madvise as *const ()),
    Symbol(rt_alloc_exec_memory as *const ()),
    Symbol(rt_alloc_rw_memory as *const ()),
    Symbol(rt_free_exec_memory as *const ()),
    Symbol(rt_write_exec_memory as *const ()),
    Symbol(rt_make_executable as *const ()),
    Symbol(rt_flush_icache as *const ()),
    Symbol(rt_get_function_pointer as *const ()),
    Symbol(rt_call_function_0 as *const ()),
    Symbol(rt_call_function_1 as *const ()),
    Symbol(rt_call_function_2 as *const ()),
    Symbol(rt_is_executable as *const ()),
    Symbol(rt_get_protection as *const ()),
    Symbol(rt_set_protection as *const ()),
    Symbol(rt_exec_memory_total as *const ()),
    Symbol(rt_exec_memory_count as *const ()),
    Symbol(rt_exec_memory_dump_stats as *const ()),
];

#[repr(transparent)]
struct Symbol(*const ());

// SAFETY: the addresses are only kept.
unsafe impl Sync for Symbol {}

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
            let console = Console::pl011(core::ptr::NonNull::dangling());
            let addresses = addresses.clone();
            let interrupt_others: Option<fn()> = Some(cores::interrupt_others_by_gicv3);
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
