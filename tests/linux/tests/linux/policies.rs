//! Policies and what the kernel grants. The whole suite runs under each confinement in `conformance.rs`; here
//! is what needs words of its own.

use crate::{Needs, Test};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::confinement::{self, Condition, NO_NEW_CODE, Refusal};

pub const TESTS: &[Test] = &[
    Test {
        name: "policies: a name in EXECMEM_POLICY that is none has its own error, and allocates nothing",
        needs: Needs::Nothing,
        run: unknown_name,
    },
    Test {
        name: "policies: jit is unsupported on Linux, and another wish may follow",
        needs: Needs::Nothing,
        run: jit,
    },
    Test {
        name: "policies: a wish that the kernel refuses is refused, not replaced, and another may follow",
        needs: Needs::Kernel,
        run: refused_wish,
    },
    Test {
        name: "policies: auto ends at toggle where the kernel has neither W with X nor memory files",
        needs: Needs::Kernel,
        run: last_resort,
    },
    Test {
        name: "policies: where the kernel grants nothing at all, auto says refused and stays open",
        needs: Needs::Kernel,
        run: nothing_granted,
    },
    Test {
        name: "policies: a kernel that does not know MFD_EXEC gives two views all the same",
        needs: Needs::Kernel,
        run: old_memory_files,
    },
];

fn wish(name: &str) {
    // SAFETY: the child has one thread.
    unsafe { std::env::set_var("EXECMEM_POLICY", name) };
}

fn expect_refusal(code: i32) {
    assert_eq!(rt_alloc_exec_memory(4096), 0);
    assert_eq!(rt_last_error(), code);
    assert_eq!(rt_alloc_rw_memory(4096), 0);
    assert_eq!(rt_last_error(), code);
    assert_eq!((rt_exec_memory_count(), rt_exec_memory_total()), (0, 0));
}

fn expect_service() {
    use execmem_conformance::code::returning;
    let address = rt_alloc_exec_memory(4096);
    assert!(address > 0, "error {}", rt_last_error());
    assert_eq!(write_bytes(address, &returning(42), 0), returning(42).len() as i64);
    rt_flush_icache(address, 4096);
    assert_eq!(call(address, &[]), 42);
    assert!(rt_free_exec_memory(address, 4096));
}

fn unknown_name() -> Outcome {
    for name in ["rwx ", "dual,toggle", "none"] {
        wish(name);
        assert_eq!(rt_exec_memory_policy(), -1, "{name:?}");
        assert_eq!(rt_last_error(), RT_ERROR_UNKNOWN_POLICY);
        expect_refusal(RT_ERROR_UNKNOWN_POLICY);
    }
    for (name, policy) in [("", RT_POLICY_AUTO), ("DUAL", RT_POLICY_DUAL)] {
        wish(name);
        assert_eq!(rt_exec_memory_policy(), policy, "{name:?}");
    }
    wish("Toggle");
    expect_service();
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_TOGGLE);
    Outcome::Passed
}

fn jit() -> Outcome {
    wish("jit");
    expect_refusal(RT_ERROR_UNSUPPORTED);
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_JIT);
    assert!(rt_exec_memory_set_policy(RT_POLICY_AUTO));
    expect_service();
    Outcome::Passed
}

fn refused_wish() -> Outcome {
    confinement::refuse(&NO_NEW_CODE).expect("a filter");
    for policy in ["rwx", "toggle"] {
        wish(policy);
        expect_refusal(RT_ERROR_REFUSED);
    }
    wish("dual");
    expect_service();
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_DUAL);
    Outcome::Passed
}

const NO_MEMORY_FILES: Refusal =
    Refusal { call: libc::SYS_memfd_create, condition: Condition::Any, error: libc::EPERM };

fn last_resort() -> Outcome {
    confinement::refuse(&confinement::NO_WRITABLE_CODE).expect("a filter");
    confinement::refuse(&[NO_MEMORY_FILES]).expect("a filter");
    wish("auto");
    expect_service();
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_TOGGLE);
    Outcome::Passed
}

fn nothing_granted() -> Outcome {
    confinement::refuse(&NO_NEW_CODE).expect("a filter");
    confinement::refuse(&[NO_MEMORY_FILES]).expect("a filter");
    wish("auto");
    expect_refusal(RT_ERROR_REFUSED);
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_AUTO);
    Outcome::Passed
}

fn old_memory_files() -> Outcome {
    const MFD_CLOEXEC_AND_EXEC: u32 = 0x11;
    let condition = Condition::Is(1, MFD_CLOEXEC_AND_EXEC);
    let refusal = Refusal { call: libc::SYS_memfd_create, condition, error: libc::EINVAL };
    confinement::refuse(&[refusal]).expect("a filter");
    wish("dual");
    expect_service();
    Outcome::Passed
}
