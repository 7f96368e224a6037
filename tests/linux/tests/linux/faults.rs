//! Every system call of every operation fails once, and from there on: the call fails with a good reason, has
//! changed nothing, leaks nothing, and succeeds when it is tried again.

use crate::observed::*;
use crate::operations::{Ground, LARGE, OPERATIONS, Operation};
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::faults::{Fault, arm, lift, prepare};
use execmem_tests_linux::system::{foreign_function, policy_name};

pub const TESTS: &[Test] = &[
    Test {
        name: "faults: each operation survives each single system call that fails, and changes nothing",
        needs: Needs::X86_64,
        run: || under_all_policies(false),
    },
    Test {
        name: "faults: when all system calls fail from some point on, what the library says of its pages is true",
        needs: Needs::X86_64,
        run: || under_all_policies(true),
    },
];

fn under_all_policies(lasting: bool) -> Outcome {
    let mut complaints = Vec::new();
    let mut tries = 0;
    for setting in SETTINGS {
        for operation in OPERATIONS {
            // First without any failure: how many mappings there are to be in the end.
            let undisturbed = Fault { after: u32::MAX, error: 0, lasting };
            let mappings = match children::run(|| survive(setting, operation, undisturbed, None)) {
                Outcome::NotApplicable(reason) => match reason.strip_prefix(UNDISTURBED) {
                    Some(count) => count.parse().ok(),
                    None => return Outcome::NotApplicable(reason),
                },
                outcome => panic!("{}: {outcome}", operation.name),
            };
            for error in [libc::ENOMEM, libc::EPERM] {
                for after in 0..MOST_CALLS {
                    let fault = Fault { after, error, lasting };
                    match children::run(|| survive(setting, operation, fault, mappings)) {
                        Outcome::Passed => tries += 1,
                        Outcome::NotApplicable(_) => break,
                        Outcome::Failed(what) => {
                            let (policy, hardening) = (policy_name(setting.0), setting.1);
                            let name = operation.name;
                            complaints.push(format!("{policy}, {hardening}: {name}, {fault:?}: {what}"));
                        }
                    }
                }
            }
        }
    }
    // Fewer would mean that the filter lets the calls through.
    assert!(tries + complaints.len() > 200, "only {tries} system calls were made to fail");
    match complaints.is_empty() {
        true => Outcome::Passed,
        false => Outcome::Failed(complaints.join("\n    ")),
    }
}

/// Policies, and how the process is hardened.
const SETTINGS: [(i32, i32); 4] = [
    (RT_POLICY_RWX, 0),
    (RT_POLICY_DUAL, 0),
    (RT_POLICY_TOGGLE, 0),
    // Where all views are, all guards are.
    (RT_POLICY_DUAL, RT_HARDEN_GUARDS),
];

/// No operation makes so many system calls.
const MOST_CALLS: u32 = 60;

/// The report of an operation that made fewer system calls than were to succeed; then the number of
/// mappings in the end.
const UNDISTURBED: &str = "undisturbed, mappings: ";

fn survive(
    (policy, hardening): (i32, i32),
    operation: &Operation,
    fault: Fault,
    mappings_after: Option<i64>,
) -> Outcome {
    assert!(rt_exec_memory_set_policy(policy) && rt_set_hardening(hardening));
    let ground = if operation.is_first { Ground::bare() } else { Ground::lay() };
    let watched = watched(&ground);
    let watched = if operation.is_first { &[][..] } else { &watched };
    // Asked once before, so that the file of the kernel's answers is open.
    assert!(rt_is_executable(foreign_function()));
    if let Err(reason) = prepare() {
        return Outcome::NotApplicable(reason);
    }
    let before = snapshot(watched);
    let mappings = code_memory();
    let open_files = open_files();
    let failed_calls = statistics().failed_calls;

    arm(fault);
    let is_done = (operation.run)(&ground);
    let (refused, call) = lift();
    if refused == 0 {
        assert!(is_done, "it fails though no system call does, error {}", rt_last_error());
        sweep();
        return Outcome::NotApplicable(format!("{UNDISTURBED}{}", amount_of_code_memory()));
    }
    let context = |what: &str| format!("{what} (system call {call} was refused, error {})", rt_last_error());
    if let Some(problem) = untrue_pages(watched) {
        return Outcome::Failed(context(&problem));
    }
    // A lookup that fails says so by its answer alone.
    if !is_done && !operation.is_lookup() {
        let is_shortage = fault.error == libc::ENOMEM;
        let expected = match is_shortage {
            // A call asks a lookup first.
            _ if operation.name.starts_with("rt_call_function") => RT_ERROR_NOT_EXECUTABLE,
            true => RT_ERROR_NO_MEMORY,
            false => RT_ERROR_REFUSED,
        };
        if rt_last_error() != expected {
            return Outcome::Failed(context("another error than the system's"));
        }
        if statistics().failed_calls == failed_calls {
            return Outcome::Failed(context("the failure was not counted"));
        }
    }
    if !is_done && !fault.lasting {
        if snapshot(watched) != before {
            let complaint = before.expect_unchanged(watched, "the failed call");
            return Outcome::Failed(context(&format!("{complaint:?}")));
        }
        if code_memory() != mappings {
            return Outcome::Failed(context("mappings leaked or were lost"));
        }
        if crate::observed::open_files() != open_files {
            return Outcome::Failed(context("open files leaked or were closed"));
        }
    }
    if !is_done && !(operation.run)(&ground) {
        return Outcome::Failed(context("it fails when it is tried again"));
    }
    if let Some(problem) = untrue_pages(watched) {
        return Outcome::Failed(format!("in the end, {problem}"));
    }
    // When nothing can be unmapped, pages may be lost; when one call fails, they may not. (The first operation
    // tries out what the kernel grants: a refusal changes its ways, and the page that it tried with may be lost.)
    sweep();
    let count = amount_of_code_memory();
    let is_exact = !fault.lasting && !operation.is_first;
    match mappings_after {
        Some(expected) if is_exact && count != expected => {
            Outcome::Failed(context(&format!("in the end there are {count} mappings, not {expected}")))
        }
        _ => Outcome::Passed,
    }
}

/// A chunk of the code heap that could not be unmapped is tried again with the next one.
fn sweep() {
    assert!(rt_code_free(rt_code_alloc(LARGE)), "error {}", rt_last_error());
}
