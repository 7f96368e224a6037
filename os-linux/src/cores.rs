//! Making other cores drop instructions that they have fetched: `membarrier(2)`, or a visit to each of them.

use core::ffi::{c_char, c_int};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use execmem_core::Error;
use execmem_core::unix::errno::{retried, translate};

// linux/membarrier.h; since 4.16.
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: c_int = 1 << 6;
const PRIVATE_EXPEDITED_SYNC_CORE: c_int = 1 << 5;

/// Every core that runs a thread of this process executes a core-serialising instruction before it goes on.
pub(crate) fn synchronize() -> Result<(), Error> {
    // Whatever the reason that there is no membarrier (a kernel before 4.16 or built without it, a filter).
    by_membarrier().or_else(|_| by_visits())
}

/// The process registers itself when the kernel says that it has not (a fork's child inherits it).
fn by_membarrier() -> Result<(), i32> {
    match membarrier(PRIVATE_EXPEDITED_SYNC_CORE) {
        Err(libc::EPERM) => {
            membarrier(REGISTER_PRIVATE_EXPEDITED_SYNC_CORE)?;
            membarrier(PRIVATE_EXPEDITED_SYNC_CORE)
        }
        other => other,
    }
}

fn membarrier(command: c_int) -> Result<(), i32> {
    // SAFETY: membarrier(2) takes no pointers: it changes nothing but what other cores have fetched ahead.
    retried(|| unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) } as isize).map(drop)
}

/// A bit for each core, as the kernel has it; room for the 8192 that it can be built for.
type Cores = [u64; 128];

/// This thread moves to each core in turn and serialises it.
///
/// Why that is enough: to have fetched anew is a matter of the core, not of the thread. The code is written, and
/// coherent in the caches, before the first visit, and what a core has fetched after its visit is the new code.
/// - A thread that is on a core when it is visited: the scheduler takes the core away from it, and it goes on
///   behind the visit.
/// - One that comes from a core that is not yet visited to one that is: it goes on with what that core fetches.
/// - One that is not running goes on on a core that has been visited, or is visited before this returns.
///
/// The visitor serialises the core itself: that the kernel's way back to a program does, always, is true for
/// aarch64 (ERET; arch/arm64/include/asm/membarrier.h) and not for x86-64 (SYSRET;
/// arch/x86/include/asm/sync_core.h) nor for riscv64
/// (Documentation/features/sched/membarrier-sync-core/arch-support.txt). `sched_setaffinity` comes back on the
/// core that it was asked for; a core that goes offline meanwhile runs nobody.
///
/// A visit waits for its turn on the core: some microseconds on an idle one, a time slice on a busy one (two busy
/// cores: 1.6 ms where `membarrier` took 1.6 us), and as long as real-time threads there leave no time to others.
/// A core that this thread may not visit (EINVAL) is offline, or outside of the process's cpuset; threads in a
/// threaded cgroup with other cores are not reached.
fn by_visits() -> Result<(), Error> {
    let mut own: Cores = [0; 128];
    let set = own.as_mut_ptr();
    // SAFETY: `own` has room for as many bytes as the kernel is told; it says how many it has written.
    let ask = || unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of::<Cores>(), set) };
    let bytes = retried(|| ask() as isize).map_err(translate)?.min(size_of::<Cores>());
    let visited = (0..bytes * 8).try_for_each(|core| {
        let (word, bit) = (core / 64, 1 << (core % 64));
        let mut only: Cores = [0; 128];
        only[word] = bit;
        match run_on(&only) {
            Ok(()) => serialize(),
            Err(libc::EINVAL) if own[word] & bit == 0 => {}
            Err(libc::EINVAL) => return Err(Error::Refused),
            Err(number) => return Err(translate(number)),
        }
        Ok(())
    });
    visited.and(run_on(&own).map_err(translate))
}

/// Makes every hart that runs this process, now or later, fetch anew: `riscv_flush_icache`, for all threads.
///
/// The core counts on that where code is published for the first time, and where a program has one thread: no
/// [`synchronize`] follows there. `fence.i` would not do. It is about the hart that executes it alone, and this thread may
/// be moved to another one, by the kernel, behind it (unprivileged specification, "Zifencei";
/// Documentation/arch/riscv/cmodx.rst: programs shall not use it). The call has the harts that run this process execute
/// one, and notes the others, which do before they run it next (flush_icache_mm in arch/riscv/mm/cacheflush.c): what
/// moves a thread is such a change of the hart's process. The kernel takes the range for a hint, and this library has none
/// to give: all that was written before the call is meant. The vDSO's function makes the same call
/// (arch/riscv/kernel/vdso/flush_icache.S), so it saves nothing.
///
/// It fails only where a filter refuses it. Then each hart is visited, as by [`synchronize`] without `membarrier`.
#[cfg(target_arch = "riscv64")]
pub(crate) fn flush_all_harts() {
    // asm/unistd.h: __NR_arch_specific_syscall (244) + 15.
    const RISCV_FLUSH_ICACHE: libc::c_long = 259;
    const ALL_THREADS: usize = 0;
    // SAFETY: the kernel reads and writes nothing at the range.
    let flushed =
        retried(|| unsafe { libc::syscall(RISCV_FLUSH_ICACHE, 0, usize::MAX, ALL_THREADS) } as isize);
    if flushed.is_err() && by_visits().is_err() {
        // Nothing is left but this hart.
        serialize();
    }
}

/// Moves this thread to one of these cores, where it stays.
fn run_on(cores: &Cores) -> Result<(), i32> {
    // SAFETY: the set is borrowed and as long as the kernel is told. Any core runs this thread as well as another.
    let ask = || unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of::<Cores>(), cores.as_ptr()) };
    retried(|| ask() as isize).map(drop)
}

/// Drops what this core has fetched ahead.
fn serialize() {
    // CPUID is serialising (Intel SDM, volume 3, "Serializing Instructions"; AMD64 APM, volume 2, 7.6.4).
    #[cfg(target_arch = "x86_64")]
    let _ = core::arch::x86_64::__cpuid(0);
    // SAFETY: ISB changes no memory and no register: it is a context synchronisation event (DDI 0487, B2.7.4.2).
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("isb", options(nostack, preserves_flags))
    };
    // SAFETY: FENCE.I changes no memory and no register: it orders this hart's fetches behind the stores that it sees
    // (Zifencei), also those of other harts that it has synchronised with, as with the one that this thread left.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        core::arch::asm!("fence.i", options(nostack, preserves_flags))
    };
}

/// `__libc_single_threaded` of glibc (2.32, see sys/single_threaded.h), if the C library has such a variable.
static SINGLE_THREADED: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Looks the variable up: when the library is loaded, since the loader takes locks of its own for that.
pub(crate) fn find_variable() {
    // SAFETY: a C string literal ends with its zero.
    let variable = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()) };
    SINGLE_THREADED.store(variable.cast(), Ordering::Relaxed);
}

/// Whether the C library knows of no thread but this one. It doesn't know of those that a raw `clone` makes.
pub(crate) fn is_single_threaded() -> bool {
    let variable = SINGLE_THREADED.load(Ordering::Relaxed);
    // SAFETY: `dlsym` gave this address for the variable, which is there as long as the C library, and which any
    // thread may read (sys/single_threaded.h). It changes only when this thread starts the first other one.
    !variable.is_null() && unsafe { variable.read_volatile() != 0 }
}
