//! Memory that a forked child does not get: `RT_ADVICE_DONTFORK`.

use crate::forks::{expect_success, fork, function, rewrite_region, rounds};
use crate::handlers::with_handlers;
use crate::observed::{code_memory, statistics};
use crate::service::rewrite;
use crate::{Needs, Test};
use execmem_conformance::code::{returning, unwind_records};
use execmem_conformance::memory::page;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome, Status, wait};
use execmem_tests_linux::confinement::{self, Condition, Refusal};
use execmem_tests_linux::maps;
use execmem_tests_linux::system::policy_name;
use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};

/// qemu's user mode says yes to the advice, and does nothing.
pub const TESTS: &[Test] = &[
    Test {
        name: "withheld: a child has no page and no record of it, and dies where it touches it",
        needs: Needs::Kernel,
        run: || under_each(nothing_in_a_child),
    },
    Test {
        name: "withheld: the parent's next write copies nothing, nor does the fork, however it was protected",
        needs: Needs::Kernel,
        run: nothing_is_copied,
    },
    Test {
        name: "withheld: forks that fail, and forks of children, change nothing about it",
        needs: Needs::Kernel,
        run: || under_each(other_forks),
    },
    Test {
        name: "withheld: 1,000 forks leave neither a mapping nor a record behind, in a line of children neither",
        needs: Needs::Kernel,
        run: || under_each(many_forks),
    },
    Test {
        name: "withheld: what was in common with an earlier child is withheld from a later one",
        needs: Needs::Kernel,
        run: after_an_earlier_fork,
    },
    Test {
        name: "withheld: where a filter refuses it a child has all of it",
        needs: Needs::Kernel,
        run: || under_each(refused),
    },
    Test {
        name: "withheld: a child's debuggers hear nothing of it, and code of which an unwinder knows is refused",
        needs: Needs::Kernel,
        run: announced,
    },
    Test {
        name: "withheld: a handler before a fork withholds memory that was copied for the child",
        needs: Needs::Kernel,
        run: by_a_handler,
    },
];

fn under_each(test: fn() -> Outcome) -> Outcome {
    for policy in [RT_POLICY_AUTO, RT_POLICY_RWX, RT_POLICY_DUAL, RT_POLICY_TOGGLE] {
        let run = || {
            assert!(rt_exec_memory_set_policy(policy));
            // The library's first records are mapped before any test counts mappings.
            assert!(rt_free_exec_memory(region(1), SIZE));
            test()
        };
        match children::run(run) {
            Outcome::Passed => {}
            Outcome::Failed(what) => return Outcome::Failed(format!("{}: {what}", policy_name(policy))),
            other => return other,
        }
    }
    Outcome::Passed
}

const SIZE: i64 = 5000;

/// Code that returns a number.
fn region(value: u8) -> i64 {
    crate::forks::region(value)
}

fn withhold(address: i64) {
    assert!(rt_madvise(address, SIZE, RT_ADVICE_DONTFORK), "error {}", rt_last_error());
}

/// The regions that `work` makes, and the addresses of all their views: those that share memory, which the kernel takes for
/// files, and the regions' own. What else is mapped meanwhile may be the allocator's.
fn mapped_by<const N: usize>(work: impl FnOnce() -> [i64; N]) -> ([i64; N], Vec<Range<i64>>) {
    let before = maps::lines();
    let regions = work();
    let is_view = |line: &maps::Line| line.name.starts_with(b"/");
    let views = maps::lines().into_iter().filter(is_view).map(|line| line.start..line.end);
    let mut ranges: Vec<_> = views.collect();
    for known in before {
        let cut = |range: Range<i64>| {
            [range.start..range.end.min(known.start), range.start.max(known.end)..range.end]
        };
        ranges = ranges.into_iter().flat_map(cut).filter(|range| range.start < range.end).collect();
    }
    ranges.extend(regions.map(|region| region..region + SIZE));
    (regions, ranges)
}

fn is_mapped(range: &Range<i64>) -> bool {
    maps::lines().iter().any(|line| line.start < range.end && range.start < line.end)
}

/// Whether a child that loads a byte there dies of it.
fn is_deadly(address: i64) -> bool {
    let child = fork(|| {
        // SAFETY: not that it is mapped, which is the question: the process ends either way.
        _ = unsafe { std::ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() };
    });
    wait(child) == Status::Signal(libc::SIGSEGV)
}

fn nothing_in_a_child() -> Outcome {
    let (kept, before) = (region(7), statistics());
    let (all, ranges) = mapped_by(|| {
        let near = rt_alloc_rw_memory_near(SIZE, kept, 1 << 30);
        let opened = region(2);
        assert!(rt_make_writable(opened, 1));
        [region(1), opened, rt_alloc_rw_memory(SIZE), near]
    });
    assert!(all.iter().all(|address| *address > 0), "{all:x?}");
    all.into_iter().for_each(withhold);
    let with_all = statistics();
    let child = fork(|| {
        let still: Vec<_> = ranges.iter().filter(|range| is_mapped(range)).collect();
        assert!(still.is_empty(), "{still:x?}");
        let figures = statistics();
        assert_eq!((figures.regions, figures.requested_bytes), (before.regions, before.requested_bytes));
        assert_eq!(figures.mapped_bytes, before.mapped_bytes);
        assert_eq!(figures.regions_by_protection, before.regions_by_protection);
        for address in all {
            assert_eq!(rt_get_protection(address), -1);
            assert!(!rt_is_executable(address) && call(address, &[]) == -1);
            assert_eq!(rt_last_error(), RT_ERROR_NOT_EXECUTABLE);
            assert!(!rt_free_exec_memory(address, SIZE) && rt_last_error() == RT_ERROR_NOT_OWNED);
            assert!(write_bytes(address, b"x", 0) == -1 && rt_last_error() == RT_ERROR_NOT_OWNED);
            assert!(is_deadly(address));
        }
        assert_eq!(call(kept, &[]), 7);
    });
    expect_success(child);
    // New memory at the same place, before anybody else takes it, is as good as any: a child's child has it.
    expect_success(fork(|| {
        let again = rt_alloc_exec_memory_near(SIZE, all[0], 2 * page());
        assert_eq!(again, all[0], "error {}", rt_last_error());
        rewrite_region(again, 9);
        expect_success(fork(|| assert_eq!(call(again, &[]), 9)));
    }));
    assert_eq!(statistics().regions, with_all.regions);
    assert_eq!([call(all[0], &[]), call(kept, &[])], [1, 7]);
    all.into_iter().for_each(|address| assert!(rt_free_exec_memory(address, SIZE)));
    Outcome::Passed
}

/// A copy maps memory and moves it: from now on neither is possible.
fn refuse_copies() {
    let refusals = [libc::SYS_mmap, libc::SYS_mremap].map(|call| Refusal {
        call,
        condition: Condition::Any,
        error: libc::ENOMEM,
    });
    confinement::refuse(&refusals).expect("a filter");
}

fn nothing_is_copied() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let [code, other, data, plain] = [region(1), region(2), rt_alloc_rw_memory(SIZE), region(3)];
    assert!(rt_make_writable(other, 1));
    [code, other, data].into_iter().for_each(withhold);
    let (mut done, mut say) = std::io::pipe().expect("a pipe");
    let child = fork(|| {
        // A parent that fails says so by its end.
        say = std::io::pipe().expect("a pipe").1;
        _ = std::io::Read::read(&mut done, &mut [0]);
    });
    let run = || {
        refuse_copies();
        rewrite_region(code, 4);
        assert!(rt_make_executable(other, SIZE) && write_bytes(data, b"data", 0) == 4);
        assert_eq!([call(code, &[]), call(other, &[])], [4, 2]);
        // As for memory that the child has, too.
        assert!(write_bytes(plain, &returning(5), 0) == -1 && rt_last_error() == RT_ERROR_NO_MEMORY);
        // A fork copies what can be stored to directly, and without memory for that says no.
        expect_success(fork(|| assert!(rt_get_protection(code) == -1 && call(plain, &[]) == 3)));
    };
    let outcome = std::panic::catch_unwind(run);
    std::io::Write::write_all(&mut say, b".").expect("the child waits");
    expect_success(child);
    assert!(outcome.is_ok());
    Outcome::Passed
}

fn other_forks() -> Outcome {
    let [first, second] = [region(1), region(2)];
    withhold(first);
    let failing = children::run(|| {
        let no_more = [libc::SYS_clone, libc::SYS_clone3, SYS_FORK].map(|call| Refusal {
            call,
            condition: Condition::Any,
            error: libc::EAGAIN,
        });
        confinement::refuse(&no_more).expect("a filter");
        let own = region(3);
        withhold(own);
        // SAFETY: it fails.
        assert_eq!(unsafe { libc::fork() }, -1);
        assert_eq!((call(own, &[]), rt_exec_memory_count()), (3, 2));
        rewrite_region(own, 4);
        assert_eq!(call(own, &[]), 4);
        Outcome::Passed
    });
    assert_eq!(failing, Outcome::Passed);
    let child = fork(|| {
        let third = region(3);
        assert_eq!((rt_get_protection(second), call(second, &[])), (maps::protection_at(second), 2));
        [second, third].into_iter().for_each(withhold);
        expect_success(fork(|| {
            assert_eq!([first, second, third].map(|address| rt_get_protection(address)), [-1; 3]);
            assert_eq!(rt_exec_memory_count(), 0);
        }));
        assert_eq!([call(second, &[]), call(third, &[])], [2, 3]);
    });
    expect_success(child);
    rewrite_region(second, 5);
    assert_eq!([call(first, &[]), call(second, &[])], [1, 5]);
    Outcome::Passed
}

#[cfg(target_arch = "x86_64")]
const SYS_FORK: i64 = libc::SYS_fork;
/// The others have `clone` alone.
#[cfg(not(target_arch = "x86_64"))]
const SYS_FORK: i64 = libc::SYS_clone;

fn many_forks() -> Outcome {
    let kept = region(9);
    let round = |value: u8| {
        let code = region(value);
        withhold(code);
        expect_success(fork(|| assert!(rt_exec_memory_count() == 1 && call(kept, &[]) == 9)));
        rewrite_region(code, value + 1);
        assert!(call(code, &[]) == i64::from(value) + 1 && rt_free_exec_memory(code, SIZE));
    };
    (0..50).for_each(round);
    let (memory, records) = (code_memory(), statistics().record_bytes);
    (0..rounds(1000)).for_each(|number| round(number as u8 % 100));
    assert_eq!((code_memory(), statistics().record_bytes), (memory, records));
    generations(100);
    Outcome::Passed
}

/// Each child withholds a region of its own from the next one.
fn generations(left: u32) {
    let code = region(1);
    withhold(code);
    let records = statistics().record_bytes;
    if left > 0 {
        expect_success(fork(|| {
            assert!(rt_exec_memory_count() == 1 && rt_get_protection(code) == -1);
            generations(left - 1);
        }));
    }
    assert_eq!(statistics().record_bytes, records);
}

fn after_an_earlier_fork() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    // The library's first records are mapped before.
    assert!(rt_free_exec_memory(region(1), SIZE));
    let ([code], ranges) = mapped_by(|| [region(1)]);
    let (mut done, mut say) = std::io::pipe().expect("a pipe");
    let first = fork(|| {
        // A parent that fails says so by its end.
        say = std::io::pipe().expect("a pipe").1;
        _ = std::io::Read::read(&mut done, &mut [0]);
        assert_eq!(call(code, &[]), 1);
    });
    withhold(code);
    // Behind the views is another memory then, which is withheld, too.
    rewrite_region(code, 2);
    let second = fork(|| {
        assert!(!ranges.iter().any(is_mapped), "{ranges:x?}");
        assert!(rt_get_protection(code) == -1 && is_deadly(code));
    });
    expect_success(second);
    std::io::Write::write_all(&mut say, b".").expect("the child waits");
    expect_success(first);
    assert_eq!(call(code, &[]), 2);
    Outcome::Passed
}

fn refused() -> Outcome {
    let code = region(1);
    let advice = Condition::Is(2, libc::MADV_DONTFORK as u32);
    confinement::refuse(&[Refusal { call: libc::SYS_madvise, condition: advice, error: libc::EPERM }])
        .expect("a filter");
    let before = code_memory();
    assert!(!rt_madvise(code, SIZE, RT_ADVICE_DONTFORK) && rt_last_error() == RT_ERROR_REFUSED);
    assert_eq!(code_memory(), before);
    expect_success(fork(|| {
        assert_eq!(call(code, &[]), 1);
        rewrite_region(code, 2);
        assert_eq!(call(code, &[]), 2);
    }));
    assert_eq!(call(code, &[]), 1);
    Outcome::Passed
}

fn announced() -> Outcome {
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var("EXECMEM_NAMES", "perf,gdb") };
    let files = || format!("/tmp/perf-{}.map", std::process::id());
    let (gone, kept) = (region(1), function(2));
    assert!(set_name(gone, 8, Some(c"gone")) && set_name(kept, 8, Some(c"kept")));
    withhold(gone);
    let child = fork(|| {
        // Before anybody else has the place.
        let again = rt_alloc_exec_memory_near(SIZE, gone, 2 * page());
        rewrite(kept, 3);
        assert!(set_name(kept, 4, Some(c"anew")));
        let told = std::fs::read_to_string(files()).expect("the child's file");
        _ = std::fs::remove_file(files());
        assert!(!told.contains("gone") && told.contains("anew"), "{told}");
        // Nothing of it is left to be taken back, where others come to its place.
        assert!(again == gone && set_name(again, 8, Some(c"other")) && rt_free_exec_memory(again, SIZE));
        _ = std::fs::remove_file(files());
    });
    expect_success(child);
    _ = std::fs::remove_file(files());

    let described = |address: i64| {
        let records = Box::leak(Box::new(unwind_records(address, 64)));
        // SAFETY: they are true, and stay.
        unsafe { set_unwind(address, 64, records) }
    };
    let known = region(4);
    if described(known) {
        assert!(!described(gone) && rt_last_error() == RT_ERROR_REFUSED);
        assert!(!rt_madvise(known, SIZE, RT_ADVICE_DONTFORK) && rt_last_error() == RT_ERROR_REFUSED);
        expect_success(fork(|| assert_eq!(call(known, &[]), 4)));
    } else {
        // A static program's can't be looked up.
        assert_eq!(rt_last_error(), RT_ERROR_UNSUPPORTED);
        // Nothing has changed.
        withhold(known);
    }
    assert!(rt_free_exec_memory(known, SIZE) && rt_free_exec_memory(gone, SIZE));
    Outcome::Passed
}

static BY_HANDLER: AtomicI64 = AtomicI64::new(0);

fn by_a_handler() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    with_handlers(|moment| {
        if moment == 0 {
            withhold(BY_HANDLER.load(Ordering::Relaxed));
        }
    });
    let round = || {
        let code = region(1);
        // Such memory is copied before handlers run.
        assert!(rt_make_writable(code, 1));
        BY_HANDLER.store(code, Ordering::Relaxed);
        expect_success(fork(|| {
            assert!(rt_get_protection(code) == -1 && rt_exec_memory_count() == 0);
        }));
        assert!(rt_make_executable(code, SIZE) && call(code, &[]) == 1);
        assert!(rt_free_exec_memory(code, SIZE));
    };
    round();
    // The test's own allocator may map some meanwhile.
    let mapped = || maps::lines().iter().map(|line| line.end - line.start).sum::<i64>();
    let before = mapped();
    (0..100).for_each(|_| round());
    assert!(mapped() - before < 50 * SIZE, "copies for children stay");
    Outcome::Passed
}
