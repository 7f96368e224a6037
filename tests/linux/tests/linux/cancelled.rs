//! Threads that are cancelled (pthread_cancel(3)) while they call the library: what they hold there they would keep for
//! ever. Each ends when it is out again.

use crate::operations::{Ground, OPERATIONS, Operation};
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::confinement::{self, Condition, Refusal};
use execmem_tests_linux::system::policy_name;
use libc::{c_int, c_void};
use std::ptr;

pub const TESTS: &[Test] = &[
    Test {
        name: "cancelled: a thread that is to end completes each operation first, and can be ended afterwards",
        needs: Needs::Nothing,
        run: || under(&[RT_POLICY_DUAL, RT_POLICY_TOGGLE], &[]),
    },
    Test {
        name: "cancelled: so it does where dual memory takes a file",
        needs: Needs::Kernel,
        run: || under(&[RT_POLICY_DUAL], &[NO_SECOND_VIEW]),
    },
];

const NO_SECOND_VIEW: Refusal =
    Refusal { call: libc::SYS_mremap, condition: Condition::Any, error: libc::EACCES };

// From pthread.h: the libc crate has neither.
const CANCEL_ENABLE: c_int = 0;
const CANCEL_DISABLE: c_int = 1;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

fn under(policies: &[i32], refusals: &[Refusal]) -> Outcome {
    if !refusals.is_empty()
        && let Err(reason) = confinement::refuse(refusals)
    {
        return Outcome::NotApplicable(reason);
    }
    let mut complaints = Vec::new();
    for &policy in policies {
        let wanted = |operation: &&Operation| !operation.is_alike || policy == RT_POLICY_DUAL;
        for operation in OPERATIONS.iter().filter(wanted) {
            let outcome = children::run(|| {
                assert!(rt_exec_memory_set_policy(policy));
                complete(operation);
                Outcome::Passed
            });
            if outcome != Outcome::Passed {
                complaints.push(format!("{}: {}: {outcome}", policy_name(policy), operation.name));
            }
        }
    }
    match complaints.is_empty() {
        true => Outcome::Passed,
        false => Outcome::Failed(complaints.join("\n    ")),
    }
}

struct Work<'a> {
    operation: &'a Operation,
    ground: Ground,
    /// What it gave, and whether the thread could be ended then; nothing if it ended before.
    result: Option<(bool, bool)>,
}

fn complete(operation: &Operation) {
    let ground = if operation.is_first { Ground::bare() } else { Ground::lay() };
    let mut work = Work { operation, ground, result: None };
    // SAFETY: the thread gets what it is made for, which lives until it was joined.
    unsafe {
        let mut thread = std::mem::zeroed();
        let started = libc::pthread_create(&mut thread, ptr::null(), do_work, (&raw mut work).cast());
        assert_eq!(started, 0, "a thread");
        assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
    }
    assert_eq!(work.result, Some((true, true)), "what it gave, and whether it could be ended then");
}

extern "C" fn do_work(work: *mut c_void) -> *mut c_void {
    // SAFETY: `complete` lends it to this thread. The thread is to end, which happens nowhere but where it waits or uses
    // files (pthreads(7), "Cancellation points"): in the operation, or never, if all goes well.
    unsafe {
        let work = &mut *work.cast::<Work<'_>>();
        libc::pthread_cancel(libc::pthread_self());
        let is_done = (work.operation.run)(&work.ground);
        let mut state = -1;
        pthread_setcancelstate(CANCEL_DISABLE, &mut state);
        work.result = Some((is_done, state == CANCEL_ENABLE));
    }
    ptr::null_mut()
}
