//! The kernel below: the same set-up as in the example `baremetal`, which explains it.

use aarch64_rt::{ExceptionHandlers, InitialPagetable, entry, exception_handlers, initial_pagetable};
use core::fmt::Write;
use core::ops::Range;
use core::ptr::NonNull;
use execmem::ErrorKind;
use execmem::os::{self, Console, IdentityTables, Serial, Setup, Usage};

const SERIAL_PORT: Range<usize> = 0x0900_0000..0x0900_1000;
const MEMORY: Range<usize> = 0x4400_0000..0x4800_0000;
const ADDRESSES: Range<usize> = 0x10_0000_0000..0x10_1000_0000;

static TABLES: IdentityTables = IdentityTables::new();

fn set_up() -> Result<(), ErrorKind> {
    #[rustfmt::skip] // Names from aarch64-rt's image.ld; the last one is behind everything.
    unsafe extern "C" { static text_begin: u8; static rodata_begin: u8; static data_begin: u8; static dma_region: u8; }
    let [text, rodata, data, end] =
        [&raw const text_begin, &raw const rodata_begin, &raw const data_begin, &raw const dma_region]
            .map(|symbol| symbol.expose_provenance());
    let kernel = [
        (SERIAL_PORT, Usage::Device),
        (text..rodata, Usage::Code),
        (rodata..data, Usage::Constants),
        (data..end, Usage::Data),
    ];
    // SAFETY: the list has all that this kernel uses, and nobody else uses MEMORY, ADDRESSES or the port.
    unsafe {
        let memory = TABLES.build(&kernel, ADDRESSES, MEMORY)?;
        TABLES.enter()?;
        let console = Console::Serial(Serial::pl011(NonNull::new(SERIAL_PORT.start as *mut _).unwrap()));
        os::init(Setup { tables: &TABLES, memory, addresses: ADDRESSES, console, interrupt_others: None })
    }
}

entry!(start, 64);
fn start(_: u64, _: u64, _: u64, _: u64) -> ! {
    set_up().unwrap();
    if let Err(error) = crate::main() {
        println!("failed: {error:?}");
    }
    let _ = smccc::psci::system_off::<smccc::Hvc>();
    panic!("the machine is still on");
}

initial_pagetable!(InitialPagetable({
    let mut blocks = [0; 512];
    (blocks[0], blocks[1]) = (0x60_0000_0000_0401, 0x4000_0705);
    blocks
}));
exception_handlers!(Exceptions);
struct Exceptions;
impl ExceptionHandlers for Exceptions {}

/// The library's console, for formatted text.
pub struct Output;

impl Write for Output {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        os::console::print(text.as_bytes());
        Ok(())
    }
}

macro_rules! println {
    ($($arguments:tt)*) => {{
        // The console takes everything.
        let _ = core::fmt::Write::write_fmt(
            &mut $crate::kernel::Output,
            format_args!("{}\n", format_args!($($arguments)*)),
        );
    }};
}

pub(crate) use println;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{info}");
    loop {
        core::hint::spin_loop();
    }
}
