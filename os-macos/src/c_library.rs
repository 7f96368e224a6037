//! What the stand-alone C libraries need in place of `std`.

/// Nothing in the library panics on any input. If a mistake of ours does, the process ends here: unwinding
/// into C is no choice.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::console::print(b"execmem: internal error\n");
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}
