//! What is beside code, and who may store to it: what the kernel and the processor then refuse.

use crate::observed::code_memory;
use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::memory::{page, statistics, store};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::{self, Outcome, Status};
use execmem_tests_linux::maps;
use execmem_tests_linux::system::policy_name;

pub const TESTS: &[Test] = &[
    Test {
        name: "hardening: with guards no load, store or jump reaches what lies beside a region, a chunk or a view",
        needs: Needs::Kernel,
        run: || each_policy(guarded),
    },
    Test {
        name: "hardening: guards go with what they guard, and take a mapping for each view",
        needs: Needs::Kernel,
        run: || each_policy(guards_go),
    },
    Test {
        name: "hardening: mappings have no guards, and settle nothing",
        needs: Needs::Kernel,
        run: || each_policy(mappings),
    },
    Test {
        name: "hardening: with guards what has to be near lies where there is room for nothing else",
        needs: Needs::Kernel,
        run: || each_policy(near),
    },
    // qemu's user mode says yes to the advice, and does nothing.
    Test {
        name: "hardening: a child has no guard of what is kept from it",
        needs: Needs::Kernel,
        run: || each_policy(guards_are_withheld),
    },
];

fn each_policy(test: fn()) -> Outcome {
    for policy in [RT_POLICY_RWX, RT_POLICY_DUAL, RT_POLICY_TOGGLE] {
        let run = || {
            assert!(rt_exec_memory_set_policy(policy));
            test();
            Outcome::Passed
        };
        if let Outcome::Failed(what) = children::run(run) {
            return Outcome::Failed(format!("under {}: {what}", policy_name(policy)));
        }
    }
    Outcome::Passed
}

/// How a child ends that does this.
pub fn ends(act: impl FnOnce()) -> Status {
    // SAFETY: this process has one thread, so that its child may do whatever a program may.
    match unsafe { libc::fork() } {
        0 => {
            act();
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) }
        }
        child => children::wait(child),
    }
}

pub fn load(address: i64) {
    // SAFETY: the child that asks may die of it.
    unsafe { std::ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() };
}

fn jump(address: i64) {
    // SAFETY: the child that asks may die of it.
    let code: extern "C" fn() = unsafe { std::mem::transmute(address as usize) };
    code();
}

/// Regions of both kinds that the kernel puts beside each other, with their sizes, and a block of the heap.
fn regions() -> ([(i64, i64); 6], i64) {
    let near = rt_alloc_exec_memory(page());
    let regions = [
        (near, page()),
        (rt_alloc_exec_memory(2 * page()), 2 * page()),
        (rt_alloc_rw_memory(page()), page()),
        (rt_alloc_rw_memory(page()), page()),
        (rt_alloc_exec_memory_near(page(), near, 1 << 30), page()),
        (rt_alloc_rw_memory_near(page(), near, 1 << 30), page()),
    ];
    let (block, code) = (rt_code_alloc(100), returning(1));
    assert!(regions.iter().all(|(address, _)| *address != 0) && block != 0, "error {}", rt_last_error());
    for (address, _) in &regions[..3] {
        assert_eq!(write_bytes(*address, &code, 0), code.len() as i64);
    }
    assert!(write_block(block, &code, 0) > 0 && rt_code_publish(block, 100));
    (regions, block)
}

/// Start and end of regions, of the block's chunk, and of write views, which the kernel's own list tells.
fn views((regions, block): &([(i64, i64); 6], i64)) -> Vec<(i64, i64)> {
    let is_chunk = |line: &maps::Line| (line.start..line.end).contains(block);
    let is_shared =
        |line: &maps::Line| line.name.starts_with(b"/dev/zero") || line.name.starts_with(b"/memfd");
    let is_known =
        |line: &maps::Line| regions.iter().any(|(address, _)| (line.start..line.end).contains(address));
    let is_other_view = |line: &maps::Line| is_shared(line) && !is_known(line) || is_chunk(line);
    let others = maps::merged_lines().into_iter().filter(is_other_view).map(|line| (line.start, line.end));
    regions.iter().map(|(address, size)| (*address, address + size)).chain(others).collect()
}

/// The accesses beside views that don't end the process.
fn breaches(views: &[(i64, i64)]) -> Vec<String> {
    let mut breaches = Vec::new();
    let edges = views.iter().flat_map(|(start, end)| [start - page(), start - 1, *end, end + page() - 1]);
    for edge in edges {
        let accesses: [(&str, &dyn Fn()); 3] =
            [("load", &|| load(edge)), ("store", &|| store(edge, &[0])), ("jump", &|| jump(edge))];
        for (name, access) in accesses {
            match ends(access) {
                Status::Signal(libc::SIGSEGV) => {}
                other => breaches.push(format!("a {name} at {edge:#x} beside {views:x?}: {other:?}")),
            }
        }
    }
    breaches
}

fn guarded() {
    let control = || {
        let reached = breaches(&views(&regions()));
        assert!(!reached.is_empty(), "without guards something lies beside something else");
        Outcome::Passed
    };
    assert_eq!(children::run(control), Outcome::Passed);
    assert!(rt_set_hardening(RT_HARDEN_GUARDS));
    let known = regions();
    let ([(first, _), (second, size), (data, _), ..], block) = known;
    let found = views(&known);
    let further = if rt_exec_memory_policy() == RT_POLICY_DUAL { 4 } else { 0 };
    assert_eq!(found.len(), 7 + further, "{found:x?}");
    assert_eq!(breaches(&found), Vec::<String>::new());
    // In a child that has copies of its own, each with other memory between the same guards.
    let child = || {
        assert!(write_bytes(first, &returning(2), 0) > 0 && write_bytes(second, &returning(2), 0) > 0);
        assert!(write_block(block, &returning(2), 0) > 0);
        assert_eq!(breaches(&views(&known)), Vec::<String>::new());
        Outcome::Passed
    };
    assert_eq!(children::run(child), Outcome::Passed);
    // Whatever becomes of their protection.
    assert!(rt_make_writable(second, size) && rt_make_executable(data, 1));
    assert_eq!(breaches(&views(&known)), Vec::<String>::new());
}

fn guards_go() {
    assert!(rt_set_hardening(RT_HARDEN_GUARDS));
    // What the library's records take is there then.
    assert!(rt_free_exec_memory(rt_alloc_exec_memory(1), 1));
    let before = (code_memory(), statistics().expect("figures").mapped_bytes);
    let views = if rt_exec_memory_policy() == RT_POLICY_DUAL { 2 } else { 1 };
    let regions: Vec<i64> = (0..64).map(|_| rt_alloc_exec_memory(page())).collect();
    let added = code_memory().len() - before.0.len();
    // Between two neighbours their guards are one mapping; some have none beside them.
    assert!(added <= views * 2 * regions.len() + 8, "{added} mappings");
    let mapped = statistics().expect("figures").mapped_bytes - before.1;
    assert_eq!(mapped, (views * regions.len()) as i64 * page(), "guards are not counted");
    assert!(regions.iter().all(|region| rt_free_exec_memory(*region, page())));
    assert_eq!((code_memory(), statistics().expect("figures").mapped_bytes), before);
}

fn mappings() {
    assert!(rt_set_hardening(RT_HARDEN_GUARDS));
    let without_access = || -> i64 {
        let lines = maps::lines().into_iter().filter(|line| line.protection == 0);
        lines.map(|line| line.end - line.start).sum()
    };
    let before = without_access();
    for flags in [RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, RT_MAP_SHARED | RT_MAP_ANONYMOUS] {
        let protection = i64::from(RT_PROT_READ | RT_PROT_WRITE);
        let mapping = rt_mmap_fd(-1, protection, flags.into(), 0, 3 * page());
        assert!(mapping > 0, "error {}", rt_last_error());
        assert_eq!(without_access(), before);
        assert!(rt_munmap(mapping, 3 * page()));
        assert_eq!(without_access(), before);
    }
    assert!(rt_set_hardening(0), "no region was mapped yet");
}

fn near() {
    assert!(rt_set_hardening(RT_HARDEN_GUARDS));
    let (size, region) = (3 * page(), rt_alloc_exec_memory(3 * page()));
    let beside = rt_alloc_exec_memory(1);
    assert!(beside > 0 && rt_free_exec_memory(region, size));
    // Where the kernel would put whatever is mapped next.
    let near = rt_alloc_exec_memory_near(size, region, size + page() / 8);
    assert!(near > 0, "error {}", rt_last_error());
}

fn guards_are_withheld() {
    assert!(rt_set_hardening(RT_HARDEN_GUARDS));
    let regions = [(); 3].map(|()| rt_alloc_exec_memory(page()));
    assert!(regions.iter().all(|region| rt_madvise(*region, page(), RT_ADVICE_DONTFORK)));
    let is_shared =
        |line: &maps::Line| line.name.starts_with(b"/dev/zero") || line.name.starts_with(b"/memfd");
    let others = maps::merged_lines().into_iter().filter(is_shared).map(|line| (line.start, line.end));
    let views: Vec<_> = regions.iter().map(|region| (*region, region + page())).chain(others).collect();
    assert!(views.len() > 3 || rt_exec_memory_policy() != RT_POLICY_DUAL, "{views:x?}");
    let mapped = || {
        let around = |line: &maps::Line| {
            views.iter().any(|(start, end)| line.start < end + page() && start - page() < line.end)
        };
        let lines = maps::lines().into_iter().filter(around);
        lines.map(|line| (line.start, line.end)).collect::<Vec<_>>()
    };
    assert_ne!(mapped(), []);
    let child = || {
        assert_eq!(mapped(), []);
        Outcome::Passed
    };
    assert_eq!(children::run(child), Outcome::Passed);
}
