//! Hostile arguments: every symbol of the list, over and over, with numbers that nobody should pass. No call
//! ends the process or hangs; one that fails says why and has changed nothing.
//!
//! The calls are made from the list itself, so that a new symbol takes part at once. What the contract asks of a caller
//! is kept (section 1.2): pointers are valid for the length beside them, and what is called is a function.
//!
//! `EXECMEM_HOSTILE_CALLS` is how many calls there are; `cargo xtask test stress` makes a million.

mod arguments;
mod calls;
mod ground;

use arguments::Draw;
use calls::{CALLS, Outcome as Called};
use execmem_conformance::snapshot::Snapshot;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::files::{Folder, silence};
use execmem_tests_linux::programs;
use execmem_tests_linux::report::Report;
use execmem_tests_linux::system::{policy_name, slowness};
use ground::Ground;
use std::process::ExitCode;

/// Calls of a process, and of a ground in it.
const IN_A_PROCESS: u64 = 8192;
const ON_A_GROUND: u64 = 256;

fn main() -> ExitCode {
    if programs::is_asked_for() {
        return ExitCode::SUCCESS;
    }
    let _folder = Folder::make();
    let wanted = match std::env::var("EXECMEM_HOSTILE_CALLS") {
        Ok(number) => number.parse().expect("EXECMEM_HOSTILE_CALLS is a number"),
        Err(_) => 100_000 / u64::from(slowness()),
    };
    let policies = [RT_POLICY_RWX, RT_POLICY_DUAL, RT_POLICY_TOGGLE, RT_POLICY_AUTO];
    let processes = wanted.div_ceil(IN_A_PROCESS * policies.len() as u64).max(1);
    let mut report = Report::from_arguments();
    for policy in policies {
        for seed in 1..=processes {
            let name = format!("hostile arguments of every symbol ({}, seed {seed})", policy_name(policy));
            report.run(&name, false, || attack(policy, seed));
        }
    }
    println!("{} calls of {} symbols", processes * IN_A_PROCESS * policies.len() as u64, CALLS.len());
    report.close()
}

fn attack(policy: i32, seed: u64) -> Outcome {
    silence();
    assert!(rt_exec_memory_set_policy(policy));
    let mut draw = Draw::new(seed);
    let mut made = 0;
    while made < IN_A_PROCESS {
        let ground = Ground::lay();
        draw.enter(&ground);
        let mut watched = ground.watched();
        let mut before = State::of(&watched);
        for _ in 0..ON_A_GROUND {
            let call = &CALLS[draw.random.below(CALLS.len())];
            draw.begin(call.name);
            let outcome = (call.make)(&mut draw);
            let after = State::of(&watched);
            if let Err(wrong) = judge(call.name, outcome, &before, &after) {
                return Outcome::Failed(format!("{}({}): {wrong}", call.name, draw.told()));
            }
            ground::restore_limits(call.name);
            before = after;
            // What a call has freed is nobody's: the next thing that is mapped there may be this test's own.
            let were = watched.len();
            watched.retain(|(address, _)| rt_get_protection(*address) >= 0);
            if watched.len() < were {
                before = State::of(&watched);
            }
            made += 1;
        }
    }
    Outcome::Passed
}

/// What a call may not change by failing, and what tells that it did.
struct State {
    snapshot: Snapshot,
    failures: i64,
    error: i32,
}

impl State {
    fn of(watched: &[(i64, i64)]) -> Self {
        let snapshot = Snapshot::of(watched).expect("figures");
        let failures = execmem_conformance::memory::statistics().expect("figures").failed_calls;
        Self { snapshot, failures, error: rt_last_error() }
    }
}

fn judge(name: &str, outcome: Called, before: &State, after: &State) -> Result<(), String> {
    let failures = after.failures - before.failures;
    let is_quiet = ["rt_is_executable", "rt_get_protection", "rt_code_find"].contains(&name);
    let error = after.error;
    match (failures, outcome) {
        (0, Called::Failed) if is_quiet => {}
        (0, Called::Failed) => return Err("it gave its failure value and counts as a success".into()),
        (1, Called::Succeeded) => return Err(format!("error {error}, but not the failure value")),
        (0 | 1, _) => {}
        _ => return Err(format!("it counts as {failures} failures")),
    }
    if failures == 0 {
        return if error == before.error {
            Ok(())
        } else {
            Err("it succeeded and changed the last error".into())
        };
    }
    if !(RT_ERROR_INVALID_ARGUMENT..=RT_ERROR_UNKNOWN_POLICY).contains(&error) {
        return Err(format!("its error is {error}"));
    }
    let snapshots = [before, after].map(|state| match name.starts_with("rt_code_alloc") {
        true => state.snapshot.clone().without_chunks(),
        false => state.snapshot.clone(),
    });
    match snapshots[0] == snapshots[1] {
        true => Ok(()),
        false => Err(format!("error {error}, and yet from {:?} to {:?}", before.snapshot, after.snapshot)),
    }
}
