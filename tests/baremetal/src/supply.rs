//! When memory, addresses or page tables run out: every call fails with *no memory*, and nothing is lost.

use crate::c_setup;
use crate::kernel_tables;
use crate::machine::{ADDRESSES, MEMORY};
use crate::report::{Report, check, check_eq};
use execmem_conformance::memory::*;
use execmem_conformance::symbols::*;
use execmem_conformance::verdict::Verdict;
use execmem_core::Error;
use execmem_core::abi::*;
use execmem_core::platform::Pages;
use execmem_os_baremetal::{BareMetal, Console, Setup, init};

const MIB: i64 = 1 << 20;

/// Runs all of them. `has_all_tables` says whether the library's addresses have page tables from the start.
pub fn run(report: &mut Report, has_all_tables: bool) {
    report.test("supply: a second set-up is refused", second_init);
    if has_all_tables {
        report.test("supply: all memory can be allocated, and no more; all of it comes back", exhaustion);
    } else {
        report.test("supply: without page tables for it memory is not given; nothing is lost", few_tables);
    }
}

/// The first test of all: the rules set a limit of their own.
pub fn run_first(report: &mut Report) {
    report.test("supply: an allocation above the memory that was given is over the limit", over_limit);
}

fn second_init() -> Verdict {
    let interrupt_others = None;
    let console = Console::None;
    let tables: &'static kernel_tables::KernelTables = &crate::KERNEL_TABLES;
    let setup = Setup { tables, memory: MEMORY, addresses: ADDRESSES, console, interrupt_others };
    // SAFETY: it is refused.
    check_eq!(unsafe { init(setup) }, Err(Error::Refused));
    check_eq!(c_setup::set_up_again(), RT_ERROR_REFUSED);
    Ok(())
}

/// Allocates pieces of `size` until there is no more. How many they are; all are freed again.
fn fill_and_free(size: i64) -> Result<i64, execmem_conformance::Stop> {
    // Each piece holds the address of the one before.
    let mut last = 0i64;
    let mut count = 0;
    loop {
        let address = rt_alloc_rw_memory(size);
        if address == 0 {
            check_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
            break;
        }
        check!(is_zeroed(address, 64) && is_zeroed(address + size - 64, 64));
        store(address, &last.to_le_bytes());
        last = address;
        count += 1;
    }
    while last != 0 {
        let bytes: [u8; 8] = core::array::from_fn(|index| byte(last + index as i64));
        free(last, size)?;
        last = i64::from_le_bytes(bytes);
    }
    Ok(count)
}

fn exhaustion() -> Verdict {
    let memory = BareMetal.physical_memory() as i64;
    check!(memory > 40 * MIB && memory < 48 * MIB);
    // The records that the first round needs stay: from then on each round finds the same.
    for size in [8192, MIB] {
        fill_and_free(size)?;
        let count = fill_and_free(size)?;
        check!(count * size > memory * 9 / 10);
        check_eq!(fill_and_free(size)?, count);
    }
    // Two views or one, it is the same memory.
    let large = alloc_exec(memory * 3 / 4)?;
    check_eq!(rt_alloc_exec_memory(memory * 3 / 4), 0);
    check_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
    free(large, memory * 3 / 4)
}

fn few_tables() -> Verdict {
    // Each table is for 2 MiB of addresses.
    let room = kernel_tables::TABLES as i64 * 2 * MIB;
    check!(room < ADDRESSES.len() as i64);
    let count = fill_and_free(MIB)?;
    check!(count > 0);
    // Addresses far away need a table that can't be made: the call fails, and the next one is fine.
    let mut failures = 0;
    let mut target = ADDRESSES.start as i64;
    while target < ADDRESSES.end as i64 {
        let address = rt_alloc_exec_memory_near(4096, target, 4096);
        if address == 0 {
            check_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
            failures += 1;
        } else {
            free(address, 4096)?;
        }
        target += 2 * MIB;
    }
    check!(failures > 0);
    let address = alloc_exec(4096)?;
    free(address, 4096)
}

fn over_limit() -> Verdict {
    let memory = BareMetal.physical_memory() as i64;
    for size in [memory + 1, 1 << 40, i64::MAX] {
        check_eq!(rt_alloc_exec_memory(size), 0);
        check_eq!(rt_last_error(), RT_ERROR_OVER_LIMIT);
    }
    Ok(())
}
