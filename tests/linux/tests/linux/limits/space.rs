//! No room for a file's bytes: file systems that are full, and a limit of their size.

use crate::service::expect_service;
use crate::{Needs, Test};
use execmem_conformance::memory::{RW, is_zeroed, page};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome, Status};
use execmem_tests_linux::confinement::{Condition, Refusal, refuse};
use execmem_tests_linux::files;
use execmem_tests_linux::limits::*;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;

pub const TESTS: &[Test] = &[
    Test {
        name: "limits: in a mapped file on a full file system a write is an I/O error, and works when there is room",
        needs: Needs::Kernel,
        run: || on_a_full_file_system(&[]),
    },
    Test {
        name: "limits: so it is where the kernel copies nothing, nor brings pages in",
        needs: Needs::Kernel,
        run: || on_a_full_file_system(&[NO_COPY, NO_POPULATE_READ, NO_POPULATE_WRITE]),
    },
    Test {
        name: "limits: a dump that has nowhere to go raises no signal, and leaves those that wait",
        needs: Needs::Nothing,
        run: dump_to_nowhere,
    },
];

const NO_COPY: Refusal =
    Refusal { call: libc::SYS_process_vm_readv, condition: Condition::Any, error: libc::EPERM };
const NO_POPULATE_READ: Refusal = Refusal {
    call: libc::SYS_madvise,
    condition: Condition::Is(2, libc::MADV_POPULATE_READ as u32),
    error: libc::EINVAL,
};
const NO_POPULATE_WRITE: Refusal = Refusal {
    call: libc::SYS_madvise,
    condition: Condition::Is(2, libc::MADV_POPULATE_WRITE as u32),
    error: libc::EINVAL,
};

fn on_a_full_file_system(refusals: &[Refusal]) -> Outcome {
    let folder = files::path_of(files::directory()).join(format!("full-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let at = CString::new(folder.as_os_str().as_bytes()).expect("no NUL");
    let size = CString::new(format!("size={}", 16 * page())).expect("no NUL");
    let outcome = children::run(|| {
        // SAFETY: changes what this child sees of the file systems.
        let is_mounted = unsafe {
            libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::mount(c"none".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, size.as_ptr().cast()) == 0
        };
        if !is_mounted {
            let error = std::io::Error::last_os_error();
            return Outcome::NotApplicable(format!("no file system of its own: {error}"));
        }
        refuse(refusals).expect("a filter");
        let file = folder.join("sparse");
        std::fs::File::create(&file).and_then(|file| file.set_len(1 << 20)).expect("a file without any page");
        let path = CString::new(file.as_os_str().as_bytes()).expect("no NUL");
        let shared = map_file(Some(&path), RW, RT_MAP_SHARED, 0, 0);
        let private = map_file(Some(&path), RW, RT_MAP_PRIVATE, 0, 0);
        assert_eq!((shared.size, private.size), (1 << 20, 1 << 20));
        assert_eq!(write_bytes(shared.address, b"before", 0), 6);
        // Nothing fits any more: the file is as large as it can be, and has an end like any other.
        let filler = folder.join("filler");
        assert!(std::fs::write(&filler, vec![1; 1 << 20]).is_err(), "the file system is full");
        let region = rt_alloc_exec_memory(page());
        for mapping in [shared, private] {
            let expect_io = |result: i64| assert_eq!((result, rt_last_error()), (-1, RT_ERROR_IO));
            expect_io(write_bytes(mapping.address, b"text", 10 * page()));
            expect_io(write_bytes(mapping.address, &vec![7; 3 * page() as usize], 20 * page() + 5));
            expect_io(write_bytes(mapping.address, b"text", 11 * page() - 2));
            expect_io(read_into(mapping.address, 30 * page(), &mut [0; 4]));
            let value = rt_mmap_read_bytes(mapping.address, 30 * page(), 4);
            assert_eq!((rt_value_len(value), rt_last_error()), (0, RT_ERROR_IO));
            assert!(rt_value_free(value));
            // What is copied may lie there, too.
            let hole = std::ptr::with_exposed_provenance((mapping.address + 40 * page()) as usize);
            // SAFETY: the bytes are mapped; the kernel has no memory for them, which the library must find out.
            expect_io(write_bytes(region, unsafe { std::slice::from_raw_parts(hole, 8) }, 0));
        }
        // The page that was there is as it was, and goes on.
        assert_eq!(write_bytes(shared.address, b"after", 10), 5);
        let mut bytes = [0; 15];
        assert_eq!(read_into(private.address, 0, &mut bytes), 15);
        assert_eq!(&bytes, b"before\0\0\0\0after");
        std::fs::remove_file(&filler).expect("the filler goes");
        for mapping in [shared, private] {
            assert!(
                is_zeroed(mapping.address + 20 * page(), 4 * page()),
                "a write that failed has changed nothing"
            );
            assert_eq!(write_bytes(mapping.address, b"text", 11 * page() - 2), 4);
            assert!(rt_munmap(mapping.address, mapping.size));
        }
        assert!(rt_free_exec_memory(region, page()));
        expect_service();
        Outcome::Passed
    });
    std::fs::remove_dir(&folder).expect("the folder is empty: the file system went with its process");
    outcome
}

fn dump_to_nowhere() -> Outcome {
    let all: Vec<i64> = (0..3).map(|_| rt_alloc_rw_memory(1)).collect();
    let path = files::path_of(files::file(b"full"));
    let file = std::fs::OpenOptions::new().append(true).open(path).expect("a file");
    let (reader, pipe) = std::io::pipe().expect("a pipe");
    drop(reader);
    // SAFETY: this child's stderr. A panic's text is lost; its failure is not.
    let redirect = |to: &dyn AsRawFd| assert_eq!(unsafe { libc::dup2(to.as_raw_fd(), 2) }, 2);
    limit(libc::RLIMIT_FSIZE, 4);
    for signal in [libc::SIGXFSZ, libc::SIGPIPE] {
        let target: &dyn AsRawFd = if signal == libc::SIGXFSZ { &file } else { &pipe };
        // Whatever the program does about the signal: by default it ends the process; it may be blocked, and may be
        // waiting already.
        for (is_blocked, is_waiting) in [(false, false), (true, false), (true, true)] {
            let child = crate::forks::fork(|| {
                redirect(target);
                // SAFETY: a set of this function's, and this thread's mask.
                unsafe {
                    let mut set = std::mem::zeroed();
                    libc::sigemptyset(&mut set);
                    libc::sigaddset(&mut set, signal);
                    // Rust's programs ignore SIGPIPE; others don't.
                    libc::signal(signal, libc::SIG_DFL);
                    if is_blocked {
                        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
                    }
                    if is_waiting {
                        libc::raise(signal);
                    }
                    rt_exec_memory_dump_stats();
                    let (mut mask, mut pending) = (set, set);
                    libc::sigprocmask(libc::SIG_BLOCK, std::ptr::null(), &mut mask);
                    libc::sigpending(&mut pending);
                    let found = [mask, pending].map(|set| libc::sigismember(&set, signal) == 1);
                    assert_eq!(found, [is_blocked, is_waiting]);
                }
            });
            assert_eq!(children::wait(child), Status::Exit(0), "signal {signal}, {is_blocked}, {is_waiting}");
        }
    }
    assert_eq!(std::fs::read(path).expect("the file"), b"full");
    assert!(all.into_iter().all(|address| rt_free_exec_memory(address, 1)));
    Outcome::Passed
}
