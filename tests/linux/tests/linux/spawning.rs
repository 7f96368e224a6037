//! Children that the library hears nothing of: they may look, call code and execute another program.

use crate::forks::{expect_success, function, region, rewrite_region, rounds};
use crate::observed::statistics;
use crate::service::rewrite;
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::programs;
use execmem_tests_linux::threads::meanwhile;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        name: "spawning: in a signal handler that interrupted any call, a fork comes back (rwx)",
        needs: Needs::Nothing,
        run: || in_a_handler(RT_POLICY_RWX),
    },
    Test {
        name: "spawning: in a signal handler that interrupted any call, a fork comes back (dual)",
        needs: Needs::Nothing,
        run: || in_a_handler(RT_POLICY_DUAL),
    },
    Test {
        name: "spawning: children of vfork, _Fork and the system call look, call code and execute programs",
        needs: Needs::Nothing,
        run: unheard,
    },
];

/// What a child that shares memory with its parent may do: false is a failure.
fn looks(function: i64, region: i64) -> bool {
    find_block(function + 1).is_some_and(|(start, _)| start == function)
        && rt_is_executable(region)
        && rt_get_protection(region) == rt_get_protection(region + 4999)
        && call(function, &[]) == 7
        && call(region, &[]) == 8
}

/// # Safety
/// This is a child, with one thread.
unsafe fn execute() -> ! {
    let [program, argument] = programs::idle();
    let arguments = [program.as_ptr(), argument.as_ptr(), ptr::null()];
    // SAFETY: C strings and a list that ends with null. What comes back has failed.
    unsafe {
        libc::execv(program.as_ptr(), arguments.as_ptr());
        libc::_exit(3)
    }
}

static FUNCTION: AtomicI64 = AtomicI64::new(0);
static REGION: AtomicI64 = AtomicI64::new(0);
static FORKS: AtomicU32 = AtomicU32::new(0);
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// Forks, and waits for the child, which looks.
extern "C" fn forking(_signal: i32) {
    // SAFETY: the child looks, and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let is_right = looks(FUNCTION.load(Ordering::Relaxed), REGION.load(Ordering::Relaxed));
        // SAFETY: this ends the child alone.
        unsafe { libc::_exit(i32::from(!is_right)) }
    }
    let mut status = -1;
    // SAFETY: waits for the child just made.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    FAILURES.fetch_add(u32::from(waited != child || status != 0), Ordering::Relaxed);
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Works in this thread, which signals interrupt now and then, until enough forks were made.
fn with_signals(count: u32, mut work: impl FnMut()) {
    FUNCTION.store(function(7), Ordering::Relaxed);
    REGION.store(region(8), Ordering::Relaxed);
    // SAFETY: the handler has the signature that is expected.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = forking as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, ptr::null_mut()), 0);
    }
    // SAFETY: ask for numbers.
    let (process, worker) = unsafe { (libc::getpid(), libc::gettid()) };
    // Before that the thread that signals is still being made: a C library may hold a lock for it that its fork takes.
    let is_at_work = AtomicBool::new(false);
    let signal = |_| {
        let before = FORKS.load(Ordering::Relaxed);
        if before >= count || !is_at_work.load(Ordering::Relaxed) {
            // Where forks are slow the worker does nothing but handle signals, and must come to its end.
            return std::thread::yield_now();
        }
        // SAFETY: the signal has a handler.
        unsafe { libc::syscall(libc::SYS_tgkill, process, worker, libc::SIGUSR1) };
        while FORKS.load(Ordering::Relaxed) == before {
            std::thread::yield_now();
        }
        // Another time each, so that signals find it at other instructions.
        (0..before * 37 % 2000).for_each(|_| std::hint::spin_loop());
    };
    meanwhile(1, signal, || {
        is_at_work.store(true, Ordering::Relaxed);
        while FORKS.load(Ordering::Relaxed) < count {
            work();
        }
    });
    assert_eq!(FAILURES.load(Ordering::Relaxed), 0, "children that went wrong");
    let (function, region) = (FUNCTION.load(Ordering::Relaxed), REGION.load(Ordering::Relaxed));
    assert_eq!((call(function, &[]), call(region, &[])), (7, 8));
    assert!(rt_code_free(function) && rt_free_exec_memory(region, 5000));
    assert_eq!((rt_exec_memory_count(), statistics().code_blocks), (0, 0));
}

/// A bit of everything that takes a lock or a claim.
fn one_round() {
    let block = function(1);
    let memory = region(2);
    assert_eq!((call(block, &[]), call(memory, &[])), (1, 2));
    assert!(rt_code_free(block));
    assert!(rt_free_exec_memory(memory, 5000));
    assert!(rt_value_free(value_of(b"bytes")));
}

fn in_a_handler(policy: i32) -> Outcome {
    assert!(rt_exec_memory_set_policy(policy));
    with_signals(rounds(1000), one_round);
    Outcome::Passed
}

/// A child that has its parent's memory, and this stack.
extern "C" fn child_of_vfork(_: *mut libc::c_void) -> i32 {
    if looks(FUNCTION.load(Ordering::Relaxed), REGION.load(Ordering::Relaxed)) {
        // SAFETY: this is a child with one thread.
        unsafe { execute() }
    } else {
        1
    }
}

unsafe extern "C" {
    /// As POSIX 2024 has it: no handler runs.
    fn _Fork() -> libc::pid_t;
}

fn unheard() -> Outcome {
    programs::idle(); // As it asks for.
    let (function, region) = (function(7), region(8));
    FUNCTION.store(function, Ordering::Relaxed);
    REGION.store(region, Ordering::Relaxed);
    let begin = |number: i64, is_program: bool| match number {
        // SAFETY: this is a child with one thread.
        0 if looks(function, region) && is_program => unsafe { execute() },
        // SAFETY: this ends the child alone.
        0 => unsafe { libc::_exit(i32::from(!looks(function, region))) },
        number => expect_success(number as libc::pid_t),
    };
    let mut stack = vec![0u128; 16 << 10];
    for round in 0..rounds(100) {
        // SAFETY: the child looks, and ends.
        begin(unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) }, round % 2 == 0);
        // SAFETY: the child looks, and ends.
        begin(unsafe { _Fork() }.into(), round % 2 == 0);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        let top = stack.as_mut_ptr_range().end.cast();
        // SAFETY: this thread sleeps for as long as the child has its memory; the stack is the child's alone.
        let number = unsafe { libc::clone(child_of_vfork, top, flags, ptr::null_mut()) };
        begin(number.into(), false);
        assert!(programs::idle_command().status().is_ok_and(|status| status.success()));
        rewrite(function, 7);
        rewrite_region(region, 8);
    }
    assert!(rt_code_free(function) && rt_free_exec_memory(region, 5000));
    Outcome::Passed
}
