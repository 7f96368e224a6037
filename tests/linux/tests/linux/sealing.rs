//! Sealed code, and what the kernel then says to the rest of the process.

use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::memory::{page, statistics};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
use execmem_tests_linux::confinement::{self, Condition, Refusal};
use std::ffi::{c_int, c_long, c_void};

pub const TESTS: &[Test] = &[
    Test {
        name: "sealing: what was sealed runs, and neither the library nor the process can change it",
        needs: Needs::NewKernel,
        run: || {
            let policies = ["auto", "rwx", "dual", "toggle"];
            policies
                .into_iter()
                .map(sealed_under)
                .find(|outcome| *outcome != Outcome::Passed)
                .unwrap_or(Outcome::Passed)
        },
    },
    Test {
        name: "sealing: where the kernel can't or won't, the memory is what it was",
        needs: Needs::Kernel,
        run: unsealed,
    },
];

const SYS_MSEAL: c_long = 462;

fn has_mseal() -> bool {
    // SAFETY: no bytes are sealed.
    let result = unsafe { libc::syscall(SYS_MSEAL, 0, 0, 0) };
    result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// Code that returns 42, in memory of its own, without WRITE.
fn code() -> i64 {
    let address = rt_alloc_exec_memory(page());
    let code = returning(42);
    assert_eq!(write_bytes(address, &code, 0), code.len() as i64);
    assert!(rt_make_executable(address, page()));
    address
}

fn sealed_under(policy: &str) -> Outcome {
    let policy = policy.to_owned();
    children::run(move || {
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("EXECMEM_POLICY", &policy) };
        sealed()
    })
}

fn sealed() -> Outcome {
    let address = code();
    let mapped = statistics().expect("figures").mapped_bytes;
    if !rt_seal(address, page()) {
        assert_eq!(rt_last_error(), RT_ERROR_UNSUPPORTED);
        assert!(!has_mseal(), "the kernel could");
        return Outcome::NotApplicable("the kernel has no mseal".to_owned());
    }
    let views = if rt_exec_memory_policy() == RT_POLICY_DUAL { 2 } else { 1 };
    assert_eq!(statistics().expect("figures").mapped_bytes, mapped - (views - 1) * page());
    is_unchangeable(address);
    let child = || {
        is_unchangeable(address);
        Outcome::Passed
    };
    assert_eq!(children::run(child), Outcome::Passed);
    assert!(rt_seal(address, page()) && rt_exec_memory_count() == 1);
    Outcome::Passed
}

fn is_unchangeable(address: i64) {
    let refused = |result: bool| !result && rt_last_error() == RT_ERROR_REFUSED;
    assert!(refused(rt_free_exec_memory(address, page())));
    assert!(refused(rt_make_writable(address, 1)));
    assert!(refused(rt_set_protection(address, page(), RT_PROT_NONE)));
    let written = write_bytes(address, &[0], 0);
    assert_eq!((written, rt_last_error()), (-1, RT_ERROR_REFUSED));

    let (pages, length): (*mut c_void, _) =
        (std::ptr::with_exposed_provenance_mut(address as usize), page() as usize);
    let forbidden =
        |result: c_int| result == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
    // SAFETY: the kernel refuses each of these.
    unsafe {
        assert!(forbidden(libc::mprotect(pages, length, libc::PROT_READ | libc::PROT_WRITE)));
        assert!(forbidden(libc::munmap(pages, length)));
        let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        assert_eq!(libc::mmap(pages, length, libc::PROT_READ, flags, -1, 0), libc::MAP_FAILED);
        assert_eq!(libc::mremap(pages, length, 2 * length, libc::MREMAP_MAYMOVE), libc::MAP_FAILED);
    }
    assert_eq!(rt_get_protection(address), RT_PROT_READ | RT_PROT_EXEC);
    assert!(rt_is_executable(address) && call(address, &[]) == 42);
}

fn unsealed() -> Outcome {
    for (number, error) in [(libc::ENOSYS, RT_ERROR_UNSUPPORTED), (libc::EPERM, RT_ERROR_REFUSED)] {
        let run = || {
            let refusal = Refusal { call: SYS_MSEAL, condition: Condition::Any, error: number };
            confinement::refuse(&[refusal]).expect("a filter");
            let address = code();
            let before = statistics().expect("figures").mapped_bytes;
            assert!(!rt_seal(address, page()) && rt_last_error() == error);
            assert_eq!(statistics().expect("figures").mapped_bytes, before);
            assert_eq!(call(address, &[]), 42);
            assert!(rt_make_writable(address, page()) && rt_free_exec_memory(address, page()));
            Outcome::Passed
        };
        assert_eq!(children::run(run), Outcome::Passed);
    }
    Outcome::Passed
}
