//! Making other cores drop instructions that they have fetched.
//!
//! Cache maintenance reaches all cores, but a core may have fetched instructions before it. If code is
//! changed at an address where the core may have been, it has to drop those ([`synchronize_this_core`])
//! before it runs the new code.
//!
//! With an interrupt controller the library sees to it: [`Setup::interrupt_others`](crate::Setup) interrupts
//! the other cores, whose handler calls `synchronize_this_core`, and the library waits for all of them. So
//! no core that has [entered](enter) may keep interrupts masked for ever, or while it waits for a core
//! that is in an `rt_*` function.
//!
//! Without one, this is the kernel's duty: a core that was told of new code by another core calls
//! `synchronize_this_core` before it jumps there.

use crate::arch;
use core::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use execmem_core::Error;
use spin::Mutex;

/// So many cores can enter.
pub const MAX_CORES: usize = 64;

/// What is kept for a core.
pub(crate) struct Core {
    /// Its number, or 0.
    number: AtomicU64,
    /// The last request that it has followed.
    followed: AtomicU64,
    pub(crate) last_error: AtomicI32,
}

impl Core {
    const fn new() -> Self {
        Self { number: AtomicU64::new(0), followed: AtomicU64::new(0), last_error: AtomicI32::new(0) }
    }
}

static CORES: [Core; MAX_CORES] = [const { Core::new() }; MAX_CORES];
/// So many of them were ever used: no others need be looked at.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Stands for all cores that have not entered.
static STRANGER: Core = Core::new();
/// Counts the requests to synchronise.
static REQUESTS: AtomicU64 = AtomicU64::new(0);
static INTERRUPT_OTHERS: Mutex<Option<fn()>> = Mutex::new(None);

/// The cells of cores that have entered, and maybe left.
fn used() -> impl Iterator<Item = &'static Core> {
    CORES.iter().take(USED.load(Ordering::SeqCst))
}

/// The calling core's cells.
pub(crate) fn this() -> &'static Core {
    let number = arch::core_number();
    used().find(|core| core.number.load(Ordering::Relaxed) == number).unwrap_or(&STRANGER)
}

/// Tells the library that this core takes part from now on: it will be interrupted, and it gets a cell of
/// its own for the last error. The core that calls [`init`](crate::init) has entered already. *No memory*:
/// [`MAX_CORES`] have.
pub fn enter() -> Result<(), Error> {
    if !core::ptr::eq(this(), &STRANGER) {
        return Ok(());
    }
    for (index, core) in CORES.iter().enumerate() {
        let free = core.number.compare_exchange(0, arch::core_number(), Ordering::SeqCst, Ordering::Relaxed);
        if free.is_ok() {
            // Who doesn't see this core yet has published before it synchronises itself.
            USED.fetch_max(index + 1, Ordering::SeqCst);
            synchronize_this_core();
            return Ok(());
        }
    }
    Err(Error::NoMemory)
}

/// Tells the library that this core no longer runs code of anybody else, for example before it is
/// switched off.
pub fn leave() {
    let core = this();
    core.last_error.store(0, Ordering::Relaxed);
    core.number.store(0, Ordering::SeqCst);
}

/// Makes this core drop instructions that it has fetched, and tells cores that wait for it.
pub fn synchronize_this_core() {
    let request = REQUESTS.load(Ordering::SeqCst);
    arch::drop_fetched();
    this().followed.fetch_max(request, Ordering::SeqCst);
}

pub(crate) fn set_interrupt_others(interrupt: fn()) {
    *INTERRUPT_OTHERS.lock() = Some(interrupt);
}

/// After it every core that has entered has synchronised itself, or will as the kernel promised.
pub(crate) fn synchronize() -> Result<(), Error> {
    let Some(interrupt_others) = *INTERRUPT_OTHERS.lock() else { return Ok(()) };
    let this = this();
    let others = || used().filter(|core| !core::ptr::eq(*core, this));
    let is_present = |core: &Core| core.number.load(Ordering::SeqCst) != 0;
    if !others().any(is_present) {
        return Ok(());
    }
    let request = REQUESTS.fetch_add(1, Ordering::SeqCst) + 1;
    interrupt_others();
    for other in others() {
        while is_present(other) && other.followed.load(Ordering::SeqCst) < request {
            // Another core may be waiting for this one, whose interrupts may be masked for the moment.
            synchronize_this_core();
            core::hint::spin_loop();
        }
    }
    Ok(())
}
