//! `MAP_JIT` pages: each thread sees them read-execute or read-write.
//!
//! Linux knows protections of a process only. So a region can only be read until a thread executes it or
//! stores to it, and faults: then it gets the protection that this thread may have, until any thread turns
//! its switch. A thread that follows the rules can't tell the difference. One that doesn't is stopped, unless
//! another thread has the region just so at that moment: such a mistake can go unseen here.
//!
//! To judge cache maintenance the pages can be left read-execute, while libSystem's copies go through a
//! second view: QEMU then keeps what it has translated, as a processor keeps what it has fetched.

use crate::violation::violation;
use crate::{host, kernel};
use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const EXECUTING: i32 = libc::PROT_READ | libc::PROT_EXEC;
const WRITING: i32 = libc::PROT_READ | libc::PROT_WRITE;

thread_local! {
    static MAY_WRITE: Cell<bool> = const { Cell::new(false) };
}

/// A region of such pages. Read by the fault handler, so it takes no lock.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    /// A read-write view of the same memory, or 0.
    view: AtomicUsize,
    /// Whether some thread was given more than reading.
    is_given: AtomicBool,
}

impl Slot {
    const fn new() -> Self {
        Self {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            view: AtomicUsize::new(0),
            is_given: AtomicBool::new(false),
        }
    }

    fn range(&self) -> Range<usize> {
        self.start.load(Ordering::Relaxed)..self.end.load(Ordering::Relaxed)
    }
}

const MOST: usize = 4096;
static SLOTS: [Slot; MOST] = [const { Slot::new() }; MOST];

/// Whether the pages stay read-execute.
static KEEPS_TRANSLATIONS: AtomicBool = AtomicBool::new(false);

/// Leaves the pages read-execute from now on.
pub fn keep_translations() {
    KEEPS_TRANSLATIONS.store(true, Ordering::Relaxed);
}

/// Maps fresh pages over a reservation.
pub fn map_over(start: usize, length: usize) -> Result<(), host::Number> {
    let mut view = 0;
    if KEEPS_TRANSLATIONS.load(Ordering::Relaxed) {
        let memory = host::memory_file(length)?;
        host::map_over(start, length, EXECUTING, host::Source::Shared(&memory, 0))?;
        view = host::map_anywhere(length, 4096, WRITING)?;
        host::map_over(view, length, WRITING, host::Source::Shared(&memory, 0))?;
    } else {
        host::map_over(start, length, libc::PROT_READ, host::Source::Fresh)?;
    }
    let free = |slot: &&Slot| {
        slot.end.load(Ordering::Relaxed) == 0
            && slot.end.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    let slot = SLOTS.iter().find(free).expect("the model has room for 4096 MAP_JIT regions");
    slot.view.store(view, Ordering::Relaxed);
    slot.is_given.store(false, Ordering::Relaxed);
    slot.start.store(start, Ordering::Relaxed);
    slot.end.store(start + length, Ordering::Release);
    Ok(())
}

/// The pages in this range are gone. Regions are unmapped whole, as the library does it.
pub fn forget(range: Range<usize>) {
    for slot in slots().filter(|slot| range.contains(&slot.start.load(Ordering::Relaxed))) {
        slot.start.store(0, Ordering::Relaxed);
        slot.end.store(0, Ordering::Release);
    }
}

/// Whether this thread's switch stands at writing.
pub fn may_write() -> bool {
    MAY_WRITE.get()
}

/// Turns this thread's switch.
pub fn set_may_write(may_write: bool) {
    MAY_WRITE.set(may_write);
    if !KEEPS_TRANSLATIONS.load(Ordering::Relaxed) {
        for slot in slots().filter(|slot| slot.is_given.swap(false, Ordering::Relaxed)) {
            protect(slot, libc::PROT_READ);
        }
    }
}

fn slots() -> impl Iterator<Item = &'static Slot> {
    SLOTS.iter().filter(|slot| slot.end.load(Ordering::Acquire) > 1)
}

fn slot_at(address: usize) -> Option<&'static Slot> {
    slots().find(|slot| slot.range().contains(&address))
}

fn protect(slot: &Slot, protection: i32) {
    if host::protect(slot.range(), protection).is_err() {
        violation("the model can't change the protection of MAP_JIT pages");
    }
}

/// Where libSystem's copies to an address must go.
pub fn writable(address: usize) -> usize {
    if !KEEPS_TRANSLATIONS.load(Ordering::Relaxed) {
        return address;
    }
    match slot_at(address) {
        Some(_) if !MAY_WRITE.get() => violation("a store to MAP_JIT pages while the thread may not write"),
        Some(slot) => slot.view.load(Ordering::Relaxed) + (address - slot.start.load(Ordering::Relaxed)),
        None => address,
    }
}

/// What handles faults elsewhere; it tells whether it did.
static OTHER_FAULTS: OnceLock<fn(usize) -> bool> = OnceLock::new();

/// Lets `handle` have the faults that are not on such pages.
pub fn pass_other_faults_to(handle: fn(usize) -> bool) {
    OTHER_FAULTS.set(handle).expect("one handler is enough");
}

/// Handles faults on such pages from now on.
pub fn catch_faults() {
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the handler fits, and keeps to what a handler may do.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

extern "C" fn fault(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives both.
    let (address, at) = unsafe { ((*info).si_addr() as usize, program_counter(context)) };
    let Some(slot) = slot_at(address) else {
        if address == at && kernel::rules().kills_for_unsigned_code() {
            violation("code that nobody has signed was executed");
        }
        if OTHER_FAULTS.get().is_some_and(|handle| handle(address)) {
            return;
        }
        // Not ours: happens again, and then kills.
        // SAFETY: the default action is always fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    // Reading is allowed in both states.
    match (address == at, MAY_WRITE.get()) {
        (true, true) => violation("MAP_JIT pages executed while the thread may write them"),
        (false, false) => violation("a store to MAP_JIT pages while the thread may not write"),
        (_, may_write) => {
            slot.is_given.store(true, Ordering::Relaxed);
            protect(slot, if may_write { WRITING } else { EXECUTING });
        }
    }
}

/// # Safety
/// The context is a signal handler's.
unsafe fn program_counter(context: *mut libc::c_void) -> usize {
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the caller's promise.
    let counter = unsafe { (*context).uc_mcontext.pc as usize };
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    let counter = unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] as usize };
    counter
}
