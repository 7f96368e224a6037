//! Forks of a process that is busy.
//!
//! Whoever waits for ever here is ended by the watchdog of the test's process; that is how a deadlock shows.

use crate::observed::{open_files, statistics};
use crate::service::rewrite;
use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{Outcome, Status, wait};
use execmem_tests_linux::system::{foreign_function, is_emulated, slowness};
use execmem_tests_linux::threads::meanwhile;
use execmem_tests_linux::{files, maps};
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub const TESTS: &[Test] = &[
    Test {
        name: "forks: threads that read in a loop keep no fork from happening, and none keeps them",
        needs: Needs::Nothing,
        run: against_readers,
    },
    Test {
        name: "forks: readers in a loop keep nobody who wants a region for himself from having it",
        needs: Needs::Nothing,
        run: readers_and_changes,
    },
    Test {
        name: "forks: a child has the protections that are recorded, whatever was being changed (rwx)",
        needs: Needs::Nothing,
        run: || during_changes(RT_POLICY_RWX),
    },
    Test {
        name: "forks: a child has the protections that are recorded, whatever was being changed (dual)",
        needs: Needs::Nothing,
        run: || during_changes(RT_POLICY_DUAL),
    },
    Test {
        name: "forks: a child has the protections that are recorded, whatever was being changed (toggle)",
        needs: Needs::Nothing,
        run: || during_changes(RT_POLICY_TOGGLE),
    },
    Test {
        name: "forks: no process sees what another one writes, whichever writes first, nor its grandchild",
        needs: Needs::Nothing,
        run: apart,
    },
    Test { name: "forks: a child has no file of the library's", needs: Needs::Kernel, run: files_of_a_child },
    Test {
        name: "forks: functions run on while the memory behind them is replaced by a copy",
        needs: Needs::Nothing,
        run: running_on,
    },
    Test {
        name: "forks: four threads allocate, write, call and free through 300 forks, and so does each child",
        needs: Needs::Nothing,
        run: busy,
    },
];

/// Forks; the child's work says whether it went well. The child's number.
pub fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child ends without the parent's clean-up. Like any program's, it may use what its C library
    // allows after a fork; the standard library's locks are not held by other threads here.
    match unsafe { libc::fork() } {
        0 => {
            let status = catch_unwind(AssertUnwindSafe(child)).map_or(1, |()| 0);
            // SAFETY: this ends the child without running what the parent has left to clean up.
            unsafe { libc::_exit(status) }
        }
        child => {
            assert!(child > 0, "a fork: {}", std::io::Error::last_os_error());
            child
        }
    }
}

pub fn expect_success(child: libc::pid_t) {
    assert_eq!(wait(child), Status::Exit(0), "the child's work");
}

pub fn rounds(natively: u32) -> u32 {
    natively / slowness()
}

/// A written and published function in the code heap.
pub fn function(value: u8) -> i64 {
    let code = returning(value);
    let address = rt_code_alloc(code.len() as i64);
    assert!(address > 0, "error {}", rt_last_error());
    rewrite(address, value);
    address
}

pub fn region(value: u8) -> i64 {
    let address = rt_alloc_exec_memory(5000);
    assert!(address > 0, "error {}", rt_last_error());
    rewrite_region(address, value);
    address
}

pub fn rewrite_region(address: i64, value: u8) {
    let code = returning(value);
    assert_eq!(write_bytes(address, &code, 0), code.len() as i64, "error {}", rt_last_error());
    rt_flush_icache(address, 5000);
}

fn read(mapping: i64, number: usize) {
    let value = match number % 2 {
        0 => rt_mmap_read_bytes(mapping, 0, 3 << 20),
        _ => rt_mmap_read_string(mapping, 0, 100),
    };
    assert!(rt_value_free(value));
}

fn against_readers() -> Outcome {
    let path = files::file(&vec![b'x'; 3 << 20]);
    let mapping = map_file(Some(path), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0).address;
    meanwhile(
        2,
        |number| read(mapping, number),
        || {
            for _ in 0..rounds(200) {
                expect_success(fork(|| read(mapping, 0)));
            }
        },
    );
    Outcome::Passed
}

fn readers_and_changes() -> Outcome {
    let address = rt_alloc_rw_memory(1 << 20);
    let reader = |_| {
        let mut target = vec![1; 1 << 20];
        assert_eq!(read_into(address, 0, &mut target), 1 << 20);
    };
    meanwhile(8, reader, || {
        for _ in 0..rounds(200) {
            assert!(rt_set_protection(address, 1 << 20, RT_PROT_READ));
            let other = rt_alloc_rw_memory(100);
            assert!(rt_free_exec_memory(other, 100));
        }
    });
    assert!(rt_free_exec_memory(address, 1 << 20));
    Outcome::Passed
}

fn during_changes(policy: i32) -> Outcome {
    const PAGES: i64 = 8;
    assert!(rt_exec_memory_set_policy(policy));
    let page = rt_get_page_size();
    let size = PAGES * page;
    let code = rt_alloc_exec_memory(size);
    let change = |number: usize| match number {
        0 => assert!(rt_make_writable(code, size) && rt_make_executable(code, size)),
        1 => {
            write_bytes(code, &vec![1; 3 * page as usize], page + 5);
        }
        _ => {
            let other = rt_alloc_exec_memory(size);
            assert!(rt_set_protection(other, page, RT_PROT_READ) && rt_free_exec_memory(other, size));
        }
    };
    meanwhile(3, change, || {
        for _ in 0..rounds(100) {
            expect_success(fork(|| {
                assert_eq!(rt_exec_memory_count(), if rt_exec_memory_total() > size { 2 } else { 1 });
                for page in (code..code + size).step_by(page as usize) {
                    // qemu keeps its guest's pages as it likes.
                    if !is_emulated() {
                        assert_eq!(rt_get_protection(page), maps::protection_at(page), "{page:#x}");
                    }
                }
                assert!(rt_make_writable(code, size));
                rewrite_region(code, 7);
                assert!(rt_make_executable(code, size));
                assert_eq!(call(code, &[]), 7);
                assert!(rt_free_exec_memory(code, size));
            }));
        }
    });
    Outcome::Passed
}

/// Memory of each kind that a fork could leave in common: what each shows, and how it is changed.
struct Ground {
    region: i64,
    block: i64,
    lent: i64,
    view: i64,
    data: i64,
}

impl Ground {
    fn lay(value: u8) -> Self {
        let code = returning(value);
        let lent = rt_code_alloc(100_000);
        let view = rt_code_write_view(lent);
        let data = rt_alloc_rw_memory(100);
        assert!(view > 0 && data > 0, "error {}", rt_last_error());
        let ground = Self { region: region(value), block: function(value), lent, view, data };
        ground.store(code.as_ref());
        ground
    }

    /// Directly, as their owner may.
    fn store(&self, code: &[u8]) {
        for target in [self.view, self.data] {
            let target = std::ptr::with_exposed_provenance_mut::<u8>(target as usize);
            // SAFETY: both are writable memory of this test.
            unsafe { std::ptr::copy_nonoverlapping(code.as_ptr(), target, code.len()) };
        }
        assert!(rt_code_publish(self.lent, code.len() as i64));
    }

    fn change(&self, value: u8) {
        rewrite_region(self.region, value);
        rewrite(self.block, value);
        self.store(&returning(value));
    }

    fn expect(&self, value: u8) {
        for address in [self.region, self.block, self.lent] {
            assert_eq!(call(address, &[]), value as i64);
        }
        let mut bytes = [0; 4];
        assert_eq!(read_into(self.data, 0, &mut bytes), 4);
        assert_eq!(bytes, returning(value)[..4]);
    }
}

fn apart() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let ground = Ground::lay(1);
    for first in ["parent", "child"] {
        let (mut heard, mut say) = std::io::pipe().expect("a pipe");
        let (mut answered, mut answer) = std::io::pipe().expect("a pipe");
        ground.change(1);
        let child = fork(|| {
            ground.expect(1);
            if first == "child" {
                ground.change(2);
            }
            say.write_all(b".").unwrap();
            answered.read_exact(&mut [0]).unwrap();
            // The parent has changed it meanwhile.
            ground.expect(if first == "child" { 2 } else { 1 });
            ground.change(3);
            expect_success(fork(|| {
                ground.expect(3);
                ground.change(4);
                ground.expect(4);
            }));
            ground.expect(3);
            // Code that was freed is traps, of this process alone.
            assert!(rt_code_free(ground.block));
        });
        heard.read_exact(&mut [0]).unwrap();
        ground.expect(1);
        ground.change(5);
        answer.write_all(b".").unwrap();
        expect_success(child);
        ground.expect(5);
    }
    Outcome::Passed
}

fn files_of_a_child() -> Outcome {
    let files = open_files();
    for _ in 0..3 {
        // A lookup of somebody else's memory may keep a file open.
        assert!(rt_is_executable(foreign_function()));
        expect_success(fork(|| {
            assert_eq!(open_files(), files);
            assert!(rt_is_executable(foreign_function()));
            expect_success(fork(|| assert_eq!(open_files(), files)));
        }));
    }
    Outcome::Passed
}

fn running_on() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let (stays, changes, region) = (function(1), function(2), region(3));
    let run = |_| {
        assert_eq!(call(stays, &[]), 1);
        assert_eq!(call(region, &[]), 3);
    };
    meanwhile(2, run, || {
        for round in 0..rounds(300) {
            let child = fork(|| assert_eq!(call(stays, &[]), 1));
            // This copies the chunk that the functions run in, and the region.
            rewrite(changes, round as u8);
            rewrite_region(region, 3);
            assert_eq!(call(changes, &[]), (round as u8).into());
            expect_success(child);
        }
    });
    Outcome::Passed
}

pub fn work(number: usize) {
    let value = number as u8 + 1;
    let (block, region) = (function(value), region(value));
    assert_eq!([call(block, &[]), call(region, &[])], [value as i64; 2]);
    let data = rt_alloc_rw_memory(100);
    assert_eq!(write_bytes(data, &returning(value), 0), 8);
    assert!(rt_make_executable(data, 100) && call(data, &[]) == value as i64);
    assert!(rt_code_free(block) && rt_free_exec_memory(region, 5000) && rt_free_exec_memory(data, 100));
}

fn busy() -> Outcome {
    let kept = function(99);
    meanwhile(4, work, || {
        for _ in 0..rounds(300) {
            expect_success(fork(|| {
                let figures = statistics();
                let known: i64 = figures.regions_by_protection.iter().sum();
                assert_eq!(known, figures.regions + figures.code_chunks, "every record has its pages");
                (0..4).for_each(work);
                rewrite(kept, 98);
                assert_eq!(call(kept, &[]), 98);
            }));
            assert_eq!(call(kept, &[]), 99);
        }
    });
    assert_eq!((rt_exec_memory_count(), rt_exec_memory_total()), (0, 0));
    Outcome::Passed
}
