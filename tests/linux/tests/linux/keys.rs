//! Write views that only this library's own writes have the key of.

use crate::hardening::{ends, load};
use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::memory::{page, statistics, store};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{Outcome, Status};
use execmem_tests_linux::system::has_keys;
use execmem_tests_linux::{confinement, files, maps};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::channel;

pub const TESTS: &[Test] = &[
    Test {
        name: "keys: nobody but this library's writes stores to or loads from a write view, and calls go on",
        needs: Needs::Keys,
        run: locked,
    },
    Test {
        name: "keys: no thread and no signal handler has the key, in the middle of a write neither",
        needs: Needs::Keys,
        run: nobodys,
    },
    Test { name: "keys: after a fork the copies have the key, too", needs: Needs::Keys, run: forked },
    Test { name: "keys: a write makes no system call", needs: Needs::Keys, run: without_calls },
    Test {
        name: "keys: a processor without them, or without one left, grants nothing of a wish",
        needs: Needs::Kernel,
        run: missing,
    },
];

/// What the kernel says of a signal: an access that a key forbids (asm-generic/siginfo.h).
const SEGV_PKUERR: c_int = 4;
/// What a child ends with, beside that.
const FAULT: c_int = 100;

extern "C" fn on_fault(_: c_int, info: *mut libc::siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel gives the structure; this ends the child.
    unsafe { libc::_exit(FAULT + (*info).si_code) };
}

fn handle(signal: c_int, handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) {
    // SAFETY: the handler has the signature that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(signal, &action, ptr::null_mut()), 0);
    }
}

/// States that a key forbids this.
#[track_caller]
fn is_forbidden(act: impl FnOnce()) {
    let ended = ends(|| {
        handle(libc::SIGSEGV, on_fault);
        act();
    });
    assert_eq!(ended, Status::Exit(FAULT + SEGV_PKUERR));
}

#[track_caller]
fn is_locked(views: &[i64]) {
    for view in views {
        is_forbidden(|| store(*view, &[0]));
        is_forbidden(|| store(*view + page() - 1, &[0]));
        is_forbidden(|| load(*view));
    }
}

fn write(address: i64, value: u8) {
    let code = returning(value);
    assert_eq!(write_bytes(address, &code, 0), code.len() as i64, "error {}", rt_last_error());
    assert!(flush(address, code.len() as i64) && call(address, &[]) == value as i64);
}

fn flush(address: i64, size: i64) -> bool {
    rt_flush_icache(address, size);
    rt_last_error() == RT_ERROR_NONE
}

fn write_function(block: i64, value: u8) {
    assert!(write_block(block, &returning(value), 0) > 0 && rt_code_publish(block, 64));
    assert_eq!(call(block, &[]), value as i64);
}

fn wish() {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    assert!(rt_set_hardening(RT_HARDEN_KEYS), "error {}", rt_last_error());
    assert_eq!(statistics().expect("figures").hardening, RT_HARDEN_KEYS as i64);
}

/// The starts of mappings that are read-write and shared: the only ones are write views.
fn write_views() -> Vec<i64> {
    let is_shared = |name: &[u8]| name.starts_with(b"/dev/zero") || name.starts_with(b"/memfd");
    let lines = maps::merged_lines().into_iter().filter(|line| line.protection == 3 && is_shared(&line.name));
    lines.map(|line| line.start).collect()
}

fn locked() -> Outcome {
    wish();
    let (region, size, block) = (rt_alloc_exec_memory(3 * page()), 3 * page(), rt_code_alloc(64));
    let views = write_views();
    assert_eq!(views.len(), 2, "of a region and of a chunk");
    is_locked(&views);
    write(region, 1);
    write_function(block, 2);
    assert!(rt_code_patch(block, 0x1234_5678) && rt_code_shrink(block, 32));
    // What is copied by the kernel, from a file.
    let file = map_file(Some(files::file(&returning(3))), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0);
    // SAFETY: the mapping is as long as the file, and stays.
    let source = unsafe {
        slice::from_raw_parts(ptr::with_exposed_provenance(file.address as usize), file.size as usize)
    };
    assert_eq!(write_bytes(region, source, 0), file.size, "error {}", rt_last_error());
    assert_eq!(call(region, &[]), 3);
    // Bytes of the region itself, all over it.
    assert_eq!(write_bytes(region, &vec![0xc3; size as usize], 0), size);
    is_locked(&views);
    // Nobody is given what they have no key for.
    assert_eq!((rt_code_write_view(block), rt_last_error()), (0, RT_ERROR_UNSUPPORTED));
    // What somebody made writable is theirs.
    assert!(rt_make_writable(region, size));
    store(region, &returning(4));
    assert!(rt_make_executable(region, size) && call(region, &[]) == 4);
    let data = rt_alloc_rw_memory(page());
    store(data, &returning(5));
    assert!(rt_make_executable(data, page()) && call(data, &[]) == 5);
    is_locked(&views);
    assert!(rt_code_free(block) && rt_free_exec_memory(region, size) && rt_free_exec_memory(data, page()));
    Outcome::Passed
}

static VIEW: AtomicI64 = AtomicI64::new(0);

extern "C" fn on_signal(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
    handle(libc::SIGSEGV, on_fault);
    // SAFETY: lets the store's own signal come through.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, ptr::null_mut());
    }
    store(VIEW.load(Ordering::Relaxed), &[0]);
}

fn nobodys() -> Outcome {
    // A thread that was there before the key, and one that comes after it.
    for is_early in [true, false] {
        is_forbidden(|| {
            let (sender, receiver) = channel::<i64>();
            let thread = move || {
                let region = receiver.recv().expect("a region");
                write(region, 1);
                store(write_views()[0], &[0]);
            };
            if !is_early {
                wish();
            }
            let thread = std::thread::spawn(thread);
            if is_early {
                wish();
            }
            sender.send(rt_alloc_exec_memory(page())).expect("a thread");
            thread.join().expect("it dies of the store");
        });
    }
    wish();
    let region = rt_alloc_exec_memory(page());
    VIEW.store(write_views()[0], Ordering::Relaxed);
    is_forbidden(|| {
        handle(libc::SIGUSR1, on_signal);
        // SAFETY: the signal is handled.
        unsafe { libc::raise(libc::SIGUSR1) };
    });
    // What is copied can't be read: the handler comes while this thread has the key.
    is_forbidden(|| {
        handle(libc::SIGSEGV, on_signal);
        // SAFETY: a new mapping. That it can't be read is what is tried, and the child ends of that.
        let source = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0);
            slice::from_raw_parts(start.cast::<u8>(), 8)
        };
        write_bytes(region, source, 0);
    });
    write(region, 2);
    Outcome::Passed
}

fn forked() -> Outcome {
    wish();
    let (region, block) = (rt_alloc_exec_memory(page()), rt_code_alloc(64));
    let writable = rt_alloc_exec_memory(page());
    assert!(rt_make_writable(writable, page()));
    write(region, 1);
    write_function(block, 2);
    let both = || {
        write(region, 3);
        write_function(block, 4);
        is_locked(&write_views());
        store(writable, &returning(5));
        assert!(rt_make_executable(writable, page()) && call(writable, &[]) == 5);
        write(writable, 6);
        is_locked(&write_views());
    };
    assert_eq!(ends(both), Status::Exit(0));
    assert_eq!((call(region, &[]), call(block, &[])), (1, 2));
    both();
    Outcome::Passed
}

fn without_calls() -> Outcome {
    wish();
    let (region, block) = (rt_alloc_exec_memory(page()), rt_code_alloc(64));
    write(region, 1);
    write_function(block, 2);
    let ended = ends(|| {
        // What the child has in common with its parent is copied now.
        write(region, 3);
        write_function(block, 4);
        confinement::allow_only(&[libc::SYS_exit_group]).expect("a filter");
        for value in 0..100 {
            assert!(write_bytes(region, &returning(value), 0) > 0);
            assert!(write_block(block, &returning(value), 0) > 0);
        }
    });
    assert_eq!(ended, Status::Exit(0));
    Outcome::Passed
}

fn missing() -> Outcome {
    let refused = |error| {
        for wish in [RT_HARDEN_KEYS, RT_HARDEN_KEYS | RT_HARDEN_GUARDS] {
            assert!(!rt_set_hardening(wish) && rt_last_error() == error, "error {}", rt_last_error());
            assert_eq!(statistics().expect("figures").hardening, 0);
        }
    };
    if !has_keys() {
        refused(RT_ERROR_UNSUPPORTED);
        assert!(rt_alloc_exec_memory(1) > 0);
        return Outcome::Passed;
    }
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: takes keys that nothing uses.
        let take = || unsafe { libc::syscall(libc::SYS_pkey_alloc, 0, 0) };
        let last = std::iter::from_fn(|| Some(take()).filter(|key| *key > 0)).last().expect("there are some");
        refused(RT_ERROR_NO_MEMORY);
        // SAFETY: no page has it.
        assert_eq!(unsafe { libc::syscall(libc::SYS_pkey_free, last) }, 0);
    }
    assert!(rt_set_hardening(RT_HARDEN_KEYS | RT_HARDEN_GUARDS));
    Outcome::Passed
}
