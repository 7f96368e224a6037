//! What a checker can't follow. None of it counts as passed.

/// Tests of a program of `tests/linux`.
pub struct LeftOut {
    pub program: &'static str,
    /// A part of their names.
    pub tests: &'static str,
    pub reason: &'static str,
}

const fn linux(tests: &'static str, reason: &'static str) -> LeftOut {
    LeftOut { program: "linux", tests, reason }
}

const fn conformance(tests: &'static str, reason: &'static str) -> LeftOut {
    LeftOut { program: "conformance", tests, reason }
}

const NEEDS_CALLS: &str =
    "the checker makes system calls of its own, and ends the process when they are refused";
const NEEDS_ROOM: &str =
    "the checker maps shadow memory for what is mapped, and ends the process without room for it";
const LOCKS_NOTHING: &str = "the checker replaces `mlock` by a function that does nothing";
const IS_COUNTED: &str = "the test counts the process's memory, and the checker's shadow with it";
const STEPS: &str = "the test stops at each instruction, of which the checker makes several: none came to its end in ten minutes";
const SHADOW_IS_THERE: &str =
    "the checker's shadow memory lies at addresses that the test takes for nobody's";

pub const OF_ADDRESS: &[LeftOut] = &[
    conformance("errors: no function does harm with the largest", SHADOW_IS_THERE),
    linux("huge: chunks lie at multiples", SHADOW_IS_THERE),
    linux("places: each of 40 targets", SHADOW_IS_THERE),
    linux("faults: ", NEEDS_CALLS),
    linux("queries: about the library's memory a lookup makes no system call", NEEDS_CALLS),
    linux("limits: without addresses left", NEEDS_ROOM),
    linux("limits: a code heap without addresses", NEEDS_ROOM),
    linux("operations: ", NEEDS_ROOM),
    linux("limits: when 20,000 regions were there", IS_COUNTED),
    linux("limits: locking more", LOCKS_NOTHING),
    linux("limits: so does a child that may lock", LOCKS_NOTHING),
    linux("stepping: ", STEPS),
];

pub const OF_THREAD: &[LeftOut] = &[
    linux("faults: ", NEEDS_CALLS),
    linux("listeners: code whose free fails", NEEDS_CALLS),
    linux("limits: ", NEEDS_ROOM),
    linux("operations: ", NEEDS_ROOM),
    linux(
        "spawning: children of vfork",
        "the checker stops at a `clone` without a thread of its own (tsan_rtl.cpp, `thr->slot`)",
    ),
    linux("stepping: ", STEPS),
];

const OWN_CODE: &str = "valgrind has pages in the process that are writable and executable";

pub const OF_VALGRIND: &[LeftOut] = &[
    conformance(
        "writing: rt_write_exec_memory writes",
        "valgrind 3.19 decodes beyond the end of the code, and falls over the page behind it",
    ),
    conformance("the code heap: the heap's pages are code, and never writable", OWN_CODE),
    conformance("policy: under a W^X policy no page", OWN_CODE),
    linux(
        "sealing: where the kernel can't",
        "valgrind 3.19 doesn't know `mseal`, so there is nothing to be refused",
    ),
];

/// What runs under valgrind, of each program; all else was not tried, or is not for it: it runs one thread at a time, so
/// that threads wait for each other for minutes, makes its own system calls under the filters that tests set for
/// themselves, and is the program that `/proc/self/exe` leads to.
pub const UNDER_VALGRIND: [(&str, &[&str]); 2] = [
    ("conformance", &["rwx: ", "dual: ", "toggle: "]),
    ("linux", &["listeners: ", "report: ", "places: ", "sealing: "]),
];
