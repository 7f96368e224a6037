//! Copies out of and into pages of a file that somebody truncates: an error, never a signal.

use crate::{Needs, Test};
use execmem_core::Error;
use execmem_core::platform::Pages;
use execmem_os_linux::Linux;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::confinement::{self, Condition, Refusal};
use execmem_tests_linux::files;
use execmem_tests_linux::system::is_emulated;
use execmem_tests_linux::threads::meanwhile;

pub const TESTS: &[Test] = &[
    Test {
        name: "copies: a file that is truncated at any moment never ends the process that copies out of it",
        needs: Needs::Kernel,
        run: || against_a_truncater(copy),
    },
    Test {
        name: "copies: nor the one that copies into it",
        needs: Needs::Kernel,
        run: || against_a_truncater(|page, own, length| copy(own, page, length)),
    },
    Test {
        name: "copies: nor the one that moves bytes inside of it",
        needs: Needs::Kernel,
        run: || against_a_truncater(|page, _, length| copy(page, page + 5000, length)),
    },
    Test {
        name: "copies: ranges that overlap are copied as memmove does",
        needs: Needs::Nothing,
        // qemu's user mode has neither the kernel's copy nor filters.
        run: || if is_emulated() { overlapping() } else { each_way(overlapping) },
    },
    Test {
        name: "copies: where a file ends too early it is an I/O error, on both sides, and what is there is copied",
        needs: Needs::Kernel,
        run: || each_way(short_file),
    },
    Test {
        name: "copies: a process whose main thread has ended copies as before",
        needs: Needs::Kernel,
        run: ended_main_thread,
    },
];

const SIZE: usize = 1 << 20;

fn copy(source: usize, target: usize, length: usize) -> Result<(), Error> {
    // SAFETY: each test names mapped memory of its own.
    unsafe { Linux.copy_guarded(source, target, length) }
}

/// A shared, writable mapping of a file.
fn mapping(path: &std::ffi::CStr, length: usize) -> usize {
    let file = std::fs::File::options().read(true).write(true).open(files::path_of(path)).expect("the file");
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: a new mapping.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, descriptor, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.expose_provenance()
}

/// Another thread truncates the file and lets it grow again, all the time.
fn against_a_truncater(copy: impl Fn(usize, usize, usize) -> Result<(), Error>) -> Outcome {
    let path = files::file(&vec![7; 2 * SIZE]);
    let page = mapping(path, 2 * SIZE);
    let own = vec![9u8; SIZE].leak().as_mut_ptr().expose_provenance();
    let (mut copied, mut failed) = (0, 0);
    let truncate = |_| {
        files::shrink(path, 0);
        files::shrink(path, 2 * SIZE as u64);
    };
    meanwhile(1, truncate, || {
        for round in 0..60_000 {
            // Mostly a few bytes and pages, some larger than any piece.
            let length = [64, 4096, 30_000, 150_000, SIZE][[0, 1, 0, 2, 0, 1, 0, 1, 0, 3][round % 10]];
            match copy(page + round % 4000, own, if round % 1000 == 0 { SIZE } else { length }) {
                Ok(()) => copied += 1,
                Err(Error::Io) => failed += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    assert!(copied > 100 && failed > 100, "{copied} copies and {failed} failures: they hardly met");
    Outcome::Passed
}

/// What may be refused: nothing; the kernel's copy; and bringing pages in as well.
fn each_way(test: fn() -> Outcome) -> Outcome {
    let copy_calls = |error| Refusal { call: libc::SYS_process_vm_readv, condition: Condition::Any, error };
    let populate = |error| {
        let [read, write] = [libc::MADV_POPULATE_READ, libc::MADV_POPULATE_WRITE];
        [read, write].map(|advice| Refusal {
            call: libc::SYS_madvise,
            condition: Condition::Is(2, advice as u32),
            error,
        })
    };
    for error in [0, libc::EPERM, libc::ENOSYS, libc::EACCES, libc::EINVAL, libc::EAGAIN] {
        for without_populate in [false, true] {
            let outcome = children::run(|| {
                if error != 0 {
                    let refused = if without_populate { &populate(error)[..] } else { &[] };
                    let refusals = [&[copy_calls(error)], refused].concat();
                    if let Err(reason) = confinement::refuse(&refusals) {
                        return Outcome::NotApplicable(reason);
                    }
                }
                test()
            });
            if outcome != Outcome::Passed {
                return outcome;
            }
        }
    }
    Outcome::Passed
}

fn overlapping() -> Outcome {
    for (length, distance) in [(100, 1), (5000, 4000), (70_000, 3), (200_000, 70_000), (200_000, 150_000)] {
        let bytes: Vec<u8> = (0..length + distance).map(|place| (place % 251) as u8).collect();
        for (from, to) in [(0, distance), (distance, 0), (0, 0)] {
            let (mut here, mut expected) = (bytes.clone(), bytes.clone());
            expected.copy_within(from..from + length, to);
            let start = here.as_mut_ptr().expose_provenance();
            assert_eq!(copy(start + from, start + to, length), Ok(()));
            assert!(here == expected, "{length} bytes from {from} to {to}");
        }
    }
    assert_eq!(copy(1, 1, 0), Ok(()), "nothing is copied from nowhere");
    Outcome::Passed
}

fn short_file() -> Outcome {
    let page = execmem_conformance::memory::page() as usize;
    let path = files::file(&vec![7; 64 * page]);
    let start = mapping(path, 64 * page);
    files::shrink(path, 32 * page as u64 + 10);
    let mut own = vec![9u8; 64 * page];
    let here = own.as_mut_ptr().expose_provenance();
    // The last page that is there has zeros behind the file's end.
    assert_eq!(copy(start, here, 33 * page), Ok(()));
    assert!(own[..32 * page + 10].iter().all(|byte| *byte == 7));
    assert!(own[32 * page + 10..33 * page].iter().all(|byte| *byte == 0));
    assert_eq!(copy(here, start, 33 * page), Ok(()));
    for length in [1, page, 20 * page, 31 * page] {
        assert_eq!(copy(start + 33 * page, here, length), Err(Error::Io));
        assert_eq!(copy(here, start + 33 * page, length), Err(Error::Io));
        assert_eq!(copy(start + 33 * page - 1, here, length + 1), Err(Error::Io));
        assert_eq!(copy(start + 33 * page, start + 34 * page, length.min(20 * page)), Err(Error::Io));
    }
    assert_eq!(copy(here, start, 64 * page), Err(Error::Io));
    Outcome::Passed
}

fn ended_main_thread() -> Outcome {
    children::run_without_main_thread(|| {
        let (source, mut target) = (vec![7u8; 5000], vec![0u8; 5000]);
        let (from, to) = (source.as_ptr().expose_provenance(), target.as_mut_ptr().expose_provenance());
        let refusal = Refusal { call: libc::SYS_madvise, condition: Condition::Any, error: libc::EFAULT };
        confinement::refuse(&[refusal]).expect("a filter: the kernel must make the copy");
        assert_eq!(copy(from, to, 5000), Ok(()));
        assert!(source == target);
    })
}
