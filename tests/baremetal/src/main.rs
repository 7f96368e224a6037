//! A kernel for QEMU's board "virt" that tests the library on a bare machine. `cargo xtask test baremetal`
//! builds it, starts QEMU with several processors, and reads what it prints.
//!
//! Words on its command line (`-append`) choose what is different from an ordinary run: `policy=toggle`,
//! `tables=kernel` for a kernel with page tables of its own, which sets the library up as one in C does, `bench` for counting instructions, and `hang`
//! for a test of whoever watches.
#![no_std]
#![no_main]

mod archive;
mod bench;
mod c_setup;
mod device_tree;
mod faults;
mod files;
mod kernel_tables;
mod machine;
mod report;
mod smp;
mod supply;
mod vectors;
mod world;

use aarch64_rt::{InitialPagetable, Stack, entry, initial_pagetable, start_core};
use arm_pl011_uart::{Uart, UniqueMmioPointer};
use core::fmt::Write;
use core::ops::Range;
use core::ptr::NonNull;
use device_tree::DeviceTree;
use execmem_conformance::{RULE_COUNT, SECTIONS};
use execmem_core::Error;
use execmem_core::abi::*;
use execmem_os_baremetal::aarch64::interrupt_others_by_gicv3;
use execmem_os_baremetal::{Console, IdentityTables, Setup, Usage, init};
use kernel_tables::KernelTables;
use machine::{ADDRESSES, MEMORY, SERIAL_PORT};
use report::{Report, println};

static LIBRARY_TABLES: IdentityTables = IdentityTables::new();
static KERNEL_TABLES: KernelTables = KernelTables::new();

/// Rules that need what no archive in memory has, and what QEMU's system mode doesn't show. All others apply.
const NOT_APPLICABLE: usize = 7;

/// What is asked for.
struct Run {
    wished_policy: i32,
    own_tables: bool,
    cores: usize,
}

entry!(main, 64);
fn main(device_tree: u64, _: u64, _: u64, _: u64) -> ! {
    vectors::install();
    // SAFETY: QEMU's boot protocol; the first page tables map all memory.
    let tree = unsafe { DeviceTree::at(device_tree) };
    let archive = tree.archive();
    assert!(tree.range.end <= MEMORY.start && archive.end <= MEMORY.start);
    let has = |word| tree.command_line().split(' ').any(|other| other == word);
    let (is_bench, is_hang) = (has("bench"), has("hang"));
    let run = Run {
        wished_policy: if has("policy=toggle") { RT_POLICY_TOGGLE } else { RT_POLICY_AUTO },
        own_tables: has("tables=kernel"),
        cores: tree.cores().min(smp::MAX_CORES),
    };
    set_up(&run, &archive, &tree.range).expect("the library can be set up");
    if is_hang {
        println!("this run hangs on purpose");
        loop {
            core::hint::spin_loop();
        }
    }
    // SAFETY: the archive is mapped, read-only, and stays.
    archive::take_over(unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance(archive.start), archive.len())
    });
    if is_bench {
        bench::run();
    }
    start_others(&run);
    test(&run, archive)
}

fn set_up(run: &Run, archive: &Range<usize>, tree: &Range<usize>) -> Result<(), Error> {
    let mut kernel = [const { (0..0, Usage::Constants) }; 7];
    kernel[..5].clone_from_slice(&machine::kernel_parts());
    kernel[5].0 = machine::pages(archive);
    kernel[6].0 = machine::pages(tree);
    if run.own_tables {
        KERNEL_TABLES.map_kernel(&kernel)?;
        // SAFETY: the list has all that this kernel uses.
        unsafe { KERNEL_TABLES.enter() };
        c_setup::set_up()?;
    } else {
        // SAFETY: the list has all that this kernel uses, and nobody else uses MEMORY or ADDRESSES.
        unsafe {
            let memory = LIBRARY_TABLES.build(&kernel, ADDRESSES, MEMORY)?;
            LIBRARY_TABLES.enter()?;
            let (tables, console) = (&LIBRARY_TABLES, Console::Writer(print));
            let interrupt_others: Option<fn()> = Some(interrupt_others_by_gicv3);
            init(Setup { tables, memory, addresses: ADDRESSES, console, interrupt_others })?;
        }
    }
    machine::set_up_interrupts(run.cores);
    machine::take_interrupts();
    Ok(())
}

/// The console's writer: the serial port, and the test of the dump.
fn print(line: &[u8]) {
    let registers = NonNull::new(SERIAL_PORT.start as *mut _).expect("not 0");
    // SAFETY: the registers are mapped, and the library's lock sees to it that this is the only user.
    let mut port = Uart::new(unsafe { UniqueMmioPointer::new(registers) });
    // The device takes everything.
    let _ = port.write_str(core::str::from_utf8(line).unwrap_or("?\n"));
    files::listen(line);
}

fn start_others(run: &Run) {
    static mut STACKS: [Stack<16>; smp::MAX_CORES] = [const { Stack::new() }; smp::MAX_CORES];
    let own_tables = run.own_tables;
    for core in 1..run.cores {
        // SAFETY: each core gets its own stack; the first page tables and those that it enters map it alike.
        let started = unsafe {
            let stack = (&raw mut STACKS).cast::<Stack<16>>().add(core);
            start_core::<smccc::Hvc, _, 16>(core as u64, stack, move || {
                smp::serve(|| match own_tables {
                    true => KERNEL_TABLES.enter(),
                    false => LIBRARY_TABLES.enter().expect("tables"),
                });
            })
        };
        started.expect("another core");
    }
    smp::wait_for(run.cores - 1);
}

fn test(run: &Run, archive: Range<usize>) -> ! {
    let mut report = Report::default();
    if run.wished_policy != RT_POLICY_AUTO {
        assert!(execmem_conformance::symbols::rt_exec_memory_set_policy(run.wished_policy));
    }
    supply::run_first(&mut report);
    conformance(&mut report, run.wished_policy);
    faults::run(&mut report, (!run.own_tables).then_some(&LIBRARY_TABLES));
    files::run(&mut report, archive);
    smp::run(&mut report, run.cores);
    supply::run(&mut report, !run.own_tables);
    report.close()
}

fn conformance(report: &mut Report, wished_policy: i32) {
    let world = world::world(wished_policy);
    let before = (report.total(), report.passed());
    for section in SECTIONS {
        for rule in section.rules {
            report.run(format_args!("{}: {}", section.title, rule.name), false, || (rule.run)(&world));
        }
    }
    let (total, passed) = (report.total() - before.0, report.passed() - before.1);
    println!("{passed} of {RULE_COUNT} rules passed");
    report.test("every rule ran, and all passed but those that can't apply here", || {
        report::check_eq!(total, RULE_COUNT);
        report::check_eq!(passed, RULE_COUNT - NOT_APPLICABLE);
        Ok(())
    });
}

// Until the machine's own tables are in use: a GiB of devices, a GiB of memory.
initial_pagetable!(InitialPagetable({
    let mut blocks = [0; 512];
    (blocks[0], blocks[1]) = (0x60_0000_0000_0401, 0x4000_0705);
    blocks
}));

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{info}");
    semihosting::process::exit(101)
}
