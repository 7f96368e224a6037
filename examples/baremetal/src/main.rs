//! A kernel that writes a function, makes it executable, calls it and prints the statistics.
//! In this folder: `cargo run --release`. It needs qemu-system-aarch64 and the target aarch64-unknown-none.
#![no_std]
#![no_main]

use aarch64_rt::{ExceptionHandlers, InitialPagetable, entry, exception_handlers, initial_pagetable};
use core::ops::Range;
use core::ptr::NonNull;
use execmem::os::{self, Console, IdentityTables, Serial, Setup, Usage};
use execmem::{CodeMemory, Error, ErrorKind};

const DOUBLE_AND_ADD_1: [u32; 3] = [0x8b00_0000, 0x9100_0400, 0xd65f_03c0]; // add x0, x0, x0; add x0, x0, #1; ret

/// The PL011, and physical memory that this kernel leaves to the library. Addresses from 64 GiB on are free.
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

fn run() -> Result<i64, Error> {
    let code = DOUBLE_AND_ADD_1.map(u32::to_le_bytes);
    let memory = CodeMemory::new(size_of_val(&code))?;
    memory.write(0, code.as_flattened())?;
    memory.make_executable()?;
    execmem::runtime().dump();
    // SAFETY: the code is a function with one argument.
    unsafe { memory.call(0, &[20]) }
}

entry!(main, 8);
fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    let answer = set_up().map_err(Error::from).and_then(|()| run());
    assert_eq!(answer, Ok(41));
    os::console::print(b"the function says 41\n");
    let _ = smccc::psci::system_off::<smccc::Hvc>();
    panic!("the machine is still on");
}

// Until the library's tables are in use: a GiB of devices, a GiB of memory.
initial_pagetable!(InitialPagetable({
    let mut blocks = [0; 512];
    (blocks[0], blocks[1]) = (0x60_0000_0000_0401, 0x4000_0705);
    blocks
}));
exception_handlers!(Exceptions);
struct Exceptions;
impl ExceptionHandlers for Exceptions {}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    os::console::print(info.message().as_str().unwrap_or("panic\n").as_bytes());
    loop {
        core::hint::spin_loop();
    }
}
