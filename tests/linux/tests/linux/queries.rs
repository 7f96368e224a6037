//! Questions about addresses that the library did not map, whatever the program does to its descriptors,
//! its children and its kernel.

use crate::forks::{function, region};
use crate::{Needs, Test};
use execmem_conformance::memory::{RW, RX};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome, Status};
use execmem_tests_linux::confinement::{self, NO_PROCMAP_QUERY, Refusal};
use execmem_tests_linux::system::{foreign_data, foreign_function};
use execmem_tests_linux::{files, maps};
use std::os::fd::AsRawFd;

pub const TESTS: &[Test] = &[
    Test {
        name: "queries: the library and the kernel agree on every mapping",
        needs: Needs::Nothing,
        run: agreement,
    },
    Test {
        name: "queries: closing every descriptor behind the library's back breaks no question",
        needs: Needs::Nothing,
        run: closed_descriptors,
    },
    Test {
        name: "queries: a descriptor that another file has taken over is left alone",
        needs: Needs::Kernel,
        run: reused_descriptor,
    },
    Test {
        name: "queries: another process's list under our descriptor's number is not taken for ours",
        needs: Needs::Kernel,
        run: foreign_list,
    },
    Test {
        name: "queries: a forked child asks about its own mappings, not its parent's",
        needs: Needs::Nothing,
        run: forked_child,
    },
    Test {
        name: "queries: whatever refuses PROCMAP_QUERY, the text of /proc/self/maps gives the same answers",
        needs: Needs::Kernel,
        run: without_query,
    },
    Test {
        name: "queries: a query that is refused from some day on costs no answer",
        needs: Needs::Kernel,
        run: late_refusal,
    },
    Test {
        name: "queries: a process whose main thread has ended has answers",
        needs: Needs::Kernel,
        run: ended_main_thread,
    },
    Test {
        name: "queries: mappings of files whose names are not UTF-8, or hold spaces and newlines, break nothing",
        needs: Needs::Nothing,
        run: odd_names,
    },
    Test {
        name: "queries: about the library's memory a lookup makes no system call, else those that read the list",
        needs: Needs::Kernel,
        run: system_calls,
    },
    Test { name: "queries: the caller's errno stays as it was", needs: Needs::Nothing, run: kept_errno },
];

fn expect_foreign_answers() {
    assert!(rt_is_executable(foreign_function()));
    assert!(!rt_is_executable(foreign_data()));
    assert_eq!(rt_get_protection(foreign_function()), RX);
    assert_eq!(rt_get_protection(foreign_data()), RW);
    assert_eq!(rt_get_protection(1), -1);
}

/// Anonymous memory that the library knows nothing of.
fn foreign_page(protection: i32) -> i64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.expose_provenance() as i64
}

fn protect(address: i64, protection: i32) {
    let start = std::ptr::with_exposed_provenance_mut(address as usize);
    // SAFETY: a page of `foreign_page` that nobody uses.
    assert_eq!(unsafe { libc::mprotect(start, 4096, protection) }, 0);
}

fn agreement() -> Outcome {
    let pages: Vec<i64> = (0..8).map(foreign_page).collect();
    for (page, protection) in pages.iter().zip(0..) {
        assert_eq!(rt_get_protection(*page), maps::protection_at(*page), "protection {protection}");
        protect(*page, RT_PROT_READ);
        assert_eq!(rt_get_protection(*page), RT_PROT_READ, "a change by somebody else is seen");
    }
    // All but the stack, which may have grown by the time we ask.
    for line in maps::lines().iter().filter(|line| line.start > 0 && line.name != b"[stack]") {
        for address in [line.start, line.end - 1] {
            let (told, real) = (rt_get_protection(address), maps::protection_at(address));
            assert_eq!(told, real, "{address:#x} in {line:?}");
            assert_eq!(rt_is_executable(address), real >= 0 && real & RT_PROT_EXEC != 0);
        }
    }
    Outcome::Passed
}

fn closed_descriptors() -> Outcome {
    expect_foreign_answers();
    for _ in 0..3 {
        for descriptor in 3..200 {
            // SAFETY: the child has no use for them: without the report's pipe its status says enough.
            unsafe { libc::close(descriptor) };
        }
        expect_foreign_answers();
    }
    Outcome::Passed
}

fn reused_descriptor() -> Outcome {
    expect_foreign_answers();
    let mut taken = Vec::new();
    for descriptor in 5..50 {
        // SAFETY: descriptors of this child; the new ones replace whatever the library had.
        unsafe {
            let file = libc::open(c"/dev/zero".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            assert!(libc::dup2(file, descriptor) == descriptor);
        }
        taken.push(descriptor);
    }
    expect_foreign_answers();
    expect_foreign_answers();
    for descriptor in taken {
        let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
        assert_eq!(link.expect("it is open still").to_str(), Some("/dev/zero"));
    }
    Outcome::Passed
}

/// Debuggers and sandboxes open such lists, and some close all descriptors that they don't know before.
fn foreign_list() -> Outcome {
    let (mut go_on, end) = std::io::pipe().expect("a pipe");
    // SAFETY: one thread; the child ends by `_exit`.
    let other = unsafe { libc::fork() };
    if other == 0 {
        drop(end);
        // The end of the pipe, or an error: all the same.
        let _ = std::io::Read::read(&mut go_on, &mut [0]);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    let (page, code) = (foreign_page(RT_PROT_READ), foreign_page(RX));
    expect_foreign_answers();
    let path = std::ffi::CString::new(format!("/proc/{other}/maps")).expect("no NUL");
    let ends = [&end as &dyn AsRawFd, &go_on].map(|end| end.as_raw_fd());
    for descriptor in (3..50).filter(|descriptor| !ends.contains(descriptor)) {
        // SAFETY: descriptors of this child, which has no use for them; the new ones replace whatever the library had.
        unsafe {
            let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            assert!(file >= 0 && libc::dup2(file, descriptor) == descriptor);
            if file != descriptor {
                libc::close(file);
            }
        }
    }
    for _ in 0..2 {
        assert_eq!((rt_get_protection(page), rt_is_executable(code)), (RT_PROT_READ, true));
        assert_eq!(rt_get_protection(code), RX);
        expect_foreign_answers();
    }
    // Nor is what has the number now closed.
    let link = |descriptor| std::fs::read_link(format!("/proc/self/fd/{descriptor}"));
    let is_other = |descriptor| link(descriptor).is_ok_and(|file| file.to_str() == path.to_str().ok());
    assert!((3..50).all(|descriptor| ends.contains(&descriptor) || is_other(descriptor)));
    drop(end);
    assert_eq!(children::wait(other), Status::Exit(0));
    Outcome::Passed
}

fn forked_child() -> Outcome {
    let page = foreign_page(RW);
    assert_eq!(rt_get_protection(page), RW);
    // SAFETY: one thread; the child ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        protect(page, RT_PROT_READ);
        let own = foreign_page(RX);
        let is_right = rt_get_protection(page) == RT_PROT_READ && rt_is_executable(own);
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!is_right)) };
    }
    assert_eq!(children::wait(child), Status::Exit(0), "the child's answers are about the child");
    assert_eq!(rt_get_protection(page), RW, "and the parent's about the parent");
    Outcome::Passed
}

fn without_query() -> Outcome {
    // As old kernels, as filters, and as a filter that wants to be taken for something else.
    for error in
        [libc::ENOTTY, libc::EINVAL, libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EBADF, libc::ENOMEM]
    {
        let outcome = children::run(|| {
            confinement::refuse(&[Refusal { error, ..NO_PROCMAP_QUERY }]).expect("a filter");
            expect_foreign_answers();
            agreement()
        });
        assert_eq!(outcome, Outcome::Passed, "{}", std::io::Error::from_raw_os_error(error));
    }
    Outcome::Passed
}

fn late_refusal() -> Outcome {
    expect_foreign_answers();
    confinement::refuse(&[Refusal { error: libc::EPERM, ..NO_PROCMAP_QUERY }]).expect("a filter");
    expect_foreign_answers();
    agreement()
}

/// The kernel's list of the process is empty then: it is that of the main thread.
fn ended_main_thread() -> Outcome {
    children::run_without_main_thread(expect_foreign_answers)
}

fn odd_names() -> Outcome {
    let folder = files::path_of(files::directory());
    for name in [b"\xff\xfe".as_slice(), b"with space r-xp", b"new\nline", b"(deleted)", &[b'l'; 200]] {
        use std::os::unix::ffi::OsStrExt;
        let path = folder.join(std::ffi::OsStr::from_bytes(name));
        std::fs::write(&path, b"content").expect("a file");
        let path = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
        let mapping = map_file(Some(&path), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0);
        assert_eq!(mapping.size, 7);
        expect_foreign_answers();
        let near = rt_alloc_exec_memory_near(4096, mapping.address, 1 << 30);
        assert!(near > 0 && rt_free_exec_memory(near, 4096));
    }
    Outcome::Passed
}

fn kept_errno() -> Outcome {
    for question in [foreign_function(), foreign_data(), 1, i64::MAX] {
        // SAFETY: the thread's own cell.
        let errno = unsafe { &mut *libc::__errno_location() };
        *errno = 77;
        rt_is_executable(question);
        rt_get_protection(question);
        assert_eq!(*errno, 77, "{question:#x}");
    }
    Outcome::Passed
}

/// What a lookup would need to wait, or for memory, would end the process.
fn system_calls() -> Outcome {
    let (region, block, large) = (region(7), function(8), rt_code_alloc(100_000));
    let freed = function(9);
    assert!(large > 0 && rt_code_free(freed));
    let own = || {
        let is_block = |address| find_block(address).is_some() && rt_is_executable(address);
        assert!(rt_is_executable(region) && rt_get_protection(region + 4999) == rt_get_protection(region));
        assert!(
            is_block(block + 3)
                && is_block(large + 99_999)
                && !is_block(freed)
                && rt_get_protection(freed) > 0
        );
    };
    let end = [libc::SYS_exit_group];
    // A C library makes either of two calls for fstat(3), and one of musl's `open` has a further one.
    let fstat = [libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_fcntl];
    let read = [libc::SYS_getpid, libc::SYS_openat, libc::SYS_ioctl, libc::SYS_read, libc::SYS_close];
    let list = [&end[..], &fstat, &read].concat();
    let under = |calls: &[i64], are_foreign: bool| {
        children::run(|| {
            if let Err(reason) = confinement::allow_only(calls) {
                return Outcome::NotApplicable(reason);
            }
            own();
            if are_foreign {
                expect_foreign_answers();
            }
            Outcome::Passed
        })
    };
    match under(&end, false) {
        Outcome::Passed => under(&list, true),
        other => other,
    }
}
