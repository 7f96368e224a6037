//! The memory of a control group (cgroup v2), as containers have it. Addresses cost nothing of it; pages do when they are
//! touched first. Where there are none left, the kernel kills a process of the group at whatever it is doing, also in a
//! system call that brings pages in: no call fails for that. (One that may not be killed, by an `oom_score_adj` of -1000,
//! stands still in the first page that it touches until there is memory: seen on 5.10, and tried by no test.)

use crate::forks::fork;
use crate::service::{expect_heap_service, expect_service};
use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome, Status};
use std::fs;
use std::path::PathBuf;

pub const TESTS: &[Test] = &[Test {
    name: "limits: what has used up its control group's memory is killed where it touches more, and nobody else",
    needs: Needs::Guest,
    run: killed,
}];

/// What the group has, and more than it has.
const MEMORY: i64 = 24 << 20;
const MORE: i64 = 64 << 20;
/// Written at a time.
const PIECE: usize = 1 << 20;

/// A control group with little memory.
struct Group(PathBuf);

impl Group {
    fn make() -> Self {
        let root = PathBuf::from("/sys/fs/cgroup");
        fs::write(root.join("cgroup.subtree_control"), "+memory").expect("a controller of memory");
        let group = Self(root.join(format!("execmem-{}", std::process::id())));
        fs::create_dir(&group.0).expect("a group");
        group.limit(MEMORY);
        group
    }

    fn limit(&self, bytes: i64) {
        fs::write(self.0.join("memory.max"), bytes.to_string()).expect("a limit");
    }

    /// The calling process, and those that it forks, belong to the group from now on.
    fn enter(&self) {
        fs::write(self.0.join("cgroup.procs"), "0").expect("a process of the group");
    }

    /// How many processes the kernel has killed here for a lack of memory.
    fn kills(&self) -> u64 {
        let events = fs::read_to_string(self.0.join("memory.events")).expect("the kernel counts them");
        let line = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).expect("a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Once nobody is in it.
        fs::remove_dir(&self.0).expect("an empty group");
    }
}

fn write_all(address: i64, write: impl Fn(i64, &[u8], i64) -> i64) {
    let bytes = vec![7; PIECE];
    for offset in (0..MORE).step_by(PIECE) {
        assert_eq!(write(address, &bytes, offset), PIECE as i64, "error {}", rt_last_error());
    }
}

/// Each takes more than there is.
const TAKERS: [(&str, fn()); 5] = [
    ("code", || write_all(rt_alloc_exec_memory(MORE), write_bytes)),
    ("data", || write_all(rt_alloc_rw_memory(MORE), write_bytes)),
    ("a block", || write_all(rt_code_alloc(MORE), write_block)),
    ("blocks", || {
        for _ in 0..MORE / 40_000 {
            assert_eq!(write_block(rt_code_alloc(40_000), &[7; 40_000], 0), 40_000);
        }
    }),
    ("a mapping", || {
        let anonymous = RT_MAP_PRIVATE | RT_MAP_ANONYMOUS;
        write_all(map_file(None, RT_PROT_READ | RT_PROT_WRITE, anonymous, 0, MORE).address, write_bytes);
    }),
];

fn killed() -> Outcome {
    for policy in [RT_POLICY_RWX, RT_POLICY_DUAL, RT_POLICY_TOGGLE] {
        for (what, take) in TAKERS {
            let group = Group::make();
            let child = fork(|| {
                assert!(rt_exec_memory_set_policy(policy));
                group.enter();
                // Addresses are no memory.
                let addresses = rt_alloc_exec_memory(MORE);
                assert!(addresses > 0 && rt_free_exec_memory(addresses, MORE));
                expect_service();
                expect_heap_service();
                take();
            });
            assert_eq!(children::wait(child), Status::Signal(libc::SIGKILL), "{what}, policy {policy}");
            assert_eq!(group.kills(), 1, "{what}, policy {policy}");
        }
    }
    expect_service();
    Outcome::Passed
}
