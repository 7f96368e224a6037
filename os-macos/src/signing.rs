//! Whether this program may execute pages that nobody has signed.
//!
//! Under the hardened runtime the kernel lets plain memory become executable, and kills who executes it (xnu,
//! `vm_fault.c`: "rejecting invalid page"). A policy that was tried out by mapping alone would be found
//! to work. So the kernel is asked for the flag that it goes by itself (`bsd/kern/kern_cs.c`,
//! `cs_process_enforcement`). `MAP_JIT` pages are exempt.

use core::ffi::c_void;
use core::mem::transmute;
use core::ptr;
use core::sync::atomic::{AtomicU8, Ordering};
use execmem_core::{Error, Protection};
use libc::{c_int, pid_t};

/// `csops`: process 0 is the caller.
type Csops = unsafe extern "C" fn(pid_t, u32, *mut c_void, usize) -> c_int;

const CS_OPS_STATUS: u32 = 0;
const CS_ENFORCEMENT: u32 = 0x1000;

/// *Refused* if executing pages with this protection would end the process.
pub(crate) fn check(protection: Protection) -> Result<(), Error> {
    if protection.contains(Protection::EXEC) && is_enforced() { Err(Error::Refused) } else { Ok(()) }
}

fn is_enforced() -> bool {
    static ANSWER: AtomicU8 = AtomicU8::new(NOT_ASKED);
    const NOT_ASKED: u8 = 0;
    const NO: u8 = 1;
    const YES: u8 = 2;
    match ANSWER.load(Ordering::Relaxed) {
        NOT_ASKED => {
            let is_enforced = flags() & CS_ENFORCEMENT != 0;
            ANSWER.store(if is_enforced { YES } else { NO }, Ordering::Relaxed);
            is_enforced
        }
        answer => answer == YES,
    }
}

/// The process's code-signing flags. The function is in no public header, so a system without it is no
/// error: there the answer is what mapping says.
fn flags() -> u32 {
    // SAFETY: a C string literal ends with its zero.
    let csops = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"csops".as_ptr()) };
    if csops.is_null() {
        return 0;
    }
    // SAFETY: `dlsym` gave this address for the function, whose type is the one in xnu (bsd/sys/codesign.h).
    let csops = unsafe { transmute::<*mut c_void, Csops>(csops) };
    let mut flags = 0u32;
    // SAFETY: the kernel writes to `flags`, as many bytes as it is told.
    match unsafe { csops(0, CS_OPS_STATUS, ptr::from_mut(&mut flags).cast(), size_of::<u32>()) } {
        0 => flags,
        _ => 0,
    }
}
