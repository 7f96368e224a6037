//! Protection keys of x86-64: whatever its protection allows, a page that is tagged with a key can be accessed only by
//! threads that have it. A register of each thread (PKRU) says which keys it has, and no system call is needed to change that.
//!
//! A thread has what the one that made it had, the first one of a program and each signal handler only the key of usual
//! pages (`init_pkru_value` in arch/x86/mm/pkeys.c). So no thread has to be told that there is another key,
//! unless it had rights to one of the same number that was freed before: `pkey_free` leaves them (pkeys(7)).

use crate::pages;
use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, __get_cpuid_max};
use core::ffi::{c_int, c_long};
use core::sync::atomic::{AtomicI32, Ordering};
use execmem_core::platform::Memory;
use execmem_core::unix::errno::{check, retried, translate};
use execmem_core::unix::pages::{page_size, pointer, span, unmap};
use execmem_core::{Error, Protection, Span};

/// The key of write views: the kernel's number, of 1 to 15.
static KEY: AtomicI32 = AtomicI32::new(NONE);
const NONE: i32 = -1;

/// Neither loads nor stores (`PKEY_DISABLE_ACCESS` in the kernel's asm-generic/mman-common.h).
const NO_ACCESS: c_long = 1;

/// Gets the key, and sees whether the kernel gives it to pages.
pub(crate) fn acquire() -> Result<(), Error> {
    if KEY.load(Ordering::Acquire) == NONE {
        // SAFETY: only says that this thread has not got the key (pkey_alloc(2)).
        let allocated =
            retried(|| unsafe { libc::syscall(libc::SYS_pkey_alloc, 0 as c_long, NO_ACCESS) as isize });
        let key = allocated.map_err(|number| match number {
            // All of them are taken; but kernels say so too where there are none.
            libc::ENOSPC if has_keys() => Error::NoMemory,
            libc::ENOSPC | libc::EINVAL => Error::Unsupported,
            number => translate(number),
        })?;
        if KEY.compare_exchange(NONE, key as i32, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: allocated above; no page has it.
            unsafe { libc::syscall(libc::SYS_pkey_free, key) };
        }
    }
    let page = pages::map(page_size(), Memory::Private(Protection::RW), None)?;
    let page = span(page.address, page_size())?;
    // SAFETY: mapped above, and nobody else knows of it.
    unsafe { attach(page).and(unmap(page)) }
}

/// Whether the kernel has turned keys on: leaf 7, bit OSPKE (Intel SDM, volume 2, CPUID).
fn has_keys() -> bool {
    __get_cpuid_max(0).0 >= 7 && __cpuid_count(7, 0).ecx & 1 << 4 != 0
}

/// Read-write pages have the key from now on.
///
/// # Safety
/// The pages are ours, and nobody accesses them but by [`with_access`].
pub(crate) unsafe fn attach(pages: Span) -> Result<(), Error> {
    let (start, length, key) = (pointer(pages), pages.length(), KEY.load(Ordering::Acquire));
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: by the caller's word nobody misses the access that others lose.
    check(|| unsafe { libc::syscall(libc::SYS_pkey_mprotect, start, length, protection, key) as c_int })
}

/// Calls a function while this thread has the key. Calls may lie in each other.
#[inline]
pub(crate) fn with_access<R>(access: impl FnOnce() -> R) -> R {
    let key = KEY.load(Ordering::Relaxed);
    if key == NONE {
        return access();
    }
    let before = rights();
    set_rights(before & !(0b11 << (2 * key)));
    let result = access();
    set_rights(before);
    result
}

/// Two bits for each key: no access, no stores (Intel SDM, volume 3, 4.6.2).
fn rights() -> u32 {
    let rights;
    // SAFETY: a kernel that gives keys has turned the instruction on. It reads the register, of this thread.
    unsafe {
        asm!("rdpkru", in("ecx") 0, out("eax") rights, out("edx") _, options(nomem, nostack, preserves_flags))
    };
    rights
}

/// No access before or after it is moved to its other side, by the compiler (which takes it to use memory) or the
/// processor.
fn set_rights(rights: u32) {
    // SAFETY: a kernel that gives keys has turned the instruction on. What this thread gains or loses is about pages of the
    // key, which only this file uses.
    unsafe { asm!("wrpkru", in("eax") rights, in("ecx") 0, in("edx") 0, options(nostack, preserves_flags)) };
}
