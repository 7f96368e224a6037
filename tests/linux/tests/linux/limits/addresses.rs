//! The ends of the addresses: mappings of the program's own there, and memory near them until there is no room.

use crate::service::expect_function;
use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::memory::{RW, RX, page, statistics, store};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::limits::*;
use execmem_tests_linux::maps;

pub const TESTS: &[Test] = &[
    Test {
        name: "limits: the lowest and the highest page of a program are told right, called, and not owned",
        needs: Needs::Kernel,
        run: outermost_pages,
    },
    Test {
        name: "limits: near the ends of the addresses each page is given before there is no memory (rwx)",
        needs: Needs::Kernel,
        run: || near_the_ends(RT_POLICY_RWX),
    },
    Test {
        name: "limits: near the ends of the addresses each page is given before there is no memory (dual)",
        needs: Needs::Kernel,
        run: || near_the_ends(RT_POLICY_DUAL),
    },
    Test {
        name: "limits: what is near the stack leaves it the room to grow",
        needs: Needs::Kernel,
        run: near_the_stack,
    },
];

/// A page of the program's own at an address, if the kernel lets it be there.
fn page_at(address: i64) -> Option<i64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let place = std::ptr::without_provenance_mut(address as usize);
    // SAFETY: a new mapping, which replaces none.
    let start =
        unsafe { libc::mmap(place, page() as usize, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    (start != libc::MAP_FAILED).then(|| start.expose_provenance() as i64)
}

fn release(start: i64) {
    // SAFETY: a page of `page_at`, which nobody uses.
    assert_eq!(unsafe { libc::munmap(std::ptr::without_provenance_mut(start as usize), page() as usize) }, 0);
}

/// A page as low as the kernel lets it be.
fn lowest_page() -> i64 {
    (1..1 << 12).find_map(|number| page_at(number * page())).expect("a low page")
}

/// A page as high as the kernel lets it be: below the largest power of two, or a page below that (x86-64).
fn highest_page() -> i64 {
    let ends = (39..=48).rev().flat_map(|bits| [1, 2].map(|pages| (1 << bits) - pages * page()));
    ends.into_iter().find_map(page_at).expect("a high page")
}

fn outermost_pages() -> Outcome {
    let (low, high) = (lowest_page(), highest_page());
    for start in [low, high] {
        assert_eq!(rt_get_protection(start), RW);
        assert_eq!(rt_get_protection(start + page() - 1), RW);
        assert!(!rt_is_executable(start));
        store(start, &returning(42));
        let pages = std::ptr::with_exposed_provenance_mut(start as usize);
        // SAFETY: a page of this test.
        assert_eq!(unsafe { libc::mprotect(pages, page() as usize, libc::PROT_READ | libc::PROT_EXEC) }, 0);
        assert_eq!(rt_get_protection(start), RX);
        // It was written by the address it is called by, and never before: on the machines that run this the
        // kernel makes it coherent when it becomes executable.
        assert_eq!(call(start, &[]), 42);
        assert_eq!(write_bytes(start, b"x", 0), -1);
        assert_eq!(rt_last_error(), RT_ERROR_NOT_OWNED);
        assert!(!rt_free_exec_memory(start, page()));
        assert_eq!(rt_last_error(), RT_ERROR_NOT_OWNED);
        assert_eq!(rt_get_protection(start), RX);
        release(start);
        assert_eq!(rt_get_protection(start), -1);
        assert_eq!((call(start, &[]), rt_last_error()), (-1, RT_ERROR_NOT_EXECUTABLE));
    }
    for beyond in [high + page(), 1 << 47, (1 << 48) - 1, 1 << 48, i64::MAX] {
        assert_eq!(rt_get_protection(beyond), -1, "{beyond:#x}");
        assert!(!rt_is_executable(beyond));
    }
    Outcome::Passed
}

/// Nothing is placed below: see `core/src/near.rs`.
const LOWEST: i64 = 64 << 10;
/// Nor from here up, where some kernels have more addresses.
const HIGHEST: i64 = 1 << 48;

fn near_the_ends(policy: i32) -> Outcome {
    let high = highest_page();
    // Targets in the last page, at both of its ends, beyond it, far beyond it; and at the bottom. And how many pages
    // away.
    let places = [
        (high, 2),
        (high + page() - 1, 2),
        (high + page(), 3),
        (high + 5 * page(), 9),
        (high + 300 * page(), 303),
        (high + (1 << 30), (1 << 30) / page() + 3),
        (1, 20),
        (LOWEST, 3),
        (LOWEST - 3 * page(), 5),
    ];
    for (target, pages) in places {
        for allocate in [rt_alloc_exec_memory_near, rt_code_alloc_near] {
            let full = || {
                assert!(rt_exec_memory_set_policy(policy));
                fill_window(target, pages * page(), allocate)
            };
            match children::run(full) {
                Outcome::Passed => {}
                other => panic!("{target:#x} ± {pages} pages: {other}"),
            }
        }
    }
    Outcome::Passed
}

fn fill_window(target: i64, distance: i64, allocate: extern "C" fn(i64, i64, i64) -> i64) -> Outcome {
    // Whole pages that are within the window and may be used.
    let first = ((target - distance).max(LOWEST) + page() - 1) & -page();
    let last = (target + distance).min(HIGHEST - 1) + 1 - page();
    let is_free = |start: i64| page_at(start).map(release).is_some();
    let has_room = (first..=last).step_by(page() as usize).any(is_free);
    let mut all = Vec::with_capacity(100);
    loop {
        let address = allocate(page(), target, distance);
        if address == 0 {
            break;
        }
        assert!(address.abs_diff(target) <= distance as u64);
        assert!((address + page() - 1).abs_diff(target) <= distance as u64);
        all.push(address);
        assert!(all.len() < 100);
    }
    assert_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
    // Some programs lie at the lowest addresses themselves.
    assert_eq!(all.is_empty(), !has_room, "{} pages", all.len());
    for start in (first..=last).step_by(page() as usize) {
        if let Some(start) = page_at(start) {
            panic!("there was room at {start:#x} after {} pages", all.len());
        }
    }
    let is_heap = statistics().expect("figures").code_blocks > 0;
    for (address, value) in all.iter().zip(0..) {
        match is_heap {
            true => expect_function(*address, value),
            false => crate::forks::rewrite_region(*address, value),
        }
        assert_eq!(call(*address, &[]), value.into());
    }
    // There is room again when one goes.
    let Some(last) = all.pop() else { return Outcome::Passed };
    let free = |address| if is_heap { rt_code_free(address) } else { rt_free_exec_memory(address, page()) };
    assert!(free(last));
    let again = allocate(page(), target, distance);
    assert!(again > 0, "error {}", rt_last_error());
    assert!(free(again) && all.into_iter().all(free));
    let figures = statistics().expect("figures");
    assert_eq!((figures.regions, figures.code_blocks, figures.requested_bytes), (0, 0, 0));
    Outcome::Passed
}

fn near_the_stack() -> Outcome {
    let local = 0u8;
    let here = (&raw const local).addr() as i64;
    let stack =
        maps::lines().into_iter().find(|line| line.start <= here && here < line.end).expect("a stack");
    for allocate in [rt_alloc_exec_memory_near, rt_code_alloc_near] {
        for size in [1, 1 << 20] {
            // Wherever it is placed, if at all.
            let address = allocate(size, stack.start, 64 << 20);
            assert!(address > 0 || rt_last_error() == RT_ERROR_NO_MEMORY);
        }
    }
    // As far as its limit lets it.
    grow_stack();
    Outcome::Passed
}
