//! System calls that fail on order: the n-th one, with any error number, and no more when it is enough.
//!
//! A seccomp filter turns the calls of a list into a SIGSYS; its handler refuses, or makes the call from one
//! function that the filter lets through. So a failure can be lifted again, which a filter alone can't.
//! x86_64 only, and not under qemu.

use crate::confinement::*;
use libc::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, Ordering};

/// The calls by which the library gets, changes and asks for memory and files.
const CALLS: [i64; 18] = [
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_membarrier,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_process_vm_readv,
    libc::SYS_ioctl,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_msync,
];
/// Older ways to do the same, which new architectures lack.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS: &[i64] = &[libc::SYS_open, libc::SYS_stat];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS: &[i64] = &[];

static ARMED: AtomicBool = AtomicBool::new(false);
static LASTING: AtomicBool = AtomicBool::new(false);
static ERROR: AtomicI32 = AtomicI32::new(0);
static REMAINING: AtomicU32 = AtomicU32::new(0);
static REFUSED: AtomicU32 = AtomicU32::new(0);
static LAST_REFUSED: AtomicI64 = AtomicI64::new(-1);

/// Which calls are to fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// So many calls succeed first.
    pub after: u32,
    /// `libc::E*`.
    pub error: c_int,
    /// Whether all that follow fail too.
    pub lasting: bool,
}

/// Puts the process under the filter. Nothing fails yet.
pub fn prepare() -> Result<(), String> {
    if !cfg!(target_arch = "x86_64") || crate::system::is_emulated() {
        return Err("system calls are made to fail natively on x86_64 only".to_owned());
    }
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut()), 0);
    }
    let gate = system_call as *const () as usize as u32;
    // Calls from the gate pass. Only the lower half of the address is compared: no program is so large that
    // another function has the same.
    let mut program = vec![
        load(POINTER_LOW),
        skip_unless_at_least(gate, 2),
        skip_if_at_least(gate + GATE_LENGTH, 1),
        answer(libc::SECCOMP_RET_ALLOW),
        load(NUMBER),
    ];
    for call in CALLS.iter().chain(OLD_CALLS) {
        program.extend([skip_unless_equal(*call as u32, 1), answer(libc::SECCOMP_RET_TRAP)]);
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    install(&mut program)
}

/// Lets calls fail from now on.
pub fn arm(fault: Fault) {
    LASTING.store(fault.lasting, Ordering::Relaxed);
    ERROR.store(fault.error, Ordering::Relaxed);
    REMAINING.store(fault.after, Ordering::Relaxed);
    REFUSED.store(0, Ordering::Relaxed);
    ARMED.store(true, Ordering::SeqCst);
}

/// Lets all calls succeed again. How many were refused, and the number of the last of them.
pub fn lift() -> (u32, i64) {
    ARMED.store(false, Ordering::SeqCst);
    (REFUSED.load(Ordering::Relaxed), LAST_REFUSED.load(Ordering::Relaxed))
}

/// Whether this call is one that is to fail.
#[cfg(target_arch = "x86_64")]
fn is_refused(number: i64) -> bool {
    if !ARMED.load(Ordering::SeqCst) {
        return false;
    }
    if REMAINING.load(Ordering::Relaxed) > 0 {
        REMAINING.fetch_sub(1, Ordering::Relaxed);
        return false;
    }
    if REFUSED.load(Ordering::Relaxed) > 0 && !LASTING.load(Ordering::Relaxed) {
        return false;
    }
    REFUSED.fetch_add(1, Ordering::Relaxed);
    LAST_REFUSED.store(number, Ordering::Relaxed);
    true
}

/// More than the instructions of [`system_call`] take, and less than to the next function's system call.
const GATE_LENGTH: u32 = 40;

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
extern "C" fn system_call(number: i64, arguments: *const i64) -> i64 {
    std::arch::naked_asm!(
        "mov rax, rdi",
        "mov r11, rsi",
        "mov rdi, [r11]",
        "mov rsi, [r11 + 8]",
        "mov rdx, [r11 + 16]",
        "mov r10, [r11 + 24]",
        "mov r8, [r11 + 32]",
        "mov r9, [r11 + 40]",
        "syscall",
        "ret",
        ".balign 64",
    )
}

#[cfg(target_arch = "x86_64")]
extern "C" fn on_trap(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a context; what is changed is the result's register.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let number = registers[libc::REG_RAX as usize];
    let places = [libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8, libc::REG_R9];
    registers[libc::REG_RAX as usize] = match is_refused(number) {
        true => -i64::from(ERROR.load(Ordering::Relaxed)),
        false => system_call(number, places.map(|place| registers[place as usize]).as_ptr()),
    };
}

#[cfg(not(target_arch = "x86_64"))]
extern "C" fn system_call(_: i64, _: *const i64) -> i64 {
    -i64::from(libc::ENOSYS)
}

#[cfg(not(target_arch = "x86_64"))]
extern "C" fn on_trap(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}
