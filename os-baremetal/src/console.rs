//! Text for people: a serial port, or whatever the kernel prints with.

use crate::arch::Serial;
use spin::Mutex;

/// Where the dump and reports go.
pub enum Console {
    /// Nowhere.
    None,
    /// A serial port.
    Serial(Serial),
    /// A function of the kernel that prints lines of text, whole ones.
    Writer(fn(&[u8])),
}

static CONSOLE: Mutex<Console> = Mutex::new(Console::None);

pub(crate) fn set(console: Console) {
    *CONSOLE.lock() = console;
}

/// Writes a line at once, so that lines of several cores don't mix.
pub fn print(line: &[u8]) {
    match &mut *CONSOLE.lock() {
        Console::None => {}
        Console::Serial(port) => line.iter().for_each(|byte| port.send(*byte)),
        Console::Writer(write) => write(line),
    }
}
