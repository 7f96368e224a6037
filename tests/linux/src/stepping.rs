//! Work that is interrupted after every instruction, by the processor's trap flag.
//!
//! x86_64 only: there a process may set the flag itself, and the kernel clears it for as long as the handler runs. On
//! aarch64 only a tracer can ask for single steps, and qemu's user mode has neither. A system call is one instruction
//! here; each round of a repeated string instruction is one of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What is called after each instruction, with the address of the next one.
static EACH: AtomicUsize = AtomicUsize::new(0);

/// Whether work can be interrupted so; if not, why.
pub fn can_step() -> Result<(), &'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Err("a process can set the trap flag itself on x86_64 only");
    }
    if crate::system::is_emulated() {
        return Err("qemu's user mode does not know the trap flag");
    }
    Ok(())
}

/// Does some work in this thread. After each of its instructions `each` is called, in a signal handler, with the address
/// of the next one.
///
/// What blocks all signals is not to be among the work: the kernel ends a process that can't be told of a step.
pub fn step<R>(each: fn(usize), work: impl FnOnce() -> R) -> R {
    EACH.store(each as usize, Ordering::Relaxed);
    handle_traps();
    let _end = resume();
    work()
}

/// Interrupts this thread after each instruction until the result is dropped; [`step`] has said for what.
pub fn resume() -> Steps {
    set_trap_flag(true);
    Steps(())
}

/// As at the end of [`resume`]'s result, by hand: before what blocks all signals.
pub fn pause() {
    set_trap_flag(false);
}

/// Ends the steps, also where the work panics.
pub struct Steps(());

impl Drop for Steps {
    fn drop(&mut self) {
        set_trap_flag(false);
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn set_trap_flag(is_set: bool) {
    const TRAP_FLAG: u64 = 0x100;
    let (keep, set) = if is_set { (u64::MAX, TRAP_FLAG) } else { (!TRAP_FLAG, 0) };
    // SAFETY: changes no other flag, and what the flag leads to is handled: `step` has seen to that.
    unsafe {
        std::arch::asm!(
            "pushfq",
            "and [rsp], {keep}",
            "or [rsp], {set}",
            "popfq",
            keep = in(reg) keep,
            set = in(reg) set,
        );
    }
}

#[cfg(target_arch = "x86_64")]
fn handle_traps() {
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, std::ptr::null_mut()), 0);
    }
}

#[cfg(target_arch = "x86_64")]
extern "C" fn on_trap(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives this structure to a handler with SA_SIGINFO; `step` stored a function of this type.
    let (next, each) = unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        let each = std::mem::transmute::<usize, fn(usize)>(EACH.load(Ordering::Relaxed));
        (context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize, each)
    };
    each(next);
}

#[cfg(not(target_arch = "x86_64"))]
fn set_trap_flag(_: bool) {}

#[cfg(not(target_arch = "x86_64"))]
fn handle_traps() {
    unreachable!("`can_step` says that nothing is stepped here");
}
