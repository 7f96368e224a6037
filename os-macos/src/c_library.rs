//! What the stand-alone C libraries need in place of `std`.

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    execmem_core::unix::process::end_by_panic()
}
