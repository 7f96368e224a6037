//! A region's whole life beside the bare system calls, and beside crates for such memory.

use crate::allocators::bare::map;
use execmem_benches::{Race, Role, is_quick, live_function, timed};
use execmem_os_linux::*;
use std::ffi::c_void;

const TABLE: &str = "Regions";
const PAGE: usize = 4096;
const LENGTH: usize = 64;
const CALLS: usize = 20;

fn call(page: usize) {
    // SAFETY: who calls this has made the page executable, with a function without arguments in it.
    let function: extern "C" fn() -> i32 = unsafe { std::mem::transmute(page) };
    assert_eq!(function(), 42);
}

/// Map, copy, make executable if `flip`, call, unmap: by hand.
pub fn bare(code: &[u8], flip: bool) {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let page = map(PAGE, if flip { protection } else { protection | libc::PROT_EXEC }, 0);
    // SAFETY: a page of our own, longer than the code.
    unsafe {
        (page as *mut u8).copy_from_nonoverlapping(code.as_ptr(), code.len());
        if flip {
            libc::mprotect(page as *mut c_void, PAGE, libc::PROT_READ | libc::PROT_EXEC);
        }
    }
    call(page);
    // SAFETY: mapped above.
    unsafe { libc::munmap(page as *mut c_void, PAGE) };
}

/// The same through the symbols.
fn ours(code: &[u8], flip: bool) {
    let (size, length) = (PAGE as i64, code.len() as i64);
    // SAFETY: the code is readable, and a function without arguments.
    unsafe {
        let page = if flip { rt_alloc_rw_memory(size) } else { rt_alloc_exec_memory(size) };
        rt_write_exec_bytes(page, code.as_ptr(), length, 0);
        if flip {
            rt_make_executable(page, length);
        } else {
            rt_flush_icache(page, length);
        }
        assert_eq!(rt_call_function_0(page), 42);
        assert_eq!(rt_free_exec_memory(page, size), 1);
    }
}

#[cfg(feature = "peers")]
mod peers {
    use super::{PAGE, call};

    pub fn region(code: &[u8], flip: bool) {
        use region::Protection;
        let protection = if flip { Protection::READ_WRITE } else { Protection::READ_WRITE_EXECUTE };
        let mut page = region::alloc(PAGE, protection).expect("memory");
        // SAFETY: a page of our own, longer than the code.
        unsafe {
            page.as_mut_ptr::<u8>().copy_from_nonoverlapping(code.as_ptr(), code.len());
            if flip {
                region::protect(page.as_ptr::<u8>(), PAGE, Protection::READ_EXECUTE).expect("pages of ours");
            }
        }
        call(page.as_ptr::<u8>() as usize);
    }

    pub fn mmap_rs(code: &[u8]) {
        let mut page = mmap_rs::MmapOptions::new(PAGE).and_then(|options| options.map_mut()).expect("memory");
        page[..code.len()].copy_from_slice(code);
        let page = page.make_exec().map_err(|(_, error)| error).expect("executable memory");
        call(page.as_ptr() as usize);
    }

    pub fn memmap2(code: &[u8]) {
        let mut page = memmap2::MmapMut::map_anon(PAGE).expect("memory");
        page[..code.len()].copy_from_slice(code);
        call(page.make_exec().expect("executable memory").as_ptr() as usize);
    }
}

pub fn run() {
    let code = live_function(LENGTH);
    for (name, flip, why) in [
        ("under rwx: allocate, write 64 bytes, flush, call, free", false, LIFE),
        ("under rwx: allocate read-write, write, make executable, call, free", true, LIFE),
    ] {
        let race = Race::of(timed(CALLS, || ours(&code, flip)));
        let race = race.beside(Role::Bare, "mmap, memcpy, munmap", timed(CALLS, || bare(&code, flip)));
        #[cfg(feature = "peers")]
        let race = race.beside(Role::Peer, "region", timed(CALLS, || peers::region(&code, flip)));
        #[cfg(feature = "peers")]
        let race = match flip {
            false => race,
            true => race.beside(Role::Peer, "memmap2", timed(CALLS, || peers::memmap2(&code))).beside(
                Role::Peer,
                "mmap-rs",
                timed(CALLS, || peers::mmap_rs(&code)),
            ),
        };
        race.row(TABLE, name).why(why).print();
    }
    near();
}

const LIFE: &str =
    "the system calls are the same; the rest is checks, a claim for each step, the record in the page map";

/// Regions near something, of which more and more are live.
fn near() {
    let target = bare as *const () as i64;
    // SAFETY: has no preconditions.
    let near = || unsafe { rt_alloc_exec_memory_near(PAGE as i64, target, 1 << 30) };
    // SAFETY: nobody uses the page.
    let free = |page| assert_eq!(unsafe { rt_free_exec_memory(page, PAGE as i64) }, 1);
    let mut live = 0;
    for more in [10, 1_000, if is_quick() { 10_000 } else { 30_000 }] {
        (live..more).for_each(|_| assert!(near() > 0));
        live = more;
        // SAFETY: has no preconditions.
        let plain = || free(unsafe { rt_alloc_exec_memory(PAGE as i64) });
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        // SAFETY: maps a page of its own, and unmaps it.
        let bare = || unsafe {
            libc::munmap(map(PAGE, protection, 0) as *mut c_void, PAGE);
        };
        Race::of(timed(CALLS, || free(near())))
            .beside(Role::Own, "anywhere", timed(CALLS, plain))
            .beside(Role::Bare, "mmap, munmap", timed(CALLS, bare))
            .row(TABLE, "allocate within 1 GiB of an address, free")
            .at(live, "live ones")
            .why(
                "the kernel is asked once whether there is room beside the latest one; bare `mmap` has no wish. To ask about \
                 every mapping took 13 ms among 30,000",
            )
            .print();
    }
}
