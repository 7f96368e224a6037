//! What the stand-alone C library needs in place of `std`.

/// No call panics, says the contract. If one does, its core goes no further: nothing here can be relied on any more.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    crate::c_setup::print(b"execmem: an assertion of the library's own failed, and this core stops\n");
    loop {
        core::hint::spin_loop();
    }
}
