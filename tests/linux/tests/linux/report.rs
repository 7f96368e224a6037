//! The dump, line by line.

use crate::{Needs, Test};
use execmem_conformance::memory::page;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;

pub const TESTS: &[Test] = &[
    Test {
        name: "report: the dump is a head line, the counts, and a line a region in address order, on stderr",
        needs: Needs::Nothing,
        run: dump,
    },
    Test {
        name: "report: the dump makes no memory of its own",
        needs: Needs::Nothing,
        run: dump_without_memory,
    },
];

/// What the dump writes to stderr.
fn dumped() -> String {
    let path = execmem_tests_linux::files::path_of(execmem_tests_linux::files::file(b""));
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("a file");
    // SAFETY: descriptors of this child; stderr is put back.
    unsafe {
        let kept = libc::dup(2);
        assert_eq!(libc::dup2(file.as_raw_fd(), 2), 2);
        rt_exec_memory_dump_stats();
        libc::dup2(kept, 2);
        libc::close(kept);
    }
    file.rewind().expect("a file has a start");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("the dump is text");
    text
}

fn dump() -> Outcome {
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let code = rt_alloc_exec_memory(100);
    let data = rt_alloc_rw_memory(2 * page() + 1);
    let mixed = rt_alloc_rw_memory(2 * page());
    assert!(rt_set_protection(mixed, page(), RT_PROT_READ));
    // Mapped files are no allocations: they have no line.
    let mapping = map_file(None, 3, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, 50);
    assert_eq!(mapping.size, 50);
    let mut regions = [(code, 100, "r-x"), (data, 2 * page() + 1, "rw-"), (mixed, 2 * page(), "r--+")];
    regions.sort();
    let mut expected =
        format!("execmem: executable memory, policy dual\nallocations: 3\nbytes: {}\n", 100 + 4 * page() + 1);
    for (address, size, letters) in regions {
        expected += &format!("  {address:#018x} {size:>12} {letters}\n");
    }
    assert_eq!(dumped(), expected);
    for (address, size, _) in regions {
        assert!(rt_free_exec_memory(address, size));
    }
    assert_eq!(dumped(), "execmem: executable memory, policy dual\nallocations: 0\nbytes: 0\n");
    Outcome::Passed
}

fn dump_without_memory() -> Outcome {
    let addresses: Vec<i64> = (0..500).map(|_| rt_alloc_rw_memory(1)).collect();
    assert!(!addresses.contains(&0));
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    let path = execmem_tests_linux::files::file(b"");
    let file = std::fs::OpenOptions::new().write(true).open(execmem_tests_linux::files::path_of(path));
    let file = file.expect("a file");
    // SAFETY: changes this child's limit and descriptors only. From here on no mapping can be made.
    unsafe {
        let mut before: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_AS, &mut before);
        libc::dup2(file.as_raw_fd(), 2);
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &limit), 0);
        rt_exec_memory_dump_stats();
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &before), 0);
    }
    let text = std::fs::read_to_string(execmem_tests_linux::files::path_of(path)).expect("the dump is text");
    assert_eq!(text.lines().count(), 3 + addresses.len());
    Outcome::Passed
}
