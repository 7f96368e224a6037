//! Threads and signal handlers. What they can't catch: a missing membarrier shows on few machines, and never
//! under qemu.

use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::system::{foreign_data, foreign_function, is_slow};
use execmem_tests_linux::threads::{meanwhile, stay_on};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub const TESTS: &[Test] = &[
    Test { name: "threads: the last error is each thread's own", needs: Needs::Nothing, run: last_errors },
    Test {
        name: "threads: four allocate, write, call and free while signal handlers ask (rwx)",
        needs: Needs::Nothing,
        run: || busy_threads(RT_POLICY_RWX),
    },
    Test {
        name: "threads: four allocate, write, call and free while signal handlers ask (dual)",
        needs: Needs::Nothing,
        run: || busy_threads(RT_POLICY_DUAL),
    },
    Test {
        name: "threads: four allocate, write, call and free while signal handlers ask (toggle)",
        needs: Needs::Nothing,
        run: || busy_threads(RT_POLICY_TOGGLE),
    },
    Test {
        name: "threads: code that one thread rewrites is what another runs, at a reused address too",
        needs: Needs::Nothing,
        run: rewritten_for_another,
    },
    Test {
        name: "threads: two that write into the same region under toggle lose no byte",
        needs: Needs::Nothing,
        run: shared_region,
    },
    Test {
        name: "threads: on one core, a real-time thread that waits lets the ordinary one run that it waits for",
        needs: Needs::Kernel,
        run: real_time,
    },
    Test {
        name: "threads: a region is freed once, however many try",
        needs: Needs::Nothing,
        run: racing_frees,
    },
];

fn last_errors() -> Outcome {
    let barrier = Barrier::new(3);
    assert!(!rt_munmap(0, 1));
    let provoke: [(fn(), i32); 3] = [
        (|| assert_eq!(call(1, &[]), -1), RT_ERROR_NOT_EXECUTABLE),
        (|| assert_eq!(look_up(Some(c"nothing")), 0), RT_ERROR_NOT_FOUND),
        (|| assert_eq!(rt_alloc_exec_memory(1 << 40), 0), RT_ERROR_OVER_LIMIT),
    ];
    thread::scope(|scope| {
        for (fail, code) in provoke {
            let barrier = &barrier;
            scope.spawn(move || {
                assert_eq!(rt_last_error(), RT_ERROR_NONE, "a new thread has failed at nothing");
                for _ in 0..100 {
                    barrier.wait();
                    fail();
                    barrier.wait();
                    assert_eq!(rt_last_error(), code);
                }
            });
        }
    });
    assert_eq!(rt_last_error(), RT_ERROR_INVALID_ARGUMENT);
    Outcome::Passed
}

/// An address that threads are busy with, for the signal handler to ask about.
static ASKED: AtomicI64 = AtomicI64::new(0);
static ANSWERS: AtomicU64 = AtomicU64::new(0);
static WRONG_ANSWERS: AtomicU64 = AtomicU64::new(0);
static FUNCTION: AtomicI64 = AtomicI64::new(0);
static DATA: AtomicI64 = AtomicI64::new(0);
/// A block of the code heap that threads are busy with, and one that stays.
static ASKED_BLOCK: AtomicI64 = AtomicI64::new(0);
static BLOCK: AtomicI64 = AtomicI64::new(0);
const BLOCK_SIZE: i64 = 300;

extern "C" fn ask(_: libc::c_int) {
    let error = rt_last_error();
    let address = ASKED.load(Ordering::Relaxed);
    let (protection, _) = (rt_get_protection(address), rt_is_executable(address));
    // Lookups that find nothing leave the interrupted thread's error alone.
    let is_nothing = find_block(1).is_none() && rt_get_protection(0) == -1 && !rt_is_executable(-1);
    let is_right = (-1..8).contains(&protection)
        && is_nothing
        && rt_last_error() == error
        && rt_is_executable(FUNCTION.load(Ordering::Relaxed))
        && !rt_is_executable(DATA.load(Ordering::Relaxed))
        && are_blocks_right();
    WRONG_ANSWERS.fetch_add(u64::from(!is_right), Ordering::Relaxed);
    ANSWERS.fetch_add(1, Ordering::Relaxed);
}

/// What comes and goes is found whole or not at all, what stays always.
fn are_blocks_right() -> bool {
    let (asked, stays) = (ASKED_BLOCK.load(Ordering::Relaxed) + 2, BLOCK.load(Ordering::Relaxed));
    let holds = |(start, size)| (start..start + size).contains(&asked);
    find_block(asked).is_none_or(holds) && find_block(stays + BLOCK_SIZE - 1) == Some((stays, BLOCK_SIZE))
}

fn busy_threads(policy: i32) -> Outcome {
    // Under qemu every signal costs a parse of the list of mappings.
    let rounds = if is_slow() { 50 } else { 400 };
    assert!(rt_exec_memory_set_policy(policy));
    FUNCTION.store(foreign_function(), Ordering::Relaxed);
    DATA.store(foreign_data(), Ordering::Relaxed);
    BLOCK.store(rt_code_alloc(BLOCK_SIZE), Ordering::Relaxed);
    // SAFETY: the handler has the signature that is expected, and makes only calls that allow it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ask as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
    }
    let numbers = [const { AtomicI32::new(0) }; 4];
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let workers = [0, 1, 2, 3].map(|worker: u8| {
            let number = &numbers[worker as usize];
            scope.spawn(move || {
                // SAFETY: asks for the thread's number.
                number.store(unsafe { libc::gettid() }, Ordering::Relaxed);
                // On a busy machine the signaller may not have had its turn by then.
                (0..)
                    .take_while(|round| *round < rounds || ANSWERS.load(Ordering::Relaxed) == 0)
                    .for_each(|round| work(worker, round));
            })
        });
        scope.spawn(|| signal_until(&is_over, &numbers));
        let results = workers.map(|worker| worker.join().is_ok());
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(results, [true; 4], "every worker's memory did what it should");
    });
    assert!(ANSWERS.load(Ordering::Relaxed) > 0, "no signal arrived");
    assert_eq!(WRONG_ANSWERS.load(Ordering::Relaxed), 0);
    assert_eq!((rt_exec_memory_count(), rt_exec_memory_total()), (0, 0));
    Outcome::Passed
}

/// Signals every thread again and again. One that has ended already hears nothing. Somebody has to have answered
/// first: where answering takes longer than asking, threads would do nothing else.
fn signal_until(is_over: &AtomicBool, threads: &[AtomicI32]) {
    // SAFETY: asks for the process's number.
    let process = unsafe { libc::getpid() };
    let mut answers = u64::MAX;
    while !is_over.load(Ordering::Relaxed) {
        // Time to work in, that grows with what an answer takes.
        let waited = Instant::now();
        while ANSWERS.load(Ordering::Relaxed) == answers && waited.elapsed() < Duration::from_secs(1) {
            thread::yield_now();
        }
        thread::sleep(waited.elapsed());
        answers = ANSWERS.load(Ordering::Relaxed);
        for number in threads.iter().map(|number| number.load(Ordering::Relaxed)).filter(|number| *number > 0)
        {
            // SAFETY: the signal has a handler.
            unsafe { libc::syscall(libc::SYS_tgkill, process, number, libc::SIGUSR1) };
        }
    }
}

fn work(number: u8, round: u32) {
    let value = number * 50 + (round % 50) as u8;
    let code = returning(value);
    let size = 4096 * i64::from(1 + round % 3);
    let address = match round % 2 {
        0 => rt_alloc_exec_memory(size),
        _ => rt_alloc_rw_memory(size),
    };
    assert!(address > 0, "error {}", rt_last_error());
    ASKED.store(address, Ordering::Relaxed);
    assert_eq!(write_bytes(address, &code, size - 16), code.len() as i64);
    match round % 2 {
        0 => rt_flush_icache(address, size),
        _ => assert!(rt_make_executable(address, size)),
    }
    assert!(rt_is_executable(address) && rt_is_executable(address + size - 1));
    assert_eq!(call(address + size - 16, &[]), value as i64);
    assert!(rt_free_exec_memory(address, size));

    let block = rt_code_alloc(100 * i64::from(1 + round % 7));
    assert!(block > 0, "error {}", rt_last_error());
    ASKED_BLOCK.store(block, Ordering::Relaxed);
    assert_eq!(write_block(block, &code, 0), code.len() as i64);
    assert!(rt_code_publish(block, code.len() as i64));
    assert_eq!(call(block, &[]), value as i64);
    assert!(rt_code_free(block));
}

fn rewritten_for_another() -> Outcome {
    const ROUNDS: u8 = 200;
    let address = AtomicI64::new(0);
    let (written, called) = (Barrier::new(2), Barrier::new(2));
    let mut wrong = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut place = rt_alloc_exec_memory(4096);
            for round in 0..ROUNDS {
                // Every tenth time the memory is given back: the next is often at the same address.
                if round % 10 == 9 {
                    assert!(rt_free_exec_memory(place, 4096));
                    place = rt_alloc_exec_memory(4096);
                }
                assert_eq!(write_bytes(place, &returning(round), 0), returning(round).len() as i64);
                rt_flush_icache(place, 4096);
                address.store(place, Ordering::Relaxed);
                written.wait();
                called.wait();
            }
            assert!(rt_free_exec_memory(place, 4096));
        });
        for round in 0..ROUNDS {
            written.wait();
            wrong += i32::from(call(address.load(Ordering::Relaxed), &[]) != round as i64);
            called.wait();
        }
    });
    assert_eq!(wrong, 0);
    Outcome::Passed
}

fn shared_region() -> Outcome {
    const HALF: usize = 1 << 20;
    let rounds = if is_slow() { 20 } else { 200 };
    assert!(rt_exec_memory_set_policy(RT_POLICY_TOGGLE));
    let address = rt_alloc_exec_memory(2 * HALF as i64);
    thread::scope(|scope| {
        for index in [0, 1] {
            scope.spawn(move || {
                let half = index * HALF as i64;
                for round in 0..rounds {
                    let bytes = vec![round as u8; HALF];
                    assert_eq!(write_bytes(address, &bytes, half), HALF as i64);
                    let mut copy = [0; 8];
                    assert_eq!(read_into(address, half + HALF as i64 - 8, &mut copy), 8);
                    assert_eq!(copy, [round as u8; 8]);
                    // Into the other's first page too, which its large write has made writable for itself.
                    let place = HALF as i64 - 8 + 16 * index;
                    assert_eq!(write_bytes(address, &bytes[..16], place), 16);
                }
            });
        }
    });
    assert!(rt_is_executable(address) && rt_is_executable(address + HALF as i64));
    assert!(rt_free_exec_memory(address, 2 * HALF as i64));
    Outcome::Passed
}

/// Who only spins there spins until the kernel takes the core away from all real-time threads, which is after 0.95
/// seconds, each time that it meets the lock's holder.
fn real_time() -> Outcome {
    const ROUNDS: usize = 5000;
    const MOST: Duration = Duration::from_millis(500);
    let region = rt_alloc_exec_memory(4096);
    // SAFETY: has no preconditions (sched_getcpu(3)).
    stay_on(unsafe { libc::sched_getcpu() } as usize);
    let flush = |_| rt_flush_icache(region, 64);
    let short_calls = || {
        for _ in 0..ROUNDS {
            thread::sleep(Duration::from_micros(20));
            rt_flush_icache(region, 64);
        }
        own_time()
    };
    // What it takes without anybody to wait for: an emulated machine is slow at that too.
    let alone = thread::scope(|scope| scope.spawn(short_calls).join().expect("a thread"));
    let spent = meanwhile(1, flush, || {
        let real_time = || {
            // SAFETY: some C libraries have more fields, for which zeros are good.
            let mut priority: libc::sched_param = unsafe { std::mem::zeroed() };
            priority.sched_priority = 1;
            // SAFETY: changes this thread alone.
            if unsafe { libc::pthread_setschedparam(libc::pthread_self(), libc::SCHED_FIFO, &priority) } != 0
            {
                return None;
            }
            Some(short_calls())
        };
        thread::scope(|scope| scope.spawn(real_time).join().expect("the real-time thread"))
    });
    match spent {
        None => Outcome::NotApplicable("this user may not have real-time threads".to_owned()),
        Some(spent) => {
            let told = format!("{spent:?} of processor time for {ROUNDS} short calls, alone {alone:?}");
            assert!(spent < MOST + 2 * alone, "{told}");
            Outcome::Passed
        }
    }
}

/// The processor time that this thread has had.
fn own_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: there is room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn racing_frees() -> Outcome {
    let barrier = Barrier::new(3);
    let address = AtomicI64::new(0);
    let freed = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..3 {
            let (barrier, address, freed) = (&barrier, &address, &freed);
            scope.spawn(move || {
                for _ in 0..200 {
                    if thread == 0 {
                        address.store(rt_alloc_exec_memory(100), Ordering::Relaxed);
                    }
                    barrier.wait();
                    let is_freed = rt_free_exec_memory(address.load(Ordering::Relaxed), 100);
                    freed.fetch_add(u64::from(is_freed), Ordering::Relaxed);
                    barrier.wait();
                }
            });
        }
    });
    assert_eq!(freed.load(Ordering::Relaxed), 200);
    assert_eq!(rt_exec_memory_count(), 0);
    Outcome::Passed
}
