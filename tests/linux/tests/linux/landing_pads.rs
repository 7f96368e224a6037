//! Pages on which an indirect branch must find a landing pad, as the processor sees them. That they ask again after a
//! change that the kernel refused, the core's own tests show: no refusal can be arranged under qemu's user mode, and no
//! guest of ours has such a processor.

use crate::{Needs, Test};
use execmem_conformance::memory::page;
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome, Status};
use execmem_tests_linux::system::looks_for_pads;

pub const TESTS: &[Test] = &[
    Test {
        name: "landing pads: pages can ask for them where the processor looks, and nowhere else",
        needs: Needs::Nothing,
        run: || {
            let code = rt_alloc_exec_memory(page());
            let granted = rt_set_protection(code, page(), GUARDED);
            assert_eq!(granted, looks_for_pads());
            assert!(granted || rt_last_error() == RT_ERROR_UNSUPPORTED);
            Outcome::Passed
        },
    },
    Test {
        name: "landing pads: a call that the processor would not let land is refused, and no other",
        needs: Needs::LandingPads,
        run: landings,
    },
    Test {
        name: "landing pads: pages ask for them after writes, on both sides of a fork, until they are told otherwise",
        needs: Needs::LandingPads,
        run: || under_each_policy(asking),
    },
    Test {
        name: "landing pads: all code of a hardened process asks for them, in its forked children too",
        needs: Needs::LandingPads,
        run: || under_each_policy(hardened),
    },
];

const GUARDED: i32 = RT_PROT_READ | RT_PROT_EXEC | RT_PROT_BTI;

const BTI_C: u32 = 0xd503_245f;
const NOP: u32 = 0xd503_201f;

fn under_each_policy(test: fn()) -> Outcome {
    for policy in ["auto", "rwx", "dual", "toggle"] {
        let run = || {
            // SAFETY: this process has one thread.
            unsafe { std::env::set_var("EXECMEM_POLICY", policy) };
            test();
            Outcome::Passed
        };
        assert_eq!(children::run(run), Outcome::Passed, "{policy}");
    }
    Outcome::Passed
}

/// A function that begins with an instruction and ends with one of its own before `ret`, and returns 42.
fn function(first: u32, last: u32) -> [u8; 16] {
    let words = [first, 0xd280_0540, last, 0xd65f_03c0].map(u32::to_le_bytes);
    std::array::from_fn(|at| words[at / 4][at % 4])
}

/// How a child ends that does this, which must return 42.
fn end_of(call: impl FnOnce() -> i64) -> Status {
    // SAFETY: the process has one thread.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed: {}", std::io::Error::last_os_error()),
        // SAFETY: ends the child at once. (qemu has a line and a file for each that a signal ends.)
        0 => unsafe {
            libc::close(libc::STDERR_FILENO);
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            libc::_exit(i32::from(call() != 42))
        },
        child => children::wait(child),
    }
}

/// A call that nobody checks but the processor: by `blr`.
fn jump(address: i64) -> Status {
    let code = std::ptr::with_exposed_provenance::<()>(address as usize);
    // SAFETY: there is a function without arguments; in a child it may end the process.
    end_of(|| unsafe { std::mem::transmute::<*const (), extern "C" fn() -> i64>(code)() })
}

/// The library's call: how it ends, if it is not refused.
fn call_of(address: i64) -> Option<Status> {
    let result = end_of(|| match call(address, &[]) {
        -1 if rt_last_error() == RT_ERROR_NOT_EXECUTABLE => {
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(9) }
        }
        result => result,
    });
    (result != Status::Exit(9)).then_some(result)
}

fn landings() -> Outcome {
    const RETURNS: Status = Status::Exit(0);
    const DIES: Status = Status::Signal(libc::SIGILL);
    const TRAPS: Status = Status::Signal(libc::SIGTRAP);
    let code = rt_alloc_exec_memory(page());
    for (first, last, expected) in [
        (BTI_C, NOP, RETURNS),
        // bti jc, bti j, bti.
        (0xd503_24df, NOP, RETURNS),
        (0xd503_249f, NOP, DIES),
        (0xd503_241f, NOP, DIES),
        // paciasp with autiasp, pacibsp with autibsp, paciaz with autiaz.
        (0xd503_233f, 0xd503_23bf, RETURNS),
        (0xd503_237f, 0xd503_23ff, RETURNS),
        (0xd503_231f, 0xd503_239f, DIES),
        // brk.
        (0xd420_0000, NOP, TRAPS),
        (0xd43f_ffe0, NOP, TRAPS),
        (NOP, NOP, DIES),
    ] {
        assert!(rt_make_writable(code, page()));
        // SAFETY: the page is read-write, and this process's own.
        unsafe {
            let place: *mut [u8; 16] = std::ptr::with_exposed_provenance_mut(code as usize);
            place.write(function(first, last));
        }
        assert!(rt_set_protection(code, page(), GUARDED));
        assert_eq!(jump(code), expected, "{first:#x}");
        assert_eq!(call_of(code), Some(expected).filter(|end| *end != DIES), "{first:#x}");
        // Of what can't be read the library knows nothing, and the processor decides.
        assert!(rt_set_protection(code, page(), RT_PROT_EXEC | RT_PROT_BTI));
        assert_eq!(call_of(code), Some(expected), "{first:#x}, execute-only");
        // Where nobody asks for pads, everything lands.
        assert!(rt_make_executable(code, page()));
        assert_eq!(call_of(code), Some(if expected == TRAPS { TRAPS } else { RETURNS }), "{first:#x}");
    }
    Outcome::Passed
}

/// Code on two pages, which is written anew in many ways. Each time the second page asks for pads.
fn asking() {
    let code = rt_alloc_exec_memory(2 * page());
    let second = code + page();
    // The second function begins with a pad, the third, behind it, with none.
    let text = [function(NOP, NOP), function(BTI_C, NOP), function(NOP, NOP)].concat();
    let write = || {
        assert_eq!(write_bytes(code, &text, page() - 16), text.len() as i64);
        rt_flush_icache(code, 2 * page());
        assert_eq!(rt_last_error(), 0);
    };
    write();
    let protection = rt_get_protection(code) | RT_PROT_BTI;
    assert!(rt_set_protection(second, page(), protection));
    let asks = || {
        assert_eq!(rt_get_protection(second), protection);
        assert_eq!(jump(second - 16), Status::Exit(0), "a page that asks for none");
        assert_eq!((jump(second), call_of(second)), (Status::Exit(0), Some(Status::Exit(0))));
        assert_eq!((jump(second + 16), call_of(second + 16)), (Status::Signal(libc::SIGILL), None));
    };
    asks();
    write();
    asks();
    for _ in 0..2 {
        let child = || {
            asks();
            write();
            asks();
            Outcome::Passed
        };
        assert_eq!(children::run(child), Outcome::Passed);
        asks();
        write();
        asks();
    }
    // Code of two pages that was written in place.
    assert!(rt_make_writable(code, 2 * page()) && rt_set_protection(second, page(), GUARDED));
    assert_eq!((jump(second), jump(second + 16)), (Status::Exit(0), Status::Signal(libc::SIGILL)));
    assert!(rt_make_executable(second, page()));
    assert_eq!(jump(second + 16), Status::Exit(0));
}

fn hardened() {
    assert!(rt_set_hardening(RT_HARDEN_BTI));
    let (region, block) = (rt_alloc_exec_memory(100), rt_code_alloc(100));
    let data = rt_alloc_rw_memory(page());
    let text = [function(BTI_C, NOP), function(NOP, NOP)].concat();
    let write = || {
        assert_eq!(write_bytes(region, &text, 0), 32);
        assert_eq!(write_block(block, &text, 0), 32);
        assert!(rt_code_publish(block, 32) && rt_make_executable(region, 1));
        assert!(
            rt_make_writable(data, 1) && write_bytes(data, &text, 0) == 32 && rt_make_executable(data, 1)
        );
        for code in [region, block, data] {
            assert_eq!((jump(code), call_of(code)), (Status::Exit(0), Some(Status::Exit(0))));
            assert_eq!((jump(code + 16), call_of(code + 16)), (Status::Signal(libc::SIGILL), None));
        }
    };
    write();
    let child = || {
        // Under `rwx` the region is read-execute now.
        assert!(rt_exec_memory_policy() != RT_POLICY_RWX || rt_make_writable(region, 1));
        write();
        Outcome::Passed
    };
    assert_eq!(children::run(child), Outcome::Passed);
    assert!(rt_exec_memory_policy() != RT_POLICY_RWX || rt_make_writable(region, 1));
    write();
}
