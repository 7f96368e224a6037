//! The write switch of `MAP_JIT` pages: each thread sees them read-execute or read-write.
//!
//! The system neither nests the switch nor tells how it stands, so we count. While it is on, signals that
//! come from outside wait: a handler may itself be code in such pages. Signals that the copy could cause by
//! itself get through: a runtime may resolve faults of its own heap in a handler.

use core::ffi::c_void;
use core::mem::transmute;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use execmem_core::Error;
use execmem_core::unix::process::Cell;
use libc::{c_int, sigset_t};

type Callback = unsafe extern "C" fn(*mut c_void) -> c_int;

/// `pthread_jit_write_with_callback_np`, since macOS 11.4.
type WithCallback = unsafe extern "C" fn(Callback, *mut c_void) -> c_int;

/// The callbacks that a program under the write allow-list entitlement accepts: pthread.h's
/// PTHREAD_JIT_WRITE_ALLOW_CALLBACKS_NP. The system finds them by the section's name in what is loaded when
/// the list freezes: a program that loads the library later (`dlopen`) needs the entitlement to freeze late.
#[used]
#[unsafe(link_section = "__DATA_CONST,__pth_jit_func,regular,no_dead_strip")]
static ALLOWED: [Option<Callback>; 2] = [Some(run), None];

/// The address of `pthread_jit_write_with_callback_np`, or one of the two numbers below.
static WITH_CALLBACK: AtomicUsize = AtomicUsize::new(NOT_ASKED);
const NOT_ASKED: usize = 0;
const ABSENT: usize = 1;

/// How many writes of ours are under way in this thread, one inside the other.
static DEPTH: Cell = Cell::new();

/// Finds out which switch the system has. Done when memory is mapped, since asking is nothing for a signal
/// handler. *No memory* where writes can't be counted, because the process has used up its thread keys.
pub(crate) fn prepare() -> Result<(), Error> {
    if WITH_CALLBACK.load(Ordering::Relaxed) == NOT_ASKED {
        // SAFETY: a C string literal ends with its zero.
        let found =
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"pthread_jit_write_with_callback_np".as_ptr()) };
        let found = if found.is_null() { ABSENT } else { found.expose_provenance() };
        WITH_CALLBACK.store(found, Ordering::Relaxed);
    }
    if DEPTH.is_ready() { Ok(()) } else { Err(Error::NoMemory) }
}

/// Runs `write` while this thread may write `MAP_JIT` pages.
pub(crate) fn with_writes(write: &mut dyn FnMut()) {
    if DEPTH.get().is_some_and(|depth| depth > 0) {
        // A fault handler inside a copy of ours: the switch is on, and must stay so behind it.
        write();
        return;
    }
    let _quiet = SignalsBlocked::new();
    match WITH_CALLBACK.load(Ordering::Relaxed) {
        NOT_ASKED | ABSENT => {
            let _on = SwitchedOn::new();
            counted(write);
        }
        function => {
            // SAFETY: `dlsym` gave this address for the function, whose type is the one in pthread.h.
            let with_callback =
                unsafe { transmute::<*const (), WithCallback>(ptr::with_exposed_provenance(function)) };
            let mut context: &mut dyn FnMut() = write;
            // SAFETY: libSystem calls `run`, which is on the list of those allowed and doesn't unwind, once before it
            // returns, with the address of a closure that lives as long.
            unsafe { with_callback(run, (&raw mut context).cast()) };
        }
    }
}

/// # Safety
/// `context` is the address of a `&mut dyn FnMut()` that nobody else uses meanwhile.
unsafe extern "C" fn run(context: *mut c_void) -> c_int {
    // SAFETY: the caller says that a closure is there, and that nobody else uses it.
    let write = unsafe { &mut *context.cast::<&mut dyn FnMut()>() };
    counted(write);
    0
}

fn counted(write: &mut dyn FnMut()) {
    DEPTH.set(1);
    write();
    DEPTH.set(0);
}

/// The switch of systems before 11.4, turned to executable again when dropped.
struct SwitchedOn;

impl SwitchedOn {
    fn new() -> Self {
        // SAFETY: the call changes only what this thread may do with MAP_JIT pages. It executes none until the switch
        // is back: signals wait, and what it runs is the core's copy.
        unsafe { libc::pthread_jit_write_protect_np(0) };
        Self
    }
}

impl Drop for SwitchedOn {
    fn drop(&mut self) {
        // SAFETY: the call changes only what this thread may do with MAP_JIT pages. It writes to none any more: the
        // core's copy is done.
        unsafe { libc::pthread_jit_write_protect_np(1) };
    }
}

/// Signals that an instruction causes by itself, and that can't wait.
const FAULTS: [c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// Keeps all other signals waiting until it is dropped.
struct SignalsBlocked {
    before: sigset_t,
}

impl SignalsBlocked {
    fn new() -> Self {
        // Darwin's set is a word with bit `n - 1` for signal `n` (sys/signal.h, sigmask).
        let all_others: sigset_t = FAULTS.iter().fold(!0, |set, signal| set & !(1 << (signal - 1)));
        let mut before = 0;
        // SAFETY: both sets are borrowed for the call.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &all_others, &mut before) };
        Self { before }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set is borrowed for the call, and nothing is written where no address is given.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}
