//! As much as there can be: regions, blocks, open files, locked pages, thread keys; then a little less.

use crate::service::{expect_function, expect_service};
use crate::{Needs, Test};
use execmem_conformance::memory::page;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::confinement::{self, Condition, NO_WRITABLE_CODE, Refusal};
use execmem_tests_linux::files;
use execmem_tests_linux::limits::*;
use execmem_tests_linux::system::foreign_function;

pub const TESTS: &[Test] = &[
    Test {
        name: "limits: without mappings left an allocation is no memory; it works again after a free",
        needs: Needs::Kernel,
        run: mappings,
    },
    Test {
        name: "limits: without addresses left every allocation is no memory; it works again after a free",
        needs: Needs::Kernel,
        run: addresses,
    },
    Test {
        name: "limits: a code heap without addresses or mappings left says no memory, and goes on with more",
        needs: Needs::Kernel,
        run: code_heap,
    },
    Test {
        name: "limits: without descriptors left files are no memory, and come back; code needs none",
        needs: Needs::Kernel,
        run: descriptors,
    },
    Test {
        name: "limits: where dual memory takes a file, none is left for a while, and `auto` does not settle for less",
        needs: Needs::Kernel,
        run: no_memory_file,
    },
    Test {
        name: "limits: locking more than the limit is no memory or refused, and changes nothing",
        needs: Needs::Kernel,
        run: locked_memory,
    },
    Test {
        name: "limits: where the size of physical memory is kept secret there is no limit but the system's",
        needs: Needs::Kernel,
        run: unknown_memory,
    },
    Test {
        name: "limits: without a thread key left the last error is still told",
        needs: Needs::Nothing,
        run: thread_keys,
    },
];

/// Allocates until there is no memory for more. The list needs none: it has room for all that there can be.
fn exhaust(all: &mut Vec<i64>, allocate: impl Fn() -> i64) {
    loop {
        match allocate() {
            0 => break,
            address => all.push(address),
        }
        assert!(all.len() < all.capacity(), "the limit was never met");
    }
    assert_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
}

fn mappings() -> Outcome {
    // Two views of memory of its own each, so that the kernel can't merge neighbours.
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let most = match most_mappings() {
        Ok(most) => most,
        Err(reason) => return Outcome::NotApplicable(reason),
    };
    let mut all = Vec::with_capacity(most);
    exhaust(&mut all, || rt_alloc_exec_memory(1));
    assert!(all.len() > most / 3, "only {} regions", all.len());
    assert_eq!(rt_exec_memory_count(), all.len() as i64);
    assert_eq!(rt_exec_memory_total(), all.len() as i64);
    // A change that would split a mapping fails too, and is undone.
    let large = all[all.len() / 2];
    assert!(rt_is_executable(large) && rt_is_executable(all[0]));
    for address in all.drain(all.len() - 10..) {
        assert!(rt_free_exec_memory(address, 1));
    }
    expect_service();
    for address in all {
        assert!(rt_free_exec_memory(address, 1));
    }
    assert_eq!((rt_exec_memory_count(), rt_exec_memory_total()), (0, 0));
    Outcome::Passed
}

fn addresses() -> Outcome {
    let size = 1 << 20;
    let mut all = Vec::with_capacity(10_000);
    limit(libc::RLIMIT_AS, 2 << 30);
    for allocate in [rt_alloc_exec_memory, rt_alloc_rw_memory] {
        exhaust(&mut all, || allocate(size));
    }
    assert!(all.len() > 100);
    let anonymous = map_file(None, 3, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, 2 * size);
    assert_eq!((anonymous, rt_last_error()), (RtMapping::NONE, RT_ERROR_NO_MEMORY));
    assert_eq!(rt_alloc_exec_memory_near(2 * size, all[0], i64::MAX), 0);
    assert_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
    assert_eq!(rt_exec_memory_count(), all.len() as i64);
    for address in all {
        assert!(rt_free_exec_memory(address, size));
    }
    expect_service();
    Outcome::Passed
}

fn code_heap() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    limit(libc::RLIMIT_AS, 512 << 20);
    let mut blocks = Vec::with_capacity(100_000);
    exhaust(&mut blocks, || rt_code_alloc(50_000));
    assert!(blocks.len() > 1000, "only {}", blocks.len());
    assert_eq!(rt_code_alloc(200_000), 0, "a chunk of its own");
    assert_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
    // What is there goes on.
    for block in [blocks[0], blocks[blocks.len() - 1]] {
        expect_function(block, 42);
    }
    for block in &blocks[..100] {
        assert!(rt_code_free(*block));
    }
    assert!(rt_code_alloc(50_000) > 0 && rt_code_alloc(200) > 0);
    lift(libc::RLIMIT_AS);
    assert!(rt_code_alloc(200_000) > 0);

    let most = match most_mappings() {
        Ok(most) => most,
        Err(reason) => return Outcome::NotApplicable(reason),
    };
    let (mut regions, mut large) = (Vec::with_capacity(most), Vec::with_capacity(10));
    exhaust(&mut regions, || rt_alloc_exec_memory(1));
    // Whatever empty chunk the heap has kept makes room for one.
    exhaust(&mut large, || rt_code_alloc(100_000));
    assert_eq!(call(blocks[blocks.len() - 1], &[]), 42);
    for region in regions.drain(regions.len() - 10..) {
        assert!(rt_free_exec_memory(region, 1));
    }
    assert!(rt_code_alloc(100_000) > 0);
    Outcome::Passed
}

fn descriptors() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    expect_service();
    let path = files::file(b"content");
    leave_no_descriptor();
    expect_service();
    assert!(rt_code_free(rt_code_alloc(100)));
    assert_eq!(map_file(Some(path), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0), RtMapping::NONE);
    assert_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
    assert_eq!(file_size(Some(path)), 7, "a size needs no descriptor");
    lift(libc::RLIMIT_NOFILE);
    let mapping = map_file(Some(path), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0);
    assert_eq!(mapping.size, 7);
    assert!(rt_is_executable(foreign_function()));
    expect_service();
    Outcome::Passed
}

/// As under SELinux, where executable memory needs a file.
fn no_memory_file() -> Outcome {
    let no_second_view = Refusal { call: libc::SYS_mremap, condition: Condition::Any, error: libc::EACCES };
    let refusals = [&NO_WRITABLE_CODE[..], &[no_second_view]].concat();
    if let Err(reason) = confinement::refuse(&refusals) {
        return Outcome::NotApplicable(reason);
    }
    leave_no_descriptor();
    assert_eq!((rt_alloc_exec_memory(4096), rt_last_error()), (0, RT_ERROR_NO_MEMORY));
    lift(libc::RLIMIT_NOFILE);
    expect_service();
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_DUAL);
    Outcome::Passed
}

fn locked_memory() -> Outcome {
    give_up_locking();
    let allowed = 2 * page();
    limit(libc::RLIMIT_MEMLOCK, allowed as u64);
    let size = 1 << 20;
    let address = rt_alloc_rw_memory(size);
    assert!(rt_mlock(address, allowed));
    assert!(!rt_mlock(address, size));
    assert_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
    assert!(rt_munlock(address, size));
    limit(libc::RLIMIT_MEMLOCK, 0);
    assert!(!rt_mlock(address, 1));
    assert_eq!(rt_last_error(), RT_ERROR_REFUSED);
    assert_eq!(rt_get_protection(address), 3);
    assert!(rt_free_exec_memory(address, size));
    Outcome::Passed
}

fn unknown_memory() -> Outcome {
    let no_sysinfo = Refusal { call: libc::SYS_sysinfo, condition: Condition::Any, error: libc::EPERM };
    if let Err(reason) = confinement::refuse(&[no_sysinfo]) {
        return Outcome::NotApplicable(reason);
    }
    // Whatever lies on the stack, where the answer would be.
    for size in [1 << 14, 1 << 20, 1 << 24] {
        dirty_stack(size as u64);
        let (region, block) = (rt_alloc_exec_memory(size), rt_code_alloc(size));
        assert!(region > 0 && block > 0, "{size} bytes: error {}", rt_last_error());
        assert!(rt_free_exec_memory(region, size) && rt_code_free(block));
    }
    for allocate in [rt_alloc_rw_memory, rt_alloc_exec_memory, rt_code_alloc] {
        // More than any processor has addresses for, Sv57's 56 bits included.
        assert_eq!((allocate(1 << 58), rt_last_error()), (0, RT_ERROR_NO_MEMORY));
    }
    expect_service();
    Outcome::Passed
}

#[inline(never)]
fn dirty_stack(number: u64) {
    std::hint::black_box(&mut [number; 1 << 12]);
}

fn thread_keys() -> Outcome {
    let mut made = 0;
    let mut key = 0;
    // SAFETY: makes keys until there are no more.
    while unsafe { libc::pthread_key_create(&mut key, None) } == 0 {
        made += 1;
        assert!(made < 100_000, "this C library's keys have no end");
    }
    assert_eq!(rt_last_error(), RT_ERROR_NONE);
    assert!(!rt_munmap(0, 1));
    assert_eq!(rt_last_error(), RT_ERROR_INVALID_ARGUMENT);
    assert_eq!(call(1, &[]), -1);
    assert_eq!(rt_last_error(), RT_ERROR_NOT_EXECUTABLE);
    expect_service();
    assert_eq!(rt_last_error(), RT_ERROR_NOT_EXECUTABLE);
    Outcome::Passed
}
