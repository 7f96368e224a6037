//! Huge pages: what the library counts is what the kernel has made, whatever becomes of the code afterwards.

use crate::forks::{expect_success, fork, rounds};
use crate::observed::resident;
use crate::service::rewrite;
use crate::{Needs, Test};
use execmem_conformance::memory::statistics;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::confinement::{self, Condition, Refusal};
use execmem_tests_linux::maps::Line;
use execmem_tests_linux::threads::meanwhile;

pub const TESTS: &[Test] = &[
    Test {
        name: "huge: what is full becomes huge, as the kernel says too, and runs, under each policy but toggle",
        needs: Needs::NewKernel,
        run: || under_each_policy(as_the_kernel_says),
    },
    Test {
        name: "huge: chunks lie at multiples of a huge page, near something too, and where others are in the way",
        needs: Needs::NewKernel,
        run: places,
    },
    Test {
        name: "huge: a sparse chunk stays as small as it is, and one that is nearly full grows by a seventh at most",
        needs: Needs::NewKernel,
        // Its chunks have to lie side by side.
        run: || under_each(&SETTINGS[..2], sparse_chunks),
    },
    Test {
        name: "huge: code that nobody has run, in a gibibyte where nothing else is",
        needs: Needs::NewKernel,
        run: || under_each_policy(far_from_all),
    },
    Test {
        name: "huge: after a fork both processes count what each of them has, whichever writes",
        needs: Needs::NewKernel,
        run: || under_each_policy(forks),
    },
    Test {
        name: "huge: code runs, is replaced and freed by others while it is made huge",
        needs: Needs::NewKernel,
        run: || under_each_policy(meanwhile_in_use),
    },
    Test {
        name: "huge: code is made huge in a process that forks meanwhile",
        needs: Needs::NewKernel,
        run: || under_each_policy(forks_meanwhile),
    },
    Test {
        name: "huge: a kernel that doesn't know how says unsupported, and code runs on as it is",
        needs: Needs::Kernel,
        run: older_kernel,
    },
    Test {
        name: "huge: whatever keeps the kernel from it is an error, until it is over",
        needs: Needs::NewKernel,
        run: refusals,
    },
];

const MIB: i64 = 1 << 20;
const SIZE: i64 = 4096;
const ALL: i64 = i64::MAX;
const HUGE: usize = 2 << 20;

/// What is not so on this machine.
fn lacks() -> Option<Outcome> {
    let lacks = |reason: &str| Some(Outcome::NotApplicable(reason.to_owned()));
    if rt_get_page_size() != 4096 {
        return lacks("a huge page is longer than a chunk where pages have more than 4 KiB");
    }
    if rt_code_promote(0) < 0 {
        assert_eq!(rt_last_error(), RT_ERROR_UNSUPPORTED);
        return lacks("the kernel is older than 6.1, or has no huge pages");
    }
    None
}

/// Policies, and how the process is hardened. With guards a chunk has to lie, in its memory too, where huge pages can
/// begin.
const SETTINGS: [(i32, i32); 3] =
    [(RT_POLICY_DUAL, 0), (RT_POLICY_RWX, 0), (RT_POLICY_DUAL, RT_HARDEN_GUARDS)];

fn under_each_policy(test: fn()) -> Outcome {
    under_each(&SETTINGS, test)
}

fn under_each(settings: &[(i32, i32)], test: fn()) -> Outcome {
    for (policy, hardening) in settings.iter().copied() {
        let outcome = children::run(|| {
            assert!(rt_exec_memory_set_policy(policy) && rt_set_hardening(hardening));
            lacks().unwrap_or_else(|| {
                test();
                Outcome::Passed
            })
        });
        if outcome != Outcome::Passed {
            return outcome;
        }
    }
    Outcome::Passed
}

/// Blocks of a page each that are written to their end; the function at their start returns a number of one byte.
fn fill(bytes: i64) -> Vec<i64> {
    fill_by(bytes, || rt_code_alloc(SIZE))
}

fn fill_by(bytes: i64, alloc: impl Fn() -> i64) -> Vec<i64> {
    (0..bytes / SIZE)
        .map(|number| {
            let block = alloc();
            assert!(block > 0, "error {}", rt_last_error());
            assert_eq!(write_block(block, &[0xcc; SIZE as usize], 0), SIZE);
            rewrite(block, number as u8);
            block
        })
        .collect()
}

fn expect_all(blocks: &[i64]) {
    for (number, block) in blocks.iter().enumerate() {
        assert_eq!(call(*block, &[]), i64::from(number as u8), "block {number}");
    }
}

/// Bytes of huge pages that this process has at the addresses of blocks, after each was touched.
fn as_mapped(blocks: &[i64]) -> i64 {
    let text = std::fs::read_to_string("/proc/self/smaps").expect("the kernel tells");
    let (mut is_code, mut huge) = (false, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        match first {
            "ShmemPmdMapped:" | "AnonHugePages:" | "FilePmdMapped:" if is_code => {
                huge += words.next().and_then(|number| number.parse::<i64>().ok()).expect("KiB") << 10;
            }
            _ if first.ends_with(':') => {}
            _ => {
                let (start, end) = first.split_once('-').expect("a range");
                let [start, end] =
                    [start, end].map(|digits| u64::from_str_radix(digits, 16).expect("digits"));
                is_code = blocks.iter().any(|block| (start..end).contains(&(*block as u64)));
            }
        }
    }
    huge
}

/// Whether the kernel makes private memory huge when it is first touched: the usual one of Debian's kernels.
fn is_huge_unasked() -> bool {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    rt_exec_memory_policy() == RT_POLICY_RWX && setting.is_ok_and(|setting| setting.contains("[always]"))
}

/// Makes code huge, which has to succeed.
#[track_caller]
fn promote(budget: i64) -> i64 {
    let bytes = rt_code_promote(budget);
    assert!(bytes >= 0, "error {}", rt_last_error());
    bytes
}

#[track_caller]
fn expect_huge(bytes: i64, blocks: &[i64]) {
    assert_eq!(promote(0), bytes);
    assert_eq!(statistics().expect("figures").huge_code_bytes, bytes);
    let mapped = as_mapped(blocks);
    assert!(mapped == bytes || mapped > bytes && is_huge_unasked(), "{mapped} bytes of {bytes}");
}

fn as_the_kernel_says() {
    let blocks = fill(12 * MIB);
    expect_huge(0, &blocks);
    for bytes in [2 * MIB, 4 * MIB] {
        assert_eq!(promote(2 * MIB + 1), bytes);
        expect_all(&blocks);
        expect_huge(bytes, &blocks);
    }
    assert_eq!(promote(ALL), 12 * MIB);
    expect_all(&blocks);
    expect_huge(12 * MIB, &blocks);
    let large = rt_code_alloc(11 * MIB);
    assert_eq!(write_block(large, &vec![0xcc; 11 * MIB as usize], 0), 11 * MIB);
    rewrite(large, 7);
    assert_eq!(
        rt_code_promote(ALL),
        22 * MIB,
        "what lies behind its last two mebibytes is shorter than a huge page"
    );
    assert!(rt_code_free(large));
    expect_huge(12 * MIB, &blocks);
    for block in &blocks {
        rewrite(*block, 5);
        assert_eq!(call(*block, &[]), 5);
    }
    expect_huge(12 * MIB, &blocks);
    assert!(blocks.iter().all(|block| rt_code_free(*block)));
    // One chunk stays for those who come next.
    assert_eq!(promote(0), 4 * MIB);
}

fn places() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    if let Some(lacks) = lacks() {
        return lacks;
    }
    let anchor = rt_alloc_exec_memory(100);
    let near = rt_code_alloc_near(SIZE, anchor, 1 << 30);
    let far = rt_code_alloc_near(SIZE, anchor & !((1 << 40) - 1), 1 << 30);
    // More than there is room for below what the kernel had mapped before. None is written: they take no memory.
    let others = (0..100 * 64).map(|_| rt_code_alloc(64 << 10));
    let blocks: Vec<i64> = others.chain([near, far]).collect();
    assert!(blocks.iter().all(|block| *block > 0), "error {}", rt_last_error());
    let lines = execmem_tests_linux::maps::lines();
    let has_block = |line: &&Line| blocks.iter().any(|block| (line.start..line.end).contains(block));
    let chunks: Vec<_> = lines.iter().filter(has_block).map(|line| line.start).collect();
    assert!(chunks.len() > 100, "{}", chunks.len());
    let crooked: Vec<_> = chunks.iter().filter(|start| *start % HUGE as i64 != 0).collect();
    assert!(crooked.is_empty(), "{} of {}: {crooked:x?}", crooked.len(), chunks.len());
    Outcome::Passed
}

fn sparse_chunks() {
    if is_huge_unasked() {
        // Then no chunk is sparse.
        return;
    }
    let blocks: Vec<i64> = (0..3 * HUGE / 4096).map(|_| rt_code_alloc(SIZE)).collect();
    let start = *blocks.iter().min().expect("a block");
    // Pages that are written one after another get memory in advance: so not those that are left out.
    let write = |stretch: i64, each: usize| {
        let pages = start + 2 * MIB * stretch..start + 2 * MIB * (stretch + 1);
        let blocks: Vec<_> = blocks.iter().filter(|block| pages.contains(block)).collect();
        for (number, block) in blocks.into_iter().enumerate().rev() {
            if number % each != 0 {
                assert_eq!(write_block(*block, &[0xcc; SIZE as usize], 0), SIZE);
                assert!(rt_code_publish(*block, SIZE));
            }
        }
    };
    write(0, 2);
    write(1, 7);
    write(2, 9);
    let [before, huge] = [6 * MIB, 2 * MIB].map(|length| resident(start + 6 * MIB - length, length));
    assert!(before < 5 * MIB && huge < 2 * MIB, "{before} bytes, {huge} of them in the fullest part");
    assert_eq!(promote(ALL), 2 * MIB);
    let after = resident(start, 6 * MIB);
    assert_eq!(after, before + 2 * MIB - huge);
    assert!(after <= before + 2 * MIB / 8);
    let bytes = [blocks[1], blocks[0], blocks[3 * HUGE / 4096 - 1]].map(execmem_conformance::memory::byte);
    assert_eq!(bytes, [0xcc, 0, 0xcc]);
}

/// There the processor has no tables of addresses yet for the view that is executed. Kernels as new as 6.18 make it huge in
/// any case: only older ones, under `dual`, show that the library sees to it.
fn far_from_all() {
    let anchor = rt_alloc_exec_memory(100);
    assert!(anchor > 0);
    let far = anchor & !((1 << 40) - 1) | 3 << 29;
    let is_apart = |line: &Line| line.end <= far - (1 << 29) || far + (1 << 29) <= line.start;
    assert!(execmem_tests_linux::maps::lines().iter().all(is_apart), "something is there");
    let blocks = fill_by(8 * MIB, || rt_code_alloc_near(SIZE, far, 1 << 29));
    assert_eq!(promote(ALL), 8 * MIB);
    expect_all(&blocks);
    expect_huge(8 * MIB, &blocks);
}

fn forks() {
    let blocks = fill(8 * MIB);
    assert_eq!(promote(ALL), 8 * MIB);
    let is_dual = rt_exec_memory_policy() == RT_POLICY_DUAL;
    expect_success(fork(|| {
        let of_parent = if is_dual { 8 * MIB } else { 0 };
        assert_eq!(promote(0), of_parent);
        rewrite(blocks[0], 0);
        assert_eq!(promote(0), of_parent / 2);
        expect_all(&blocks);
        assert_eq!(promote(ALL), 8 * MIB);
        expect_all(&blocks);
        expect_huge(8 * MIB, &blocks);
    }));
    rewrite(blocks[0], 0);
    assert_eq!(promote(0), if is_dual { 4 * MIB } else { 0 });
    assert_eq!(promote(ALL), 8 * MIB);
    expect_all(&blocks);
    expect_huge(8 * MIB, &blocks);
}

fn meanwhile_in_use() {
    let blocks = fill(8 * MIB);
    let work = |thread: usize| match thread {
        0 => blocks.iter().for_each(|block| {
            assert!((0..=255).contains(&call(*block, &[])));
        }),
        1 => (0..blocks.len()).step_by(7).for_each(|number| rewrite(blocks[number], number as u8)),
        _ => {
            let large = rt_code_alloc(4 * MIB);
            assert_eq!(write_block(large, &vec![0xcc; 4 * MIB as usize], 0), 4 * MIB);
            rewrite(large, 9);
            assert_eq!(call(large, &[]), 9);
            assert!(rt_code_free(large));
        }
    };
    meanwhile(3, work, || {
        for _ in 0..rounds(300) {
            assert!(rt_code_promote(ALL) >= 0 || rt_last_error() != RT_ERROR_INVALID_ARGUMENT);
        }
    });
    rt_code_promote(ALL);
    expect_all(&blocks);
    // Empty chunks are as huge as others.
    assert!(promote(0) >= as_mapped(&blocks));
    assert_eq!(as_mapped(&blocks), 8 * MIB);
}

fn forks_meanwhile() {
    let blocks = fill(4 * MIB);
    // The kernel may be busy with a page for the other process, which has it too (EAGAIN).
    let promote_all = || while rt_code_promote(ALL) != 4 * MIB {};
    let work = |thread: usize| match thread {
        0 => _ = rt_code_promote(ALL),
        _ => rewrite(blocks[3], 3),
    };
    meanwhile(2, work, || {
        for _ in 0..rounds(50) {
            expect_success(fork(|| {
                rewrite(blocks[1], 1);
                expect_all(&blocks);
                promote_all();
                expect_all(&blocks);
                expect_huge(4 * MIB, &blocks);
            }));
        }
    });
    promote_all();
    expect_all(&blocks);
    if rt_exec_memory_policy() == RT_POLICY_RWX {
        // A huge page that a child still had was taken apart by a write, which nobody is told of.
        return assert!(as_mapped(&blocks) <= 4 * MIB);
    }
    expect_huge(4 * MIB, &blocks);
}

/// linux/asm-generic/mman-common.h.
const MADV_COLLAPSE: u32 = 25;

/// `MADV_COLLAPSE` fails, as it does for such a reason.
const fn collapse(error: i32) -> Refusal {
    Refusal { call: libc::SYS_madvise, condition: Condition::Is(2, MADV_COLLAPSE), error }
}

fn older_kernel() -> Outcome {
    confinement::refuse(&[collapse(libc::EINVAL)]).expect("a filter");
    let blocks = fill(4 * MIB);
    for budget in [0, ALL] {
        assert_eq!((rt_code_promote(budget), rt_last_error()), (-1, RT_ERROR_UNSUPPORTED));
    }
    expect_all(&blocks);
    assert_eq!(statistics().expect("figures").huge_code_bytes, 0);
    Outcome::Passed
}

fn refusals() -> Outcome {
    let residence = Refusal { call: libc::SYS_mincore, condition: Condition::Any, error: libc::EPERM };
    for (refusal, expected) in [
        (collapse(libc::ENOMEM), RT_ERROR_NO_MEMORY),
        (collapse(libc::EBUSY), RT_ERROR_NO_MEMORY),
        (collapse(libc::EAGAIN), RT_ERROR_NO_MEMORY),
        (collapse(libc::EINVAL), RT_ERROR_UNSUPPORTED),
        (collapse(libc::EPERM), RT_ERROR_REFUSED),
        (residence, RT_ERROR_REFUSED),
    ] {
        let outcome = children::run(|| {
            if let Some(lacks) = lacks() {
                return lacks;
            }
            let blocks = fill(8 * MIB);
            assert_eq!(promote(2 * MIB), 2 * MIB);
            expect_success(fork(|| {
                confinement::refuse(&[refusal]).expect("a filter");
                assert_eq!((rt_code_promote(ALL), rt_last_error()), (-1, expected));
                assert_eq!(promote(0), 2 * MIB, "what is huge stays so");
                expect_all(&blocks);
            }));
            assert_eq!(promote(ALL), 8 * MIB);
            expect_all(&blocks);
            Outcome::Passed
        });
        if outcome != Outcome::Passed {
            return outcome;
        }
    }
    Outcome::Passed
}
