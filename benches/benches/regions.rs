//! A region's whole life beside the bare system calls.

use execmem_benches::{compare, report};
use execmem_os_linux::*;
use std::ptr;

#[cfg(target_arch = "x86_64")]
const RETURN: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3];
#[cfg(target_arch = "aarch64")]
const RETURN: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];

const PAGE: usize = 4096;

fn code() -> [u8; 64] {
    let mut code = [0; 64];
    code[..RETURN.len()].copy_from_slice(RETURN);
    code
}

/// Map, copy, make executable if `flip`, call, unmap: by hand.
fn bare(code: &[u8; 64], flip: bool) {
    let protection = if flip { 3 } else { 7 };
    // SAFETY: a page of our own that holds a function without arguments.
    unsafe {
        let page =
            libc::mmap(ptr::null_mut(), PAGE, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        ptr::copy_nonoverlapping(code.as_ptr(), page.cast(), 64);
        if flip {
            libc::mprotect(page, PAGE, libc::PROT_READ | libc::PROT_EXEC);
        }
        let function: extern "C" fn() -> i64 = std::mem::transmute(page);
        assert_eq!(function(), 42);
        libc::munmap(page, PAGE);
    }
}

fn main() {
    let code = code();
    // SAFETY: the pages hold a function without arguments.
    let writable_code = || unsafe {
        let page = rt_alloc_exec_memory(PAGE as i64);
        rt_write_exec_bytes(page, code.as_ptr(), 64, 0);
        rt_flush_icache(page, 64);
        assert_eq!(rt_call_function_0(page), 42);
        assert_eq!(rt_free_exec_memory(page, PAGE as i64), 1);
    };
    let found = compare(20, writable_code, || bare(&code, false));
    report("allocate, write 64, flush, call, free", "mmap, memcpy, call, munmap", &found, "<= 1.10");

    // SAFETY: as above.
    let flipped = || unsafe {
        let page = rt_alloc_rw_memory(PAGE as i64);
        rt_write_exec_bytes(page, code.as_ptr(), 64, 0);
        rt_make_executable(page, 64);
        assert_eq!(rt_call_function_0(page), 42);
        assert_eq!(rt_free_exec_memory(page, PAGE as i64), 1);
    };
    let found = compare(20, flipped, || bare(&code, true));
    report("allocate RW, write 64, make executable, call, free", "the same with mprotect", &found, "<= 1.10");

    // Of regions that are near something more and more are live.
    let target = bare as *const () as i64;
    // SAFETY: has no preconditions.
    let near = || unsafe { rt_alloc_exec_memory_near(PAGE as i64, target, 1 << 30) };
    // SAFETY: as above.
    let free = |page| assert_eq!(unsafe { rt_free_exec_memory(page, PAGE as i64) }, 1);
    let mut live = 0;
    for more in [10, 1_000, 10_000] {
        (live..more).for_each(|_| assert!(near() > 0));
        live = more;
        // SAFETY: has no preconditions.
        let plain = || free(unsafe { rt_alloc_exec_memory(PAGE as i64) });
        let found = compare(20, || free(near()), plain);
        report(&format!("allocate near, free, {live} live"), "allocate anywhere, free", &found, "<= 4");
    }
}
