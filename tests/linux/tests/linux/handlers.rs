//! Handlers of the program's own around forks, which run between the library's and the fork itself.

use crate::forks::*;
use crate::service::rewrite;
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::threads::meanwhile;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        name: "handlers: those of the program's own may use the library, before and after, on both sides",
        needs: Needs::Nothing,
        run: handlers,
    },
    Test {
        name: "handlers: a parent waits for no handler of its child's",
        needs: Needs::Nothing,
        run: slow_child,
    },
    Test {
        name: "handlers: what one writes before the fork is in both processes, in memory that was copied too",
        needs: Needs::Nothing,
        run: lent_and_writable,
    },
    Test {
        name: "handlers: what one allocates or writes before the fork is in common, and each writer gets its own",
        needs: Needs::Nothing,
        run: own_copies,
    },
    Test {
        name: "handlers: one that forks itself, before and after, on both sides, ends no other fork's protection",
        needs: Needs::Nothing,
        run: inner_forks,
    },
];

/// What runs in the handlers of the program's own: 0 before a fork, 1 in the parent, 2 in the child.
static HANDLER: AtomicUsize = AtomicUsize::new(0);

fn handle(moment: i32) {
    let handler = HANDLER.load(Ordering::Relaxed);
    if handler != 0 {
        // SAFETY: `with_handlers` stores nothing but functions of this type.
        let handler: fn(i32) = unsafe { std::mem::transmute(handler) };
        handler(moment);
    }
}

/// From now on `handler` runs between the library's own handlers and the fork.
pub fn with_handlers(handler: fn(i32)) {
    HANDLER.store(handler as usize, Ordering::Relaxed);
}

extern "C" fn before() {
    handle(0);
}
extern "C" fn in_parent() {
    handle(1);
}
extern "C" fn in_child() {
    handle(2);
}

/// Registers the handlers before the library registers its own, which it does when it is loaded: so theirs run
/// between the library's and the fork itself.
#[used]
#[unsafe(link_section = ".init_array.00101")]
static EARLY: extern "C" fn() = register;

extern "C" fn register() {
    // SAFETY: the functions fit.
    unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
}

/// A function that handlers rewrite on both sides, and one, in a chunk of its own, that no child's does.
static KEPT: AtomicI64 = AtomicI64::new(0);
static PARENTS: AtomicI64 = AtomicI64::new(0);
static HANDLED: AtomicI32 = AtomicI32::new(0);

fn handlers() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    KEPT.store(function(50), Ordering::Relaxed);
    PARENTS.store(rt_code_alloc(100_000), Ordering::Relaxed);
    with_handlers(|moment| {
        let kept = KEPT.load(Ordering::Relaxed);
        work(moment as usize);
        if moment != 0 {
            rewrite(kept, 60 + moment as u8);
        }
        if moment != 2 {
            rewrite(PARENTS.load(Ordering::Relaxed), 70 + moment as u8);
        }
        HANDLED.fetch_or(1 << moment, Ordering::Relaxed);
    });
    meanwhile(
        2,
        |number| work(10 + number),
        || {
            for _ in 0..rounds(100) {
                let [kept, parents] = [&KEPT, &PARENTS].map(|function| function.load(Ordering::Relaxed));
                let (mut forked, mut say) = std::io::pipe().expect("a pipe");
                let child = fork(|| {
                    forked.read_exact(&mut [0]).unwrap();
                    assert_eq!([call(kept, &[]), call(parents, &[])], [62, 70]);
                    work(20);
                });
                say.write_all(b".").unwrap();
                expect_success(child);
                assert_eq!([call(kept, &[]), call(parents, &[])], [61, 71]);
            }
        },
    );
    assert_eq!(HANDLED.load(Ordering::Relaxed), 0b011, "the child's own are its own");
    assert_eq!((rt_exec_memory_count(), rt_exec_memory_total()), (0, 0));
    Outcome::Passed
}

/// The end of a pipe on which a child's handler waits.
static GATE: AtomicI32 = AtomicI32::new(-1);

fn slow_child() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let kept = function(1);
    let (gate, mut opens) = std::io::pipe().expect("a pipe");
    GATE.store(std::os::fd::AsRawFd::as_raw_fd(&gate), Ordering::Relaxed);
    with_handlers(|moment| {
        if moment == 2 {
            let mut byte = 0u8;
            // SAFETY: room for a byte.
            unsafe { libc::read(GATE.load(Ordering::Relaxed), (&raw mut byte).cast(), 1) };
        }
    });
    let child = fork(|| {
        assert_eq!(call(kept, &[]), 1);
        rewrite(kept, 3);
        assert_eq!(call(kept, &[]), 3);
    });
    rewrite(kept, 2);
    work(7);
    opens.write_all(b".").unwrap();
    expect_success(child);
    assert_eq!(call(kept, &[]), 2);
    Outcome::Passed
}

/// Memory that is copied before the fork, and what a handler then does with it.
static LENT: AtomicI64 = AtomicI64::new(0);
static WRITABLE: AtomicI64 = AtomicI64::new(0);

fn lent_and_writable() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let lent = function(1);
    assert!(rt_code_write_view(lent) > 0);
    LENT.store(lent, Ordering::Relaxed);
    with_handlers(|moment| {
        if moment == 1 {
            // It has a copy for the child, which this is not for.
            rewrite(LENT.load(Ordering::Relaxed), 12);
        }
        if moment != 0 {
            return;
        }
        rewrite(LENT.load(Ordering::Relaxed), 2);
        KEPT.store(function(3), Ordering::Relaxed);
        assert!(rt_make_executable(WRITABLE.load(Ordering::Relaxed), 5000));
        // Whose memory it is that somebody stores to without asking can't be said now.
        assert_eq!(rt_code_write_view(KEPT.load(Ordering::Relaxed)), 0);
        assert_eq!(rt_last_error(), RT_ERROR_REFUSED);
        let other = region(4);
        assert!(!rt_make_writable(other, 5000) && rt_free_exec_memory(other, 5000));
    });
    for _ in 0..rounds(50) {
        let writable = region(5);
        WRITABLE.store(writable, Ordering::Relaxed);
        rewrite(lent, 1);
        assert!(rt_make_writable(writable, 5000));
        rewrite_region(writable, 6);
        let (mut changed, mut say) = std::io::pipe().expect("a pipe");
        let child = fork(|| {
            changed.read_exact(&mut [0]).unwrap();
            let kept = KEPT.load(Ordering::Relaxed);
            assert_eq!([lent, kept, writable].map(|function| call(function, &[])), [2, 3, 6]);
            rewrite(lent, 10);
            rewrite_region(writable, 11);
            assert_eq!([lent, kept, writable].map(|function| call(function, &[])), [10, 3, 11]);
        });
        let kept = KEPT.load(Ordering::Relaxed);
        assert_eq!(call(lent, &[]), 12);
        rewrite(lent, 7);
        rewrite(kept, 8);
        rewrite_region(writable, 9);
        say.write_all(b".").unwrap();
        expect_success(child);
        assert_eq!([lent, kept, writable].map(|function| call(function, &[])), [7, 8, 9]);
        assert!(rt_code_free(kept) && rt_free_exec_memory(writable, 5000));
    }
    Outcome::Passed
}

/// What a handler allocates, a block with a chunk to itself and a region, and a region that it writes to.
static MADE: [AtomicI64; 3] = [const { AtomicI64::new(0) }; 3];

fn own_copies() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    MADE[2].store(region(1), Ordering::Relaxed);
    with_handlers(|moment| {
        if moment == 0 {
            let block = rt_code_alloc(100_000);
            rewrite(block, 2);
            MADE[0].store(block, Ordering::Relaxed);
            MADE[1].store(region(2), Ordering::Relaxed);
            rewrite_region(MADE[2].load(Ordering::Relaxed), 2);
        }
    });
    let made = || MADE.each_ref().map(|address| address.load(Ordering::Relaxed));
    let results = || made().map(|address| call(address, &[]));
    let rewrite_all = |value| {
        let [block, regions @ ..] = made();
        rewrite(block, value);
        regions.into_iter().for_each(|region| rewrite_region(region, value));
    };
    for _ in 0..rounds(20) {
        let (mut changed, mut say) = std::io::pipe().expect("a pipe");
        let (mut answered, mut answer) = std::io::pipe().expect("a pipe");
        let child = fork(|| {
            changed.read_exact(&mut [0]).unwrap();
            assert_eq!(results(), [2; 3], "what the parent has written");
            rewrite_all(4);
            assert_eq!(results(), [4; 3]);
            answer.write_all(b".").unwrap();
        });
        rewrite_all(3);
        say.write_all(b".").unwrap();
        answered.read_exact(&mut [0]).unwrap();
        assert_eq!(results(), [3; 3], "what the child has written");
        expect_success(child);
        let [block, region, _] = made();
        assert!(rt_code_free(block) && rt_free_exec_memory(region, 5000));
    }
    Outcome::Passed
}

/// Whether a handler forks now: the handlers of that fork don't.
static IS_INNER: AtomicBool = AtomicBool::new(false);

fn inner_forks() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    KEPT.store(function(1), Ordering::Relaxed);
    WRITABLE.store(region(1), Ordering::Relaxed);
    LENT.store(rt_code_alloc(100_000), Ordering::Relaxed);
    let all = || [&KEPT, &LENT, &WRITABLE].map(|code| code.load(Ordering::Relaxed));
    let results = || all().map(|code| call(code, &[]));
    let rewrite_all = |value| {
        let [kept, lent, region] = all();
        [kept, lent].into_iter().for_each(|block| rewrite(block, value));
        rewrite_region(region, value);
    };
    rewrite_all(1);
    assert!(rt_code_write_view(all()[1]) > 0, "error {}", rt_last_error());
    with_handlers(|moment| {
        if IS_INNER.swap(true, Ordering::Relaxed) {
            return;
        }
        let [kept, lent, region] = [&KEPT, &LENT, &WRITABLE].map(|code| code.load(Ordering::Relaxed));
        expect_success(fork(|| {
            work(moment as usize);
            // Forks of this process are its own.
            expect_success(fork(|| work(moment as usize)));
            [kept, lent].into_iter().for_each(|block| rewrite(block, 40));
            assert!(rt_code_write_view(kept) > 0, "error {}", rt_last_error());
        }));
        if moment == 0 {
            // The fork that this is a handler of is under way still.
            assert_eq!((rt_code_write_view(kept), rt_last_error()), (0, RT_ERROR_REFUSED));
            [kept, lent].into_iter().for_each(|block| rewrite(block, 2));
            rewrite_region(region, 2);
        }
        IS_INNER.store(false, Ordering::Relaxed);
    });
    for _ in 0..rounds(20) {
        rewrite_all(1);
        let (mut changed, mut say) = std::io::pipe().expect("a pipe");
        let (mut answered, mut answer) = std::io::pipe().expect("a pipe");
        let parents = std::os::fd::AsRawFd::as_raw_fd(&answer);
        // What this moves the parent closes, so that neither waits for one that has ended.
        let child = fork(move || {
            // SAFETY: the parent's end, which nothing here uses.
            unsafe { libc::close(parents) };
            assert_eq!(results(), [2; 3]);
            rewrite_all(3);
            say.write_all(b".").unwrap();
            answered.read_exact(&mut [0]).unwrap();
            assert_eq!(results(), [3; 3]);
            work(5);
        });
        changed.read_exact(&mut [0]).unwrap();
        assert_eq!(results(), [2; 3], "what the child has written");
        rewrite_all(4);
        answer.write_all(b".").unwrap();
        expect_success(child);
        assert_eq!(results(), [4; 3]);
    }
    assert!(rt_code_write_view(KEPT.load(Ordering::Relaxed)) > 0, "error {}", rt_last_error());
    Outcome::Passed
}
