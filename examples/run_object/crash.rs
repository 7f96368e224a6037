//! A crash of the called function ends in a sentence: what happened, at which address, and in which function.

use execmem_object::Object;
use std::ffi::{c_int, c_void};
use std::io::Write;
use std::mem::zeroed;
use std::ptr::null_mut;
use std::sync::OnceLock;

/// What a signal handler needs to know.
struct Watched {
    object: Object,
    function: String,
}

static WATCHED: OnceLock<Watched> = OnceLock::new();

/// The signals of a crash, and what each means.
const SIGNALS: [(c_int, &str); 6] = [
    (libc::SIGSEGV, "an access to memory that it may not use"),
    (libc::SIGBUS, "an access to memory that isn't there"),
    (libc::SIGILL, "an instruction that this processor doesn't have"),
    (libc::SIGFPE, "a division that has no result"),
    (libc::SIGTRAP, "a trap that the compiler left there"),
    (libc::SIGABRT, "a call of abort"),
];

/// Room for the handler where the crash has used up the stack.
const STACK: usize = 1 << 16;

/// Has crashes from now on end in a sentence.
pub fn watch(object: &Object, function: &str) {
    WATCHED.get_or_init(|| Watched { object: object.clone(), function: function.into() });
    let stack = Box::leak(vec![0_u8; STACK].into_boxed_slice());
    // SAFETY: the stack is never freed, and the handler is a function of that kind, which does only what a handler
    // may.
    unsafe {
        let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
        libc::sigaltstack(&raw const stack, null_mut());
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = tell as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
        for (signal, _) in SIGNALS {
            libc::sigaction(signal, &raw const action, null_mut());
        }
    }
}

/// Writes the sentence and ends the process. It allocates nothing, since the crash may have been in an allocator.
extern "C" fn tell(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let meaning = SIGNALS.iter().find(|(number, _)| *number == signal).map_or("a signal", |(_, text)| text);
    let mut bytes = [0_u8; 512];
    let mut left = &mut bytes[..];
    if let Some(watched) = WATCHED.get() {
        let _ = write!(left, "run_object: {} crashed: {meaning}", watched.function);
        // SAFETY: the kernel hands over a signal's information.
        let accessed = unsafe { (*info).si_addr() } as usize;
        if [libc::SIGSEGV, libc::SIGBUS].contains(&signal) {
            let _ = write!(left, ", at address {accessed:#x}");
        }
        // SAFETY: the kernel hands over the state of the interrupted thread.
        if let Some(place) = unsafe { instruction(context) } {
            let _ = match watched.object.symbol_at(place) {
                Some((name, offset)) => write!(left, ", in {name}+{offset:#x} ({place:#x})"),
                None => write!(left, ", outside of the object ({place:#x})"),
            };
        }
        let _ = writeln!(left);
    }
    let length = 512 - left.len();
    // SAFETY: the bytes are readable, and both functions are for signal handlers.
    unsafe {
        libc::write(2, bytes.as_ptr().cast(), length);
        libc::_exit(1);
    }
}

/// The address of the instruction that was interrupted.
///
/// # Safety
/// The context is the one that a handler was given.
#[cfg(target_os = "linux")]
unsafe fn instruction(context: *mut c_void) -> Option<usize> {
    // SAFETY: the caller's promise.
    let state = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext };
    #[cfg(target_arch = "x86_64")]
    return Some(state.gregs[libc::REG_RIP as usize] as usize);
    #[cfg(target_arch = "aarch64")]
    return Some(state.pc as usize);
    #[cfg(target_arch = "riscv64")]
    return Some(state.__gregs[0] as usize);
}

/// As on Linux, where the context is known.
///
/// # Safety
/// None.
#[cfg(not(target_os = "linux"))]
unsafe fn instruction(_: *mut c_void) -> Option<usize> {
    None
}
