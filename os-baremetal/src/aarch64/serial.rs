//! Serial ports.

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use core::ptr::NonNull;

/// A serial port that the library has for itself.
pub struct Serial(Uart<'static>);

impl Serial {
    /// The PL011 whose registers start at an address.
    ///
    /// # Safety
    /// There is such a device, mapped as device memory, set up to send, and nobody else writes to it.
    pub unsafe fn pl011(registers: NonNull<PL011Registers>) -> Self {
        // SAFETY: the caller's promise, passed on.
        Self(Uart::new(unsafe { UniqueMmioPointer::new(registers) }))
    }

    /// Sends a byte, when there is room for it.
    pub(crate) fn send(&mut self, byte: u8) {
        while self.0.is_tx_fifo_full() {
            core::hint::spin_loop();
        }
        self.0.write_word(byte);
    }
}
