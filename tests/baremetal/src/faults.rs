//! The hardware refuses what the pages don't allow: each refusal is provoked, caught, and looked at.

use crate::report::{Report, check, check_eq};
use crate::vectors::{Fault, catch, class};
use crate::world::FOREIGN_DATA;
use core::arch::asm;
use execmem_conformance::code::returning;
use execmem_conformance::memory::*;
use execmem_conformance::symbols::*;
use execmem_conformance::verdict::{Stop, Verdict};
use execmem_core::abi::*;
use execmem_os_baremetal::IdentityTables;

/// The lower six bits of a syndrome: a level-3 translation fault, and a level-3 permission fault.
const NOT_MAPPED: u64 = 0x07;
const NOT_ALLOWED: u64 = 0x0f;
/// Bit 6: the access was a store.
const WRITE: u64 = 1 << 6;

const SIZE: i64 = 8;

extern "C" fn load(address: u64) -> u64 {
    let value: u64;
    // SAFETY: a load, which `catch` expects to fault.
    unsafe { asm!("ldr {}, [{}]", out(reg) value, in(reg) address, options(nostack, readonly)) };
    value
}

extern "C" fn store(address: u64) -> u64 {
    // SAFETY: a store, which `catch` expects to fault.
    unsafe { asm!("str xzr, [{}]", in(reg) address, options(nostack)) };
    0
}

fn try_to(access: extern "C" fn(u64) -> u64, address: i64) -> Result<u64, Fault> {
    // SAFETY: the functions above hold nothing.
    unsafe { catch(access as usize, address as u64) }
}

fn execute(address: i64) -> Result<u64, Fault> {
    // SAFETY: what is executed, if anything is, was written by these tests: a function without arguments.
    unsafe { catch(address as usize, 0) }
}

/// States that an access was refused, for this reason and at this address.
fn refused(result: Result<u64, Fault>, class: u64, status: u64, address: i64) -> Verdict {
    let fault = result.err();
    check_eq!(fault.map(|fault| fault.class), Some(class));
    check_eq!(fault.map(|fault| fault.syndrome & 0x3f), Some(status));
    check_eq!(fault.map(|fault| fault.address as i64), Some(address));
    if class == class::INSTRUCTION_ABORT {
        check_eq!(fault.map(|fault| fault.instruction as i64), Some(address));
    } else {
        check_eq!(fault.map(|fault| fault.syndrome & WRITE != 0), Some(status == NOT_ALLOWED));
    }
    Ok(())
}

/// Runs all of them. `tables` are those in use if they are the library's.
pub fn run(report: &mut Report, tables: Option<&IdentityTables>) {
    report.test("faults: an exception leaves every register as it was", registers);
    report.test("faults: pages that can be written are not executed", executing_data);
    report.test("faults: pages that can be executed are not written", writing_code);
    report.test("faults: pages without access are not read, written or executed", touching_none);
    report.test("faults: freed memory is not read, written or executed", touching_freed);
    report.test("faults: the kernel's own code can't be written, nor its data executed", kernel);
    report.run(
        format_args!("faults: guarded pages are entered at landing pads only"),
        false,
        || match tables {
            Some(tables) => landing_pads(tables),
            None => Err("the kernel's own tables have no guarded pages".into()),
        },
    );
}

fn executing_data() -> Verdict {
    let code = returning(42);
    let address = alloc_rw(SIZE)?;
    check_eq!(write_bytes(address, &code, 0), SIZE);
    rt_flush_icache(address, SIZE);
    refused(execute(address), class::INSTRUCTION_ABORT, NOT_ALLOWED, address)?;
    // The same bytes, once the page allows it; and not again afterwards.
    check!(rt_make_executable(address, SIZE));
    check_eq!(execute(address), Ok(42));
    check!(rt_make_writable(address, SIZE));
    refused(execute(address), class::INSTRUCTION_ABORT, NOT_ALLOWED, address)?;
    free(address, SIZE)
}

fn writing_code() -> Verdict {
    let code = returning(42);
    let address = executable(&code)?;
    refused(try_to(store, address), class::DATA_ABORT, NOT_ALLOWED, address)?;
    check!(holds(address, &code));
    check_eq!(execute(address), Ok(42));
    free(address, SIZE)
}

fn refused_all(address: i64) -> Verdict {
    refused(execute(address), class::INSTRUCTION_ABORT, NOT_MAPPED, address)?;
    refused(try_to(load, address), class::DATA_ABORT, NOT_MAPPED, address)?;
    let stored = try_to(store, address).err();
    check_eq!(stored.map(|fault| fault.syndrome & (WRITE | 0x3f)), Some(WRITE | NOT_MAPPED));
    Ok(())
}

fn touching_none() -> Verdict {
    let address = executable(&returning(42))?;
    check!(rt_set_protection(address, SIZE, RT_PROT_NONE));
    refused_all(address)?;
    check!(rt_set_protection(address, SIZE, RX));
    check_eq!(execute(address), Ok(42));
    free(address, SIZE)
}

fn touching_freed() -> Verdict {
    let address = executable(&returning(42))?;
    // It is in the TLB now.
    check_eq!(execute(address), Ok(42));
    free(address, SIZE)?;
    refused_all(address)
}

fn kernel() -> Verdict {
    let code = load as *const () as i64;
    refused(try_to(store, code), class::DATA_ABORT, NOT_ALLOWED, code)?;
    let data = (&raw const FOREIGN_DATA).addr() as i64;
    refused(execute(data), class::INSTRUCTION_ABORT, NOT_ALLOWED, data)
}

/// FEAT_BTI: ID_AA64PFR1_EL1.BT, bits 3:0.
fn has_landing_pads() -> bool {
    let features: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, id_aa64pfr1_el1", out(reg) features, options(nomem, nostack)) };
    features & 0xf != 0
}

fn landing_pads(tables: &IdentityTables) -> Verdict {
    if !has_landing_pads() {
        return Err("this processor has no FEAT_BTI".into());
    }
    // bti c; mov w0, #42; ret
    let with_pad = [0xd503_245f_u32, 0x5280_0540, 0xd65f_03c0].map(u32::to_le_bytes);
    tables.set_landing_pads(true);
    let guarded = alloc_exec(64);
    tables.set_landing_pads(false);
    let guarded = guarded?;
    check_eq!(write_bytes(guarded, with_pad.as_flattened(), 0), 12);
    rt_flush_icache(guarded, 64);
    check_eq!(execute(guarded), Ok(42));
    let fault = execute(guarded + 4).err();
    check_eq!(fault.map(|fault| fault.class), Some(class::BRANCH_TARGET));
    check_eq!(fault.map(|fault| fault.instruction as i64), Some(guarded + 4));
    // Without the guard the same entry is good.
    let plain = executable(&returning(42))?;
    check_eq!(execute(plain), Ok(42));
    free(plain, SIZE)?;
    free(guarded, 64)
}

/// Fills every register that an exception could disturb, takes one, and adds up what has changed.
fn registers() -> Verdict {
    // x18 and x29 are the platform's and the compiler's own; the handler saves them like the others.
    let mut changed: u64 = 0;
    // SAFETY: the registers that the compiler cares for are pushed and popped, or named.
    unsafe {
        asm!(
            "stp x18, x19, [sp, -32]!",
            "stp x29, x30, [sp, 16]",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
            "movz x\\n, #(0x1100 + \\n), lsl 48",
            "movk x\\n, #(0x2200 + \\n)",
            ".endr",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "movi v\\n\\().16b, #(3 * \\n + 1)",
            ".endr",
            "msr fpsr, xzr",
            "cmp x0, x0",
            "brk 1",
            // The flags first: equal.
            "cset x0, ne",
            "lsl x0, x0, 63",
            "stp x1, x2, [sp, -16]!",
            ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
            ".if \\n == 2",
            "ldr x1, [sp, 8]",
            ".elseif \\n != 1",
            "mov x1, x\\n",
            ".endif",
            "movz x2, #(0x1100 + \\n), lsl 48",
            "movk x2, #(0x2200 + \\n)",
            "eor x1, x1, x2",
            "orr x0, x0, x1",
            ".endr",
            ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
            "umov x1, v\\n\\().d[0]",
            "umov x2, v\\n\\().d[1]",
            "movi v\\n\\().16b, #(3 * \\n + 1)",
            "eor x1, x1, x2",
            "orr x0, x0, x1",
            "umov x1, v\\n\\().d[0]",
            "eor x1, x1, x2",
            "orr x0, x0, x1",
            ".endr",
            "add sp, sp, 16",
            "ldp x29, x30, [sp, 16]",
            "ldp x18, x19, [sp], 32",
            out("x0") changed,
            out("x20") _, out("x21") _, out("x22") _, out("x23") _, out("x24") _, out("x25") _, out("x26") _,
            out("x27") _, out("x28") _,
            clobber_abi("C"),
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
            out("v15") _,
        );
    }
    check_eq!(changed, 0);
    Ok::<(), Stop>(())
}
