//! `vm.max_map_count`: the program's own mappings have used up what there is.

use crate::observed::*;
use crate::operations::*;
use crate::service::{expect_heap_service, expect_service};
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::limits::*;
use execmem_tests_linux::system::{foreign_function, is_guest, policy_name};

pub const TESTS: &[Test] = &[Test {
    name: "operations: without mappings left, or with one or two, each works or changes nothing",
    needs: Needs::Kernel,
    run: each_operation,
}];

const LIMIT: &str = "/proc/sys/vm/max_map_count";
/// The kernel's 65,530 take an emulated processor half an hour, and any number runs out alike.
const IN_A_GUEST: &str = "4000";

fn each_operation() -> Outcome {
    if !is_guest() {
        return under_each_policy();
    }
    let usual = std::fs::read_to_string(LIMIT).expect("the kernel tells its limit");
    std::fs::write(LIMIT, IN_A_GUEST).expect("the guest is ours");
    let outcome = under_each_policy();
    std::fs::write(LIMIT, usual).expect("the guest is ours");
    outcome
}

fn under_each_policy() -> Outcome {
    // Under `auto` regions are those of `rwx`, and blocks those of `dual`.
    for policy in [RT_POLICY_AUTO, RT_POLICY_DUAL, RT_POLICY_TOGGLE] {
        match children::run(|| under(policy)) {
            Outcome::Passed => {}
            Outcome::Failed(what) => return Outcome::Failed(format!("{}: {what}", policy_name(policy))),
            other => return other,
        }
    }
    Outcome::Passed
}

/// All in one process: it takes long to use up all mappings.
fn under(policy: i32) -> Outcome {
    assert!(rt_exec_memory_set_policy(policy));
    assert!(rt_is_executable(foreign_function()));
    let mut hog = match Hog::leave(0) {
        Ok(hog) => hog,
        Err(reason) => return Outcome::NotApplicable(reason),
    };
    let mut complaints = Vec::new();
    let mut all_watched = Vec::new();
    let mut failures = 0;
    for spare in 0..3 {
        let is_apt = |operation: &&Operation| !operation.is_first && !operation.is_about_the_process();
        for operation in OPERATIONS.iter().filter(is_apt) {
            hog.give(60);
            let ground = Ground::lay();
            let watched = watched(&ground);
            all_watched.extend(watched);
            let before = snapshot(&watched);
            hog.fill(spare);
            let is_done = (operation.run)(&ground);
            let error = rt_last_error();
            let after = snapshot(&watched);
            let runs_on = is_done || [call(ground.code, &[]), call(ground.function, &[])] == [1, 4];
            hog.give(60);
            let mut complain = |what: &str| {
                complaints.push(format!("{}, {spare} mappings left: {what} (error {error})", operation.name));
            };
            if is_done {
                continue;
            }
            failures += 1;
            if error != RT_ERROR_NO_MEMORY {
                complain("another error");
            }
            // The contract's exception: what was flipped to be written may not become executable again.
            let is_written = policy == RT_POLICY_TOGGLE && operation.name.contains("write");
            if after != before && !is_written {
                complain(&format!("{:?}", before.expect_unchanged(&watched, "the failed call")));
            }
            if !runs_on && !is_written {
                complain("code that was there runs no more");
            }
            if !(operation.run)(&ground) {
                complain(&format!("then it fails with more mappings, by error {}", rt_last_error()));
            }
            if is_written {
                assert!(rt_make_executable(ground.code, size()), "error {}", rt_last_error());
                assert_eq!(call(ground.code, &[]), 1);
            }
        }
    }
    // Fewer would mean that the limit was not reached.
    assert!(failures > 10, "only {failures} operations failed");
    drop(hog);
    if let Some(problem) = untrue_pages(&all_watched) {
        complaints.push(problem);
    }
    expect_service();
    expect_heap_service();
    if complaints.is_empty() { Outcome::Passed } else { Outcome::Failed(complaints.join("\n    ")) }
}
