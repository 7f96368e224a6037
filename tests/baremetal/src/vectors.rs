//! Exception vectors that save everything, so that a fault can be survived: the interrupted code goes on, or
//! [`catch`] returns to its caller.

use crate::machine;
use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use arm_gic::InterruptGroup;
use arm_gic::gicv3::GicCpuInterface;
use core::arch::{global_asm, naked_asm};
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};
use execmem_os_baremetal::aarch64::SYNCHRONIZE;
use execmem_os_baremetal::cores;

/// Everything that the interrupted code had.
#[repr(C, align(16))]
struct Frame {
    x: [u64; 31],
    sp: u64,
    elr: u64,
    spsr: u64,
    fpcr: u64,
    fpsr: u64,
    q: [u128; 32],
}

global_asm!(
    // Entry {kind} of the table: 128 bytes each.
    ".macro entry kind",
    ".balign 0x80",
    "sub sp, sp, {size}",
    "stp x0, x1, [sp]",
    "mov x0, \\kind",
    "b save_everything",
    ".endm",
    ".section .text.vectors, \"ax\"",
    ".balign 0x800",
    ".global vectors",
    "vectors:",
    ".irp kind, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    "entry \\kind",
    ".endr",
    "save_everything:",
    ".irp n, 2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29",
    "str x\\n, [sp, #(8 * \\n)]",
    ".endr",
    "add x1, sp, {size}",
    "stp x30, x1, [sp, #(8 * 30)]",
    "mrs x1, elr_el1",
    "mrs x2, spsr_el1",
    "stp x1, x2, [sp, {elr}]",
    "mrs x1, fpcr",
    "mrs x2, fpsr",
    "stp x1, x2, [sp, {fpcr}]",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "str q\\n, [sp, #({q} + 16 * \\n)]",
    ".endr",
    "mov x1, sp",
    "bl {handle}",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "ldr q\\n, [sp, #({q} + 16 * \\n)]",
    ".endr",
    "ldp x1, x2, [sp, {fpcr}]",
    "msr fpcr, x1",
    "msr fpsr, x2",
    "ldp x1, x2, [sp, {elr}]",
    "msr elr_el1, x1",
    "msr spsr_el1, x2",
    ".irp n, 4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29",
    "ldr x\\n, [sp, #(8 * \\n)]",
    ".endr",
    // The last registers travel over the stack that is returned to: below it nothing is in use any more.
    "ldp x30, x1, [sp, #(8 * 30)]",
    "ldp x2, x3, [sp]",
    "stp x2, x3, [x1, #-16]!",
    "ldp x2, x3, [sp, #16]",
    "mov sp, x1",
    "ldp x0, x1, [sp], #16",
    "eret",
    size = const size_of::<Frame>(),
    elr = const offset_of!(Frame, elr),
    fpcr = const offset_of!(Frame, fpcr),
    q = const offset_of!(Frame, q),
    handle = sym handle,
);

const _: () = assert!(size_of::<Frame>().is_multiple_of(16) && offset_of!(Frame, elr) == 8 * 32);

/// Entries of the table for exceptions from this level, on its own stack.
const SYNCHRONOUS: u64 = 4;
const INTERRUPT: u64 = 5;

/// Exception classes: ESR_EL1 bits 31:26 (Arm ARM, DDI 0487, D24.2.40).
pub mod class {
    /// A branch to a guarded page that doesn't land on a landing pad.
    pub const BRANCH_TARGET: u64 = 0x0d;
    /// An instruction fetch that the tables refuse.
    pub const INSTRUCTION_ABORT: u64 = 0x21;
    /// A load or store that the tables refuse.
    pub const DATA_ABORT: u64 = 0x25;
    /// The instruction BRK.
    pub const BREAKPOINT: u64 = 0x3c;
}

/// Lets this core use the vectors.
pub fn install() {
    unsafe extern "C" {
        static vectors: u8;
    }
    VBAR_EL1.set((&raw const vectors).addr() as u64);
    barrier::isb(barrier::SY);
}

/// An exception that [`catch`] caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One of [`class`].
    pub class: u64,
    /// The lower bits of ESR_EL1: which rule was broken.
    pub syndrome: u64,
    /// The address that could not be accessed: FAR_EL1.
    pub address: u64,
    /// The instruction that could not be executed: ELR_EL1.
    pub instruction: u64,
}

/// What a function in the C convention must find unchanged when another one returns.
#[repr(C)]
struct Context {
    /// x19 to x30; the last is where to return to.
    x: [u64; 12],
    sp: u64,
    /// The lower halves of q8 to q15.
    d: [u64; 8],
}

struct Catcher {
    context: *mut Context,
    fault: Option<Fault>,
}

struct Catchers([UnsafeCell<Catcher>; 8]);

// SAFETY: each core uses its own.
unsafe impl Sync for Catchers {}

static CATCHERS: Catchers =
    Catchers([const { UnsafeCell::new(Catcher { context: ptr::null_mut(), fault: None }) }; 8]);

/// How often each core was interrupted to synchronise itself.
pub static SYNCHRONIZED: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// The number of this core on QEMU's board.
pub fn core_number() -> usize {
    (MPIDR_EL1.get() & 7) as usize
}

/// Calls a function with an argument. If it causes an exception, that is returned in place of its result.
///
/// # Safety
/// The function is valid up to the instruction that faults, and leaves nothing locked when it does.
pub unsafe fn catch(function: usize, argument: u64) -> Result<u64, Fault> {
    let catcher = CATCHERS.0[core_number()].get();
    let mut context = Context { x: [0; 12], sp: 0, d: [0; 8] };
    // SAFETY: this core's own catcher, which its exception handler uses only inside `call_with_context`.
    unsafe {
        ptr::write_volatile(catcher, Catcher { context: &mut context, fault: None });
        let result = call_with_context(function, argument, &mut context);
        let caught = ptr::read_volatile(catcher);
        ptr::write_volatile(catcher, Catcher { context: ptr::null_mut(), fault: None });
        caught.fault.map_or(Ok(result), Err)
    }
}

/// Notes what the caller must find unchanged, and calls the function.
#[unsafe(naked)]
unsafe extern "C" fn call_with_context(function: usize, argument: u64, context: *mut Context) -> u64 {
    naked_asm!(
        "stp x19, x20, [x2]",
        "stp x21, x22, [x2, 16]",
        "stp x23, x24, [x2, 32]",
        "stp x25, x26, [x2, 48]",
        "stp x27, x28, [x2, 64]",
        "stp x29, x30, [x2, 80]",
        "mov x9, sp",
        "str x9, [x2, {sp}]",
        "stp d8, d9, [x2, {d}]",
        "stp d10, d11, [x2, {d} + 16]",
        "stp d12, d13, [x2, {d} + 32]",
        "stp d14, d15, [x2, {d} + 48]",
        "stp x29, x30, [sp, -16]!",
        "mov x9, x0",
        "mov x0, x1",
        "blr x9",
        "ldp x29, x30, [sp], 16",
        "ret",
        sp = const offset_of!(Context, sp),
        d = const offset_of!(Context, d),
    )
}

extern "C" fn handle(kind: u64, frame: &mut Frame) {
    match kind {
        SYNCHRONOUS => synchronous(frame),
        INTERRUPT => interrupt(),
        _ => panic!("unexpected exception of kind {kind}, at {:#x}", frame.elr),
    }
}

fn synchronous(frame: &mut Frame) {
    let syndrome = ESR_EL1.get();
    let (class, address) = (syndrome >> 26, FAR_EL1.get());
    if class == class::BREAKPOINT {
        // The code goes on behind the instruction.
        frame.elr += 4;
        return;
    }
    // SAFETY: this core's own catcher; `catch` waits for what it called.
    let catcher = unsafe { &mut *CATCHERS.0[core_number()].get() };
    if catcher.context.is_null() || catcher.fault.is_some() {
        panic!("unexpected fault: ESR {syndrome:#x}, FAR {address:#x}, ELR {:#x}", frame.elr);
    }
    catcher.fault = Some(Fault { class, syndrome: syndrome & 0x1ff_ffff, address, instruction: frame.elr });
    // SAFETY: `catch` keeps it until its call has returned.
    let context = unsafe { &*catcher.context };
    frame.x[19..31].copy_from_slice(&context.x);
    frame.sp = context.sp;
    for (register, saved) in frame.q[8..16].iter_mut().zip(context.d) {
        *register = saved.into();
    }
    // As if the call had returned. BTYPE (bits 11:10) says how the last branch was made: it is forgotten.
    frame.elr = context.x[11];
    frame.spsr &= !(3 << 10);
}

fn interrupt() {
    GicCpuInterface::handle_interrupt(InterruptGroup::Group1, |interrupt| match interrupt {
        SYNCHRONIZE => {
            SYNCHRONIZED[core_number()].fetch_add(1, Ordering::Relaxed);
            cores::synchronize_this_core();
        }
        // It has done its work: the core is awake.
        machine::WAKE => {}
        other => panic!("{other:?} is not enabled"),
    });
}
