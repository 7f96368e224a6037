//! Forks at a limit: the child's first write has no memory, calls go on; when there is more, it writes.

use crate::forks::{expect_success, fork, function, region, rewrite_region};
use crate::observed::statistics;
use crate::service::{expect_heap_service, expect_service, rewrite};
use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::limits::*;

pub const TESTS: &[Test] = &[
    Test {
        name: "limits: a child without addresses calls, has no memory to write or free blocks, and goes on with more",
        needs: Needs::Kernel,
        run: || of_two_views(|| leave_addresses(0), || lift(libc::RLIMIT_AS)),
    },
    Test {
        name: "limits: so does a child that may lock no more of the memory that it maps",
        needs: Needs::Kernel,
        run: || {
            give_up_locking();
            of_two_views(lock_all, unlock_all)
        },
    },
    Test { name: "limits: so does a child without mappings", needs: Needs::Kernel, run: without_mappings },
    Test {
        name: "limits: a child writes and frees under rwx and toggle, whatever there is no room for",
        needs: Needs::Kernel,
        run: of_one_view,
    },
    Test {
        name: "limits: a child writes and frees without descriptors, and where no file may have a byte",
        needs: Needs::Kernel,
        run: without_files,
    },
];

/// The limit is each process's own: a child locks nothing at first.
fn lock_all() {
    limit(libc::RLIMIT_MEMLOCK, 4096);
    // SAFETY: locks what is mapped later.
    assert_eq!(unsafe { libc::mlockall(libc::MCL_FUTURE) }, 0);
}

fn unlock_all() {
    lift(libc::RLIMIT_MEMLOCK);
    // SAFETY: locks nothing more.
    unsafe { libc::munlockall() };
}

/// Functions of each kind of memory, all of which return their number.
struct Ground {
    region: i64,
    block: i64,
    /// A block whose write view was handed out.
    lent: i64,
    /// A region of code that is read-write now.
    writable: i64,
}

impl Ground {
    fn lay() -> Self {
        let lent = rt_code_alloc(100_000);
        rewrite(lent, 3);
        assert!(rt_exec_memory_policy() != RT_POLICY_DUAL || rt_code_write_view(lent) > 0);
        let writable = region(4);
        assert!(rt_make_writable(writable, 5000));
        Self { region: region(1), block: function(2), lent, writable }
    }

    fn expect_writes(&self) {
        rewrite_region(self.region, 5);
        rewrite(self.block, 6);
        rewrite(self.lent, 7);
        let found = [self.region, self.block, self.lent].map(|function| call(function, &[]));
        assert_eq!(found, [5, 6, 7]);
    }

    fn expect_calls(&self) {
        assert_eq!([call(self.region, &[]), call(self.block, &[])], [1, 2]);
    }

    fn free(self) {
        assert!(rt_code_free(self.lent) && rt_code_free(self.block));
        assert!(rt_free_exec_memory(self.region, 5000) && rt_free_exec_memory(self.writable, 5000));
        let figures = statistics();
        assert_eq!((figures.regions, figures.requested_bytes), (0, 0));
        assert_eq!((figures.code_blocks, figures.code_bytes), (0, 0));
    }
}

fn expect_failure(result: i64, failure: i64, error: i32) {
    assert_eq!((result, rt_last_error()), (failure, error));
}

fn without_mappings() -> Outcome {
    if let Err(reason) = most_mappings() {
        return Outcome::NotApplicable(reason);
    }
    static HOG: std::sync::Mutex<Option<Hog>> = std::sync::Mutex::new(None);
    // A child has the same mappings, and may unmap its own.
    let reach = || {
        let mut hog = HOG.lock().expect("one thread");
        match hog.as_mut() {
            Some(hog) => hog.fill(0),
            None => *hog = Some(Hog::leave(0).expect("mappings")),
        }
    };
    of_two_views(reach, || drop(HOG.lock().expect("one thread").take()))
}

fn of_two_views(reach: fn(), lift: fn()) -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    grow_stack();
    let ground = Ground::lay();
    reach();
    let child = fork(|| {
        // A child's memory is not locked, nor what it maps.
        reach();
        ground.expect_calls();
        let before = statistics();
        let code = returning(9);
        expect_failure(write_bytes(ground.region, &code, 0), -1, RT_ERROR_NO_MEMORY);
        expect_failure(write_block(ground.block, &code, 0), -1, RT_ERROR_NO_MEMORY);
        expect_failure(rt_code_patch(ground.block, 0).into(), 0, RT_ERROR_NO_MEMORY);
        expect_failure(rt_make_writable(ground.region, 1).into(), 0, RT_ERROR_NO_MEMORY);
        expect_failure(rt_code_free(ground.block).into(), 0, RT_ERROR_NO_MEMORY);
        // What could be stored to directly was lost: there was no memory for a copy at the fork.
        expect_failure(call(ground.lent, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
        expect_failure(write_block(ground.lent, &code, 0), -1, RT_ERROR_WRONG_PROTECTION);
        expect_failure(write_bytes(ground.writable, &code, 0), -1, RT_ERROR_WRONG_PROTECTION);
        expect_failure(read_into(ground.writable, 0, &mut [0; 4]), -1, RT_ERROR_WRONG_PROTECTION);
        ground.expect_calls();
        let after = statistics();
        assert_eq!(after.failed_calls, before.failed_calls + 9);
        assert_eq!((after.code_blocks, after.regions), (before.code_blocks, before.regions));
        lift();
        rewrite_region(ground.region, 5);
        rewrite(ground.block, 6);
        assert_eq!([call(ground.region, &[]), call(ground.block, &[])], [5, 6]);
        expect_failure(write_block(ground.lent, &code, 0), -1, RT_ERROR_WRONG_PROTECTION);
        expect_failure(rt_make_executable(ground.writable, 5000).into(), 0, RT_ERROR_WRONG_PROTECTION);
        expect_service();
        expect_heap_service();
        Ground { ..ground }.free();
    });
    expect_success(child);
    ground.expect_calls();
    assert_eq!(call(ground.lent, &[]), 3);
    lift();
    // Nobody has it in common any more, or a copy is made.
    rewrite_region(ground.region, 7);
    rewrite(ground.lent, 8);
    assert_eq!([call(ground.region, &[]), call(ground.lent, &[])], [7, 8]);
    assert!(rt_make_executable(ground.writable, 5000));
    assert_eq!(call(ground.writable, &[]), 4);
    ground.free();
    Outcome::Passed
}

fn of_one_view() -> Outcome {
    for policy in [RT_POLICY_RWX, RT_POLICY_TOGGLE] {
        let work = || {
            assert!(rt_exec_memory_set_policy(policy));
            grow_stack();
            let ground = Ground::lay();
            leave_addresses(0);
            expect_success(fork(|| {
                ground.expect_calls();
                ground.expect_writes();
                assert!(rt_make_executable(ground.writable, 5000));
                assert_eq!(call(ground.writable, &[]), 4);
                Ground { ..ground }.free();
            }));
            ground.expect_calls();
            ground.free();
            Outcome::Passed
        };
        match children::run(work) {
            Outcome::Passed => {}
            other => return other,
        }
    }
    Outcome::Passed
}

fn without_files() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let ground = Ground::lay();
    leave_no_descriptor();
    limit(libc::RLIMIT_FSIZE, 0);
    expect_success(fork(|| {
        ground.expect_calls();
        ground.expect_writes();
        Ground { ..ground }.free();
    }));
    ground.expect_calls();
    ground.free();
    Outcome::Passed
}
