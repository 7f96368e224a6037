//! Other cores drop what they have fetched, whatever the kernel refuses. No x86-64 processor executes stale code
//! long enough to be caught at it: what is seen here is that every core was made to do something else meanwhile.

use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::symbols::*;
use execmem_core::Error;
use execmem_core::platform::Pages;
use execmem_os_linux::Linux;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::confinement::{self, Condition, Refusal};
use execmem_tests_linux::threads::{Flag, meanwhile, stay_on};
use std::sync::atomic::{AtomicBool, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        name: "cores: whatever refuses membarrier, code that is written anew can be published",
        needs: Needs::Kernel,
        run: || under_each_refusal(published_anew),
    },
    Test {
        name: "cores: without membarrier every core is taken from the thread that runs there",
        needs: Needs::Kernel,
        run: every_core,
    },
    Test {
        name: "cores: a thread may run where it might before",
        needs: Needs::Kernel,
        run: || under_each_refusal(same_cores),
    },
    Test {
        name: "cores: where a thread may not be moved either it is refused, or unsupported, and changes nothing",
        needs: Needs::Kernel,
        run: nothing_left,
    },
];

fn refusal(call: i64, error: i32) -> Refusal {
    Refusal { call, condition: Condition::Any, error }
}

/// As filters and as old kernels.
fn under_each_refusal(test: fn() -> Outcome) -> Outcome {
    for error in [libc::EPERM, libc::EACCES, libc::ENOSYS, libc::EINVAL] {
        let outcome = children::run(|| {
            confinement::refuse(&[refusal(libc::SYS_membarrier, error)]).expect("a filter");
            test()
        });
        assert_eq!(outcome, Outcome::Passed, "{}", std::io::Error::from_raw_os_error(error));
    }
    Outcome::Passed
}

fn published_anew() -> Outcome {
    // Another core may be at work: the library can't leave the step out.
    meanwhile(
        1,
        |_| std::hint::spin_loop(),
        || {
            let (region, block) = (rt_alloc_exec_memory(4096), rt_code_alloc(8));
            for number in 1..20 {
                let code = returning(number);
                assert_eq!(write_bytes(region, &code, 0), code.len() as i64);
                assert_eq!(
                    call_by_name(c"rt_flush_icache", [region, 8, 0, 0, 0, 0]),
                    0,
                    "error {}",
                    rt_last_error()
                );
                assert_eq!(call(region, &[]), i64::from(number));
                assert_eq!(write_block(block, &code, 0), code.len() as i64);
                assert!(rt_code_publish(block, 8), "error {}", rt_last_error());
                assert_eq!(call(block, &[]), i64::from(number));
            }
        },
    );
    Outcome::Passed
}

/// The cores that this thread may run on.
fn cores() -> libc::cpu_set_t {
    // SAFETY: an empty set is all zeros; the kernel fills it in.
    unsafe {
        let mut cores = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&cores), &mut cores), 0);
        cores
    }
}

/// The numbers of the cores in a set.
fn numbers(cores: &libc::cpu_set_t) -> Vec<usize> {
    // SAFETY: the number is inside of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|core| unsafe { libc::CPU_ISSET(*core, cores) }).collect()
}

fn same_cores() -> Outcome {
    let all = cores();
    assert_eq!(Linux.synchronize_cores(), Ok(()));
    assert_eq!(numbers(&cores()), numbers(&all));
    let last = numbers(&all).pop().expect("it runs somewhere");
    stay_on(last);
    assert_eq!(Linux.synchronize_cores(), Ok(()));
    assert_eq!(numbers(&cores()), [last]);
    Outcome::Passed
}

/// How often the kernel took the core away from a thread.
fn interruptions(thread: i64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("the kernel counts them")
}

/// On each core a thread that never stops by itself. Not every visit takes the core from it: on a busy machine
/// somebody else may have it just then. (`membarrier` interrupts nobody in this sense, however often.)
fn every_core() -> Outcome {
    const MOST_ROUNDS: usize = 500;
    const ENOUGH: u64 = 10;
    confinement::refuse(&[refusal(libc::SYS_membarrier, libc::EPERM)]).expect("a filter");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _end = Flag(&is_over);
        let all = numbers(&cores());
        let (sender, receiver) = std::sync::mpsc::channel();
        for core in all.iter().copied() {
            let (is_over, sender) = (&is_over, sender.clone());
            scope.spawn(move || {
                stay_on(core);
                // SAFETY: gettid(2) has no arguments.
                sender.send(unsafe { libc::syscall(libc::SYS_gettid) }).expect("it is waited for");
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
        }
        let threads: Vec<i64> = receiver.iter().take(all.len()).collect();
        let before: Vec<u64> = threads.iter().map(|thread| interruptions(*thread)).collect();
        let is_interrupted = |(thread, before): (&i64, &u64)| interruptions(*thread) - before >= ENOUGH;
        let are_all_interrupted = (0..MOST_ROUNDS).any(|_| {
            assert_eq!(Linux.synchronize_cores(), Ok(()));
            threads.iter().zip(&before).all(is_interrupted)
        });
        assert!(are_all_interrupted, "a core is never visited");
    });
    Outcome::Passed
}

fn nothing_left() -> Outcome {
    for (error, expected) in [
        (libc::EPERM, Error::Refused),
        (libc::EACCES, Error::Refused),
        (libc::EINVAL, Error::Refused),
        (libc::ENOSYS, Error::Unsupported),
    ] {
        let outcome = children::run(|| {
            let all = cores();
            let calls = [libc::SYS_membarrier, libc::SYS_sched_setaffinity];
            confinement::refuse(&calls.map(|call| refusal(call, error))).expect("a filter");
            assert_eq!(Linux.synchronize_cores(), Err(expected));
            assert_eq!(numbers(&cores()), numbers(&all));
            Outcome::Passed
        });
        assert_eq!(outcome, Outcome::Passed, "{}", std::io::Error::from_raw_os_error(error));
    }
    Outcome::Passed
}
