//! Every operation at every limit of the process: it does what it is for, or says what is short, and has changed
//! nothing; when there is more, it works.

use crate::observed::*;
use crate::operations::*;
use crate::service::{expect_heap_service, expect_service};
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::limits::*;
use execmem_tests_linux::maps;
use execmem_tests_linux::system::{foreign_function, policy_name};

pub const TESTS: &[Test] = &[
    Test {
        name: "operations: without addresses left, or with a few, each works or changes nothing",
        needs: Needs::Kernel,
        run: || at(&[Limit::Addresses(0), Limit::Addresses(3), Limit::Addresses(40), Limit::Addresses(2000)]),
    },
    Test {
        name: "operations: without room for private data, or with a little, each works or changes nothing",
        needs: Needs::Kernel,
        run: || at(&[Limit::Data(0), Limit::Data(3), Limit::Data(40)]),
    },
    Test {
        name: "operations: without descriptors, from the start or later, only what needs a file is no memory",
        needs: Needs::Kernel,
        run: || at(&[Limit::DescriptorsFromTheStart, Limit::Descriptors]),
    },
    Test {
        name: "operations: where all memory to come is locked, and no more may be, each works or changes nothing",
        needs: Needs::Kernel,
        run: || at(&[Limit::LockedMemory]),
    },
    Test {
        name: "operations: where no file may have a byte, no process be made and no stack grow, each works",
        needs: Needs::Kernel,
        run: || at(&[Limit::WhatIsNotNeeded]),
    },
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    /// RLIMIT_AS: so many pages are left.
    Addresses(u64),
    /// RLIMIT_DATA: so many pages are left.
    Data(u64),
    /// RLIMIT_NOFILE: none is left, and the library has none.
    DescriptorsFromTheStart,
    /// RLIMIT_NOFILE: none is left. Where each question to the kernel takes one, as much fails as from the start.
    Descriptors,
    /// RLIMIT_MEMLOCK, after `mlockall(MCL_FUTURE)`.
    LockedMemory,
    /// RLIMIT_FSIZE, RLIMIT_NPROC, RLIMIT_STACK.
    WhatIsNotNeeded,
}

impl Limit {
    /// Before anything is made.
    fn prepare(self) {
        grow_stack();
        if self == Self::LockedMemory {
            give_up_locking();
        }
        if self != Self::DescriptorsFromTheStart {
            // Asked once before, so that the file of the kernel's answers is open.
            assert!(rt_is_executable(foreign_function()));
        }
    }

    fn reach(self) {
        match self {
            Self::Addresses(pages) => leave_addresses(pages * page() as u64),
            Self::Data(pages) => leave_data(pages * page() as u64),
            Self::DescriptorsFromTheStart | Self::Descriptors => leave_no_descriptor(),
            Self::LockedMemory => {
                limit(libc::RLIMIT_MEMLOCK, page() as u64);
                // SAFETY: locks what is mapped later.
                let result = unsafe { libc::mlockall(libc::MCL_FUTURE) };
                assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
            }
            Self::WhatIsNotNeeded => {
                for resource in [libc::RLIMIT_FSIZE, libc::RLIMIT_NPROC, libc::RLIMIT_STACK] {
                    limit(resource, 0);
                }
            }
        }
    }

    fn lift(self) {
        let resources = [libc::RLIMIT_AS, libc::RLIMIT_DATA, libc::RLIMIT_NOFILE, libc::RLIMIT_MEMLOCK];
        resources.into_iter().for_each(lift);
        if self == Self::LockedMemory {
            // SAFETY: locks nothing more.
            unsafe { libc::munlockall() };
        }
    }

    /// Whether an operation can't do without what is short.
    fn must_fail(self, operation: &Operation) -> bool {
        let is_allocation = [
            "rt_alloc",
            "rt_mmap_file",
            "rt_mmap_path",
            "rt_mmap_fd",
            "rt_code_alloc in a chunk",
            "rt_value_bytes",
        ];
        let name = operation.name.trim_start_matches("the first ");
        let is = |names: &[&str]| names.iter().any(|start| name.starts_with(start));
        let is_mapped_file = is(&["rt_mmap_file", "rt_mmap_path"]) && !is(&["rt_mmap_file, anonymous"]);
        match self {
            Self::Addresses(0) => is(&is_allocation),
            Self::Data(0) => is(&["rt_alloc_rw_memory", "rt_value_bytes"]),
            Self::Descriptors if maps::has_query() => is_mapped_file,
            Self::DescriptorsFromTheStart | Self::Descriptors => is_mapped_file || name.contains("foreign"),
            Self::LockedMemory => is(&is_allocation),
            _ => false,
        }
    }

    fn may_fail(self, operation: &Operation) -> bool {
        match self {
            Self::DescriptorsFromTheStart | Self::Descriptors => self.must_fail(operation),
            Self::WhatIsNotNeeded => false,
            _ => true,
        }
    }
}

fn at(limits: &[Limit]) -> Outcome {
    let mut complaints = Vec::new();
    for limit in limits {
        for policy in [RT_POLICY_AUTO, RT_POLICY_RWX, RT_POLICY_DUAL, RT_POLICY_TOGGLE] {
            // Once it is chosen, `auto` is one of the others.
            for operation in OPERATIONS.iter().filter(|each| each.is_first || policy != RT_POLICY_AUTO) {
                match children::run(|| survive(*limit, policy, operation)) {
                    Outcome::Passed => {}
                    Outcome::Failed(what) => {
                        let policy = policy_name(policy);
                        complaints.push(format!("{policy}: {}, {limit:?}: {what}", operation.name));
                    }
                    other => return other,
                }
            }
        }
    }
    if complaints.is_empty() { Outcome::Passed } else { Outcome::Failed(complaints.join("\n    ")) }
}

/// Allocates nothing between reaching and lifting the limit.
fn survive(limit: Limit, policy: i32, operation: &Operation) -> Outcome {
    assert!(rt_exec_memory_set_policy(policy));
    limit.prepare();
    let ground = if operation.is_first { Ground::bare() } else { Ground::lay() };
    let watched = watched(&ground);
    let watched = if operation.is_first { &[][..] } else { &watched };
    let (mappings, open_files) = (code_memory(), open_files());
    let before = snapshot(watched);
    let failed_calls = statistics().failed_calls;

    limit.reach();
    let is_done = (operation.run)(&ground);
    let error = rt_last_error();
    let after = snapshot(watched);
    let count = statistics().failed_calls;
    let runs_on =
        operation.is_first || is_done || [call(ground.code, &[]), call(ground.function, &[])] == [1, 4];
    limit.lift();

    let failed = |what: &str| Outcome::Failed(format!("{what} (error {error})"));
    if let Some(problem) = untrue_pages(watched) {
        return failed(&problem);
    }
    if is_done {
        return if limit.must_fail(operation) {
            failed("the limit was not reached")
        } else {
            Outcome::Passed
        };
    }
    if !limit.may_fail(operation) {
        return failed("it needs nothing that is short");
    }
    if after != before {
        return failed(&format!("{:?}", before.expect_unchanged(watched, "the failed call")));
    }
    if !runs_on {
        return failed("code that was there runs no more");
    }
    // What can't be looked at is not called.
    let expected =
        if operation.name.starts_with("rt_call") { RT_ERROR_NOT_EXECUTABLE } else { RT_ERROR_NO_MEMORY };
    // A lookup that fails says so by its answer alone.
    if !operation.is_lookup() && (error != expected || count == failed_calls) {
        return failed("another error, or none that was counted");
    }
    if code_memory() != mappings || crate::observed::open_files() != open_files {
        return failed("mappings or open files leaked, or were lost");
    }
    if !(operation.run)(&ground) {
        return failed(&format!("then it fails without a limit, by error {}", rt_last_error()));
    }
    if let Some(problem) = untrue_pages(watched) {
        return failed(&format!("in the end, {problem}"));
    }
    expect_service();
    expect_heap_service();
    Outcome::Passed
}
