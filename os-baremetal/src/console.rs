//! Text for people: the PL011, or whatever the kernel prints with.

use arm_pl011_uart::{PL011Registers, Uart, UniqueMmioPointer};
use core::ptr::NonNull;
use spin::Mutex;

/// Where the dump and reports go.
pub enum Console {
    /// Nowhere.
    None,
    /// A serial port that the library has for itself: see [`Console::pl011`].
    Pl011(Uart<'static>),
    /// A function of the kernel that prints lines of text, whole ones.
    Writer(fn(&[u8])),
}

impl Console {
    /// The PL011 whose registers start at an address.
    ///
    /// # Safety
    /// There is such a device, mapped as device memory, set up to send, and nobody else writes to it.
    pub unsafe fn pl011(registers: NonNull<PL011Registers>) -> Self {
        // SAFETY: the caller's promise, passed on.
        Self::Pl011(Uart::new(unsafe { UniqueMmioPointer::new(registers) }))
    }
}

static CONSOLE: Mutex<Console> = Mutex::new(Console::None);

pub(crate) fn set(console: Console) {
    *CONSOLE.lock() = console;
}

/// Writes a line at once, so that lines of several cores don't mix.
pub fn print(line: &[u8]) {
    match &mut *CONSOLE.lock() {
        Console::None => {}
        Console::Pl011(uart) => {
            for byte in line {
                while uart.is_tx_fifo_full() {
                    core::hint::spin_loop();
                }
                uart.write_word(*byte);
            }
        }
        Console::Writer(write) => write(line),
    }
}
