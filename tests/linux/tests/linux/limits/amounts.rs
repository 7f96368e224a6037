//! Very many: each is found, used and freed like a few.

use crate::operations::LARGE;
use crate::service::{expect_function, rewrite};
use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::memory::{RW, RX, page, statistics};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::files;
use execmem_tests_linux::stepping::{can_step, step};
use execmem_tests_linux::system::{is_emulated, policy_name, slowness};
use execmem_tests_linux::threads::meanwhile;
use std::sync::atomic::{AtomicI64, Ordering};

pub const TESTS: &[Test] = &[
    Test {
        name: "limits: among 10,000 regions of each kind the first, middle and last do what one alone does",
        needs: Needs::Nothing,
        run: regions,
    },
    Test {
        name: "limits: of a million blocks each is found, and freed, and the first, middle and last run",
        needs: Needs::Nothing,
        run: blocks,
    },
    Test {
        name: "limits: a large block comes and goes with as many instructions among 1,000 as among 20",
        needs: Needs::X86_64,
        run: large_blocks,
    },
    Test {
        name: "limits: when 20,000 regions were there and are gone, the memory of their records is gone, whoever looks",
        needs: Needs::Nothing,
        run: records,
    },
];

fn regions() -> Outcome {
    for policy in [RT_POLICY_DUAL, RT_POLICY_TOGGLE] {
        let work = || {
            assert!(rt_exec_memory_set_policy(policy));
            many_regions();
            Outcome::Passed
        };
        match children::run(work) {
            Outcome::Passed => {}
            other => return Outcome::Failed(format!("{}: {other}", policy_name(policy))),
        }
    }
    Outcome::Passed
}

fn many_regions() {
    let count = 10_000 / slowness() as usize / 2 * 2; // They are freed in pairs.
    let path = files::file(&[b'x'; 100]);
    let anonymous = RT_MAP_PRIVATE | RT_MAP_ANONYMOUS;
    let some = |make: &dyn Fn() -> i64| {
        let all: Vec<i64> = (0..count).map(|_| make()).collect();
        assert!(all.iter().all(|address| *address > 0), "error {}", rt_last_error());
        all
    };
    let code = some(&|| rt_alloc_exec_memory(100));
    let data = some(&|| rt_alloc_rw_memory(100));
    let mapped = some(&|| map_file(Some(path), RW, RT_MAP_PRIVATE, 0, 0).address);
    let fresh = some(&|| map_file(None, RW, anonymous, 0, 100).address);
    let figures = statistics().expect("figures");
    let count = count as i64;
    assert_eq!((figures.regions, figures.requested_bytes), (2 * count, 200 * count));
    assert_eq!(figures.regions_by_protection.iter().sum::<i64>(), 4 * count);
    for index in [0, code.len() / 2, code.len() - 1] {
        let value = index as u8 % 100 + 1;
        for address in [code[index], data[index], mapped[index], fresh[index]] {
            assert_eq!(write_bytes(address, &returning(value), 0), 8);
            let mut bytes = [0; 8];
            assert_eq!(read_into(address, 0, &mut bytes), 8);
            assert_eq!(bytes[..], returning(value)[..]);
            assert!(rt_make_executable(address, 100));
            assert_eq!(call(address, &[]), value.into());
            assert_eq!((rt_get_protection(address), rt_is_executable(address)), (RX, true));
            assert!(rt_make_writable(address, 100) && rt_get_protection(address) == RW);
            assert!(rt_set_protection(address, 100, RT_PROT_READ));
            assert_eq!((write_bytes(address, b"x", 0), rt_last_error()), (-1, RT_ERROR_WRONG_PROTECTION));
            assert!(rt_madvise(address, 100, RT_ADVICE_WILLNEED) && rt_munlock(address, 100));
            let near = rt_alloc_exec_memory_near(100, address, 1 << 40);
            assert!(near > 0 && rt_free_exec_memory(near, 100));
            // The page behind is another region's, or nobody's.
            assert_eq!((write_bytes(address, b"x", 100), rt_last_error()), (-1, RT_ERROR_NOT_OWNED));
            assert!(!rt_free_exec_memory(address, 101) && !rt_free_exec_memory(address + 1, 100));
        }
    }
    // From both ends to the middle, so that neighbours go at different times.
    for index in (0..code.len() / 2).flat_map(|index| [index, code.len() - 1 - index]) {
        assert!(rt_free_exec_memory(code[index], 100) && rt_free_exec_memory(data[index], page()));
        assert!(rt_munmap(mapped[index], 100) && rt_munmap(fresh[index], 100));
    }
    let figures = statistics().expect("figures");
    assert_eq!((figures.regions, figures.requested_bytes, figures.mapped_bytes), (0, 0, 0));
}

fn blocks() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let count = 1_000_000 / i64::from(slowness());
    let size = |index: i64| 8 + index % 40;
    let mut all = Vec::with_capacity(count as usize);
    for index in 0..count {
        let block = rt_code_alloc(size(index));
        assert!(block > 0, "block {index}: error {}", rt_last_error());
        all.push(block);
    }
    let figures = statistics().expect("figures");
    let bytes = (0..count).map(size).sum::<i64>();
    assert_eq!((figures.code_blocks, figures.code_bytes), (count, bytes));
    let marked = [0, count / 2, count - 1];
    for (index, value) in marked.into_iter().zip(1..) {
        expect_function(all[index as usize], value);
    }
    for (index, block) in all.iter().enumerate() {
        let size = size(index as i64);
        assert_eq!(find_block(block + size - 1), Some((*block, size)));
        assert!(find_block(block + size).is_none_or(|(other, _)| other != *block));
    }
    for (index, value) in marked.into_iter().zip(1..) {
        assert_eq!(call(all[index as usize], &[]), value);
        rewrite(all[index as usize], value as u8 + 10);
        assert_eq!(call(all[index as usize], &[]), value + 10);
    }
    // Every second one first: each run of free space is one block long.
    for start in 0..2 {
        for block in all.iter().skip(start).step_by(2) {
            assert!(rt_code_free(*block) && !rt_is_executable(*block));
        }
        assert!(!rt_code_free(all[start]) && rt_last_error() == RT_ERROR_NOT_OWNED);
        let left = statistics().expect("figures").code_blocks;
        assert_eq!(left, if start == 0 { count / 2 } else { 0 });
    }
    assert_eq!(statistics().expect("figures").code_bytes, 0);
    Outcome::Passed
}

static INSTRUCTIONS: AtomicI64 = AtomicI64::new(0);

fn instructions(work: impl FnOnce()) -> i64 {
    let count = |_| _ = INSTRUCTIONS.fetch_add(1, Ordering::Relaxed);
    let before = INSTRUCTIONS.load(Ordering::Relaxed);
    step(count, work);
    INSTRUCTIONS.load(Ordering::Relaxed) - before
}

/// Each has a chunk to itself.
fn large_blocks() -> Outcome {
    if let Err(reason) = can_step() {
        return Outcome::NotApplicable(reason.to_owned());
    }
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let mut all = Vec::new();
    let mut effort_among = |count: usize| {
        all.resize_with(count, || rt_code_alloc(LARGE));
        // Now and then a table grows: the least of some.
        let efforts = (0..3).map(|round| {
            let block = &mut all[round * count / 3];
            instructions(|| {
                assert!(rt_code_free(*block));
                *block = rt_code_alloc(LARGE);
                assert!(find_block(*block + LARGE - 1) == Some((*block, LARGE)));
            })
        });
        efforts.min().expect("three")
    };
    let (few, many) = (effort_among(20), effort_among(1000));
    assert!(few > 100, "only {few} instructions");
    assert!(many < few + few / 2, "{many} instructions, {few} among twenty");
    Outcome::Passed
}

/// Each region ends in a node of the page map that no other one needs: its records take 4 KiB.
fn records() -> Outcome {
    // Where a page is more than a node, nodes keep their memory, and serve again.
    const NODE: i64 = 4096;
    let size = (2 << 20) + page();
    let allowed = if page() == NODE { 2 << 20 } else { 200 << 20 };
    let count = 20_000 / i64::from(slowness());
    // Nodes come in groups, of which one may be there already.
    let least = count * NODE * 9 / 10;
    let map = || map_file(None, RT_PROT_READ, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, size).address;
    let looked = AtomicI64::new(map());
    let lives = map();
    let look = |_| {
        // What is live is known at any moment, and what comes and goes leads nowhere else.
        assert_eq!([lives, lives + size - 1].map(|at| rt_get_protection(at)), [RT_PROT_READ; 2]);
        let other = looked.load(Ordering::Relaxed);
        assert_eq!((rt_is_executable(other), find_block(other)), (false, None));
    };
    let held = || statistics().expect("figures").record_bytes;
    let work = || {
        let (records, resident) = (held(), resident());
        for _ in 0..3 {
            let all: Vec<i64> = (0..count).map(|_| map()).collect();
            assert!(all.iter().all(|address| *address > 0), "error {}", rt_last_error());
            let most = (held() - records, self::resident() - resident);
            for address in all {
                looked.store(address + size - 1, Ordering::Relaxed);
                assert!(rt_munmap(address, size));
            }
            let left = (held() - records, self::resident() - resident);
            println!("{count} regions: {most:?} bytes of records and resident, then {left:?}");
            assert!(most.0 > least && left.0 < allowed, "the records' own figure");
            // Of qemu's user mode most of that memory is its own.
            assert!(is_emulated() || most.1 > least && left.1 < allowed, "what the kernel says");
        }
    };
    meanwhile(1, look, work);
    Outcome::Passed
}

/// Bytes of this process that are in memory.
fn resident() -> i64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok());
    pages.expect("a number of pages") * page()
}
