//! Lookups in a signal handler, wherever it interrupts the library: at every instruction of every operation.
//!
//! The right answers of an operation are those before it, and those after it, which a child that does it undisturbed
//! has told before. A lookup that waits for a lock that was interrupted waits for ever.

use crate::handlers::with_handlers;
use crate::lookups::{self, Board, Sight, Watch};
use crate::operations::{GIVEN, Ground, OPERATIONS, Operation};
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome, Status};
use execmem_tests_linux::confinement::{self, NO_PROCMAP_QUERY};
use execmem_tests_linux::stepping::{can_step, pause, resume, step};
use std::sync::atomic::Ordering;

pub const TESTS: &[Test] = &[
    Test {
        name: "stepping: every symbol is called by an operation that is stepped through",
        needs: Needs::Nothing,
        run: every_symbol,
    },
    Test {
        name: "stepping: lookups at each instruction of each operation say what is so before or after it (rwx)",
        needs: Needs::X86_64,
        run: || all_operations(RT_POLICY_RWX, Sight::Blind),
    },
    Test {
        name: "stepping: lookups at each instruction of each operation say what is so before or after it (dual)",
        needs: Needs::X86_64,
        run: || all_operations(RT_POLICY_DUAL, Sight::Blind),
    },
    Test {
        name: "stepping: lookups at each instruction of each operation say what is so before or after it (toggle)",
        needs: Needs::X86_64,
        run: || all_operations(RT_POLICY_TOGGLE, Sight::Blind),
    },
    Test {
        name: "stepping: lookups at each instruction of each operation say what is so before or after it (auto)",
        needs: Needs::X86_64,
        run: || all_operations(RT_POLICY_AUTO, Sight::Blind),
    },
    Test {
        name: "stepping: so they do where the kernel tells of pages that come and go",
        needs: Needs::X86_64,
        run: || all_operations(RT_POLICY_AUTO, Sight::Sighted),
    },
    Test {
        name: "stepping: a lookup that interrupts another one which reads /proc/self/maps is right, and so is that",
        needs: Needs::X86_64,
        run: without_query,
    },
    Test {
        name: "stepping: lookups are right at each instruction of what the library does around a fork",
        needs: Needs::X86_64,
        run: around_a_fork,
    },
];

/// The policy under which operations that don't depend on any are stepped through.
const ANY_POLICY: i32 = RT_POLICY_DUAL;

fn every_symbol() -> Outcome {
    let is_called = |symbol: &&&str| OPERATIONS.iter().any(|operation| operation.calls(symbol));
    let missing: Vec<_> = SYMBOL_NAMES.iter().filter(|symbol| !is_called(symbol)).collect();
    assert!(missing.is_empty(), "no operation calls {missing:?}");
    Outcome::Passed
}

fn all_operations(policy: i32, sight: Sight) -> Outcome {
    step_through(policy, sight, &|operation| !operation.is_alike || policy == ANY_POLICY, 50_000)
}

/// Where `PROCMAP_QUERY` is refused, the text of the list is read, and each question opens it anew.
fn without_query() -> Outcome {
    if let Err(reason) = can_step() {
        return Outcome::NotApplicable(reason.to_owned());
    }
    confinement::refuse(&[NO_PROCMAP_QUERY]).expect("a filter");
    let asks = |operation: &Operation| operation.is_lookup() || operation.calls("rt_call_function_0");
    step_through(ANY_POLICY, Sight::Sighted, &asks, 1000)
}

fn step_through(policy: i32, sight: Sight, is_wanted: &dyn Fn(&Operation) -> bool, least: i64) -> Outcome {
    if let Err(reason) = can_step() {
        return Outcome::NotApplicable(reason.to_owned());
    }
    let board = Board::shared();
    let mut complaints = Vec::new();
    let mut steps = 0;
    for operation in OPERATIONS.iter().filter(|operation| is_wanted(operation)) {
        // It opens the kernel's list itself, and lookups use it too, whatever the limit is.
        let sight = if operation.asks_the_kernel() { Sight::Sighted } else { sight };
        let run = |is_stepped| children::run(|| one_operation(policy, operation, sight, board, is_stepped));
        board.steps.store(0, Ordering::Relaxed);
        let outcome = match run(false) {
            Outcome::Passed => run(true),
            outcome => outcome,
        };
        steps += board.steps.load(Ordering::Relaxed);
        if outcome != Outcome::Passed {
            complaints.push(format!("{}: {outcome}, {}", operation.name, board.whereabouts()));
        }
    }
    // Fewer would mean that the operations were not stepped through.
    assert!(steps > least || !complaints.is_empty(), "only {steps} instructions");
    match complaints.is_empty() {
        true => Outcome::Passed,
        false => Outcome::Failed(complaints.join("\n    ")),
    }
}

/// A lookup that takes longer waits for ever.
const MOST_SECONDS: u32 = 60;

fn one_operation(
    policy: i32,
    operation: &Operation,
    sight: Sight,
    board: &'static Board,
    is_stepped: bool,
) -> Outcome {
    // SAFETY: asks for a SIGALRM, which ends the child.
    unsafe { libc::alarm(MOST_SECONDS) };
    assert!(rt_exec_memory_set_policy(policy));
    let ground = if operation.is_first { Ground::bare() } else { Ground::lay() };
    let mut watch = Watch::new(sight, board);
    // The first two are what the operation is about.
    watch.place("what it works on", (operation.at)(&ground), None);
    let given = if is_stepped { board.given.load(Ordering::Relaxed) } else { 0 };
    watch.place("what it gives", given, None);
    if !operation.is_first {
        let (freed, freed_block) = lookups::freed();
        watch.ground(&ground, freed, freed_block);
    }
    watch.foreign();
    // A call that fails makes the cell for that, which takes signals' blocking in some C libraries; and only from the
    // second one on may a handler ask in the midst of one (`pthread_getspecific` of glibc forgets what is half stored).
    assert!(!rt_make_executable(1, 1) && rt_last_error() == RT_ERROR_NOT_OWNED);
    if !is_stepped {
        let is_done = (operation.run)(&ground);
        assert!(is_done, "error {}", rt_last_error());
        let given = GIVEN.load(Ordering::Relaxed);
        board.given.store(given, Ordering::Relaxed);
        watch.places[1].address = given;
        watch.tell_after();
        return Outcome::Passed;
    }
    watch.begin();
    let is_done = step(lookups::look, || (operation.run)(&ground));
    assert!(is_done, "error {}", rt_last_error());
    assert_eq!(GIVEN.load(Ordering::Relaxed), given, "what it gives");
    match watch.end() {
        Ok(()) => Outcome::Passed,
        Err(what) => Outcome::Failed(what),
    }
}

/// The fork itself is not among the steps: the C library blocks all signals for that.
fn around_a_fork() -> Outcome {
    if let Err(reason) = can_step() {
        return Outcome::NotApplicable(reason.to_owned());
    }
    // SAFETY: asks for a SIGALRM, which ends the child.
    unsafe { libc::alarm(MOST_SECONDS) };
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let ground = Ground::lay();
    // What is lent has to be copied for the child.
    assert!(rt_code_write_view(ground.function) > 0);
    // The first fork makes records, which may lie where something was freed.
    // SAFETY: one thread; the child ends at once.
    let first = unsafe { libc::fork() };
    if first == 0 {
        // SAFETY: this ends the child alone.
        unsafe { libc::_exit(0) };
    }
    assert_eq!(children::wait(first), Status::Exit(0));
    let board = Board::shared();
    let mut watch = Watch::new(Sight::Sighted, board);
    let (freed, freed_block) = lookups::freed();
    watch.ground(&ground, freed, freed_block);
    watch.foreign();
    assert!(!rt_make_executable(1, 1));
    watch.tell_after();
    watch.begin();
    with_handlers(|moment| match moment {
        0 => pause(),
        _ => std::mem::forget(resume()),
    });
    // SAFETY: one thread; the child ends by `_exit`.
    let child = step(lookups::look, || unsafe { libc::fork() });
    with_handlers(|_| {});
    let verdict = watch.end();
    if child == 0 {
        // SAFETY: ends the child.
        unsafe { libc::_exit(verdict.is_err().into()) };
    }
    assert_eq!(children::wait(child), Status::Exit(0), "the child's lookups");
    assert!(board.steps.load(Ordering::Relaxed) > 1000);
    verdict.map_or_else(Outcome::Failed, |()| Outcome::Passed)
}
