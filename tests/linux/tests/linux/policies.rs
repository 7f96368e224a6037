//! Policies and what the kernel grants. The whole suite runs under each confinement in `conformance.rs`; here
//! is what needs words of its own.

use crate::service::{expect_heap_service, expect_service};
use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome};
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
        name: "policies: auto ends at toggle where the kernel has neither W with X nor two views",
        needs: Needs::Kernel,
        run: last_resort,
    },
    Test {
        name: "policies: where the kernel grants nothing at all, auto says refused and stays open",
        needs: Needs::Kernel,
        run: nothing_granted,
    },
    Test {
        name: "policies: two views without a memory file are never writable and executable, and gain no EXEC",
        needs: Needs::Kernel,
        run: views_without_a_file,
    },
    Test {
        name: "policies: where shared memory can't be mapped again, a memory file has the two views",
        needs: Needs::Kernel,
        run: memory_files,
    },
    Test {
        name: "policies: nor may a file have a byte: two views are refused, without a signal",
        needs: Needs::Kernel,
        run: neither_way,
    },
    Test {
        name: "policies: where no file may have a byte, regions and the heap work, in a forked child too",
        needs: Needs::Kernel,
        run: || under_each_policy(no_file_sizes),
    },
    Test {
        name: "policies: where no memory file may be executed, regions and the heap work",
        needs: Needs::NewKernel,
        run: || under_each_policy(no_executable_memory_files),
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

/// Shared memory can't be mapped again.
const NO_SECOND_MAPPING: Refusal =
    Refusal { call: libc::SYS_mremap, condition: Condition::Is(1, 0), error: libc::EPERM };

const NO_MEMORY_FILE: Refusal =
    Refusal { call: libc::SYS_memfd_create, condition: Condition::Any, error: libc::EPERM };

/// Neither way to two views.
const NO_TWO_VIEWS: [Refusal; 2] = [NO_SECOND_MAPPING, NO_MEMORY_FILE];

fn last_resort() -> Outcome {
    confinement::refuse(&confinement::NO_WRITABLE_CODE).expect("a filter");
    confinement::refuse(&NO_TWO_VIEWS).expect("a filter");
    wish("auto");
    expect_service();
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_TOGGLE);
    Outcome::Passed
}

fn nothing_granted() -> Outcome {
    confinement::refuse(&NO_NEW_CODE).expect("a filter");
    confinement::refuse(&NO_TWO_VIEWS).expect("a filter");
    wish("auto");
    expect_refusal(RT_ERROR_REFUSED);
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_AUTO);
    Outcome::Passed
}

/// In a process of its own.
fn expect_service_under(refusals: &[Refusal]) {
    let outcome = children::run(|| {
        confinement::refuse(refusals).expect("a filter");
        expect_service();
        expect_heap_service();
        Outcome::Passed
    });
    assert_eq!(outcome, Outcome::Passed);
}

/// Without memory files, which would make up for it if a step were refused.
fn views_without_a_file() -> Outcome {
    wish("dual");
    for filter in [&confinement::NO_WRITABLE_CODE, &NO_NEW_CODE] {
        expect_service_under(&[&filter[..], &[NO_MEMORY_FILE]].concat());
    }
    Outcome::Passed
}

/// Also of a kernel that does not know MFD_EXEC.
fn memory_files() -> Outcome {
    const MFD_CLOEXEC_AND_EXEC: u32 = 0x11;
    let condition = Condition::Is(1, MFD_CLOEXEC_AND_EXEC);
    let unknown = Refusal { call: libc::SYS_memfd_create, condition, error: libc::EINVAL };
    wish("dual");
    for refusals in [&[NO_SECOND_MAPPING][..], &[NO_SECOND_MAPPING, unknown]] {
        expect_service_under(refusals);
    }
    Outcome::Passed
}

fn neither_way() -> Outcome {
    confinement::refuse(&[NO_SECOND_MAPPING]).expect("a filter");
    allow_no_file_sizes();
    wish("dual");
    expect_refusal(RT_ERROR_REFUSED);
    wish("auto");
    expect_service();
    expect_heap_service();
    Outcome::Passed
}

/// Each policy in a process of its own.
fn under_each_policy(test: fn() -> Outcome) -> Outcome {
    for policy in ["auto", "rwx", "dual", "toggle"] {
        let run = || {
            wish(policy);
            test()
        };
        match children::run(run) {
            Outcome::Passed => {}
            Outcome::Failed(what) => return Outcome::Failed(format!("policy {policy}: {what}")),
            other => return other,
        }
    }
    Outcome::Passed
}

/// Whoever makes a file longer is ended by SIGXFSZ.
fn allow_no_file_sizes() {
    let limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: changes this child's limit only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limits) }, 0);
}

fn no_file_sizes() -> Outcome {
    allow_no_file_sizes();
    // Memory that the child has in common with this process until it writes there.
    let (region, block) = (rt_alloc_exec_memory(4096), rt_code_alloc(100));
    let service = || {
        let code = returning(7);
        assert_eq!(write_bytes(region, &code, 0), code.len() as i64, "error {}", rt_last_error());
        assert_eq!(write_block(block, &code, 0), code.len() as i64, "error {}", rt_last_error());
        expect_service();
        expect_heap_service();
        Outcome::Passed
    };
    match children::run(service) {
        Outcome::Passed => service(),
        other => other,
    }
}

/// `vm.memfd_noexec` belongs to a namespace of processes: this child makes one, and its own child is in it.
fn no_executable_memory_files() -> Outcome {
    // SAFETY: only changes what this child's children are.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        let error = std::io::Error::last_os_error();
        return Outcome::NotApplicable(format!("no namespace of processes: {error}"));
    }
    children::run(|| {
        if let Err(error) = std::fs::write("/proc/sys/vm/memfd_noexec", "2") {
            return Outcome::NotApplicable(format!("vm.memfd_noexec can't be set: {error}"));
        }
        // SAFETY: the name is a C string.
        let file = unsafe { libc::memfd_create(c"executable".as_ptr(), libc::MFD_EXEC) };
        assert_eq!(file, -1, "the setting is in force");
        expect_service();
        expect_heap_service();
        Outcome::Passed
    })
}
