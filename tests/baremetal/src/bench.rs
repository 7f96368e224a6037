//! Instructions for the life of a piece of code, counted by QEMU (`-icount shift=0`): the same on every host.

use crate::report::println;
use aarch64_cpu::asm::barrier;
use core::arch::asm;
use execmem_conformance::code::returning;
use execmem_conformance::memory::*;
use execmem_conformance::symbols::*;

const ROUNDS: u64 = 1000;

/// Lets event counter 0 of the PMU count instructions (INST_RETIRED, 0x08).
fn start_counter() {
    // SAFETY: nobody else uses the PMU.
    unsafe {
        asm!("msr pmevtyper0_el0, {}", in(reg) 8_u64, options(nostack));
        asm!("msr pmcntenset_el0, {}", in(reg) 1_u64, options(nostack));
        asm!("msr pmcr_el0, {}", in(reg) 1_u64, options(nostack));
    }
    barrier::isb(barrier::SY);
}

fn instructions() -> u64 {
    barrier::isb(barrier::SY);
    let count: u64;
    // SAFETY: reads a counter.
    unsafe { asm!("mrs {}, pmevcntr0_el0", out(reg) count, options(nostack)) };
    count
}

/// Prints the instructions of one round, on average over many: a row of the report of the project's benchmarks, as
/// `benches/src/rows.rs` reads it.
fn count(what: &str, mut round: impl FnMut()) {
    for _ in 0..100 {
        round();
    }
    let before = instructions();
    for _ in 0..ROUNDS {
        round();
    }
    let count = (instructions() - before) & 0xffff_ffff;
    let count = count.div_ceil(ROUNDS);
    println!("row\tA kernel on aarch64\t{what}\t0\t\tInstructions\t\tOurs\texecmem\t{count}\t1");
}

/// Prints the figures, and ends.
pub fn run() -> ! {
    start_counter();
    let code = returning(42);
    let size = code.len() as i64;
    count("allocate, write, publish, call and free a page (rt_alloc_exec_memory, two views)", || {
        let address = rt_alloc_exec_memory(size);
        write_bytes(address, &code, 0);
        rt_make_executable(address, size);
        assert_eq!(call(address, &[]), 42);
        assert!(rt_free_exec_memory(address, size));
    });
    count("the same, written in place and then made executable (rt_alloc_rw_memory)", || {
        let address = rt_alloc_rw_memory(size);
        store(address, &code);
        rt_make_executable(address, size);
        assert_eq!(call(address, &[]), 42);
        assert!(rt_free_exec_memory(address, size));
    });
    count("allocate, write, publish, call and free a block of the code heap", || {
        let address = rt_code_alloc(size);
        write_block(address, &code, 0);
        assert!(rt_code_publish(address, size));
        assert_eq!(call(address, &[]), 42);
        assert!(rt_code_free(address));
    });
    semihosting::process::exit(0)
}
