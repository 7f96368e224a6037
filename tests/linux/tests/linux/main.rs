//! What only Linux can show: system calls that fail, kernels that refuse, files that shrink, threads, forks
//! and signals. Every test has a process of its own.

mod cancelled;
mod copies;
mod cores;
mod faults;
mod files;
mod forks;
mod handlers;
mod hardening;
mod huge;
mod keys;
mod landing_pads;
mod limits;
mod listeners;
mod lookups;
mod observed;
mod operations;
mod places;
mod policies;
mod queries;
mod report;
mod sealing;
mod service;
mod spawning;
mod stepping;
mod threads;
mod withheld;

use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::files::Folder;
use execmem_tests_linux::programs;
use execmem_tests_linux::report::Report;
use execmem_tests_linux::system::{has_keys, is_emulated, is_guest, looks_for_pads};
use std::process::ExitCode;

/// A test: the sentence that it proves, and what proves it. It panics where the sentence is wrong.
pub struct Test {
    name: &'static str,
    needs: Needs,
    run: fn() -> Outcome,
}

/// What a test needs that not every machine has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Any Linux, emulated too.
    Nothing,
    /// A kernel of its own: qemu's user mode has no seccomp, and its own idea of mappings.
    Kernel,
    /// A kernel of its own, perhaps a newer one.
    NewKernel,
    /// A kernel of its own, and functions that can be looked up by their names, as in no static program.
    Loader,
    /// A kernel of its own, and what the tests know of x86_64 alone: its trap flag, its registers at a system call.
    X86_64,
    /// A processor with protection keys, and a kernel that gives them.
    Keys,
    /// A machine of its own, which it may set up as it likes.
    Guest,
    /// A processor that looks for landing pads, emulated too.
    LandingPads,
}

const TESTS: [&[Test]; 29] = [
    policies::TESTS,
    cancelled::TESTS,
    copies::TESTS,
    cores::TESTS,
    faults::TESTS,
    files::TESTS,
    forks::TESTS,
    handlers::TESTS,
    hardening::TESTS,
    huge::TESTS,
    keys::TESTS,
    landing_pads::TESTS,
    listeners::TESTS,
    places::TESTS,
    queries::TESTS,
    spawning::TESTS,
    threads::TESTS,
    withheld::TESTS,
    limits::exhaustion::TESTS,
    limits::each::TESTS,
    limits::mappings::TESTS,
    limits::addresses::TESTS,
    limits::space::TESTS,
    limits::amounts::TESTS,
    limits::forks::TESTS,
    limits::groups::TESTS,
    report::TESTS,
    sealing::TESTS,
    stepping::TESTS,
];

/// A test that is lost from its list must be struck out here too.
const TEST_COUNT: usize = 151;

fn main() -> ExitCode {
    if programs::is_asked_for() {
        return ExitCode::SUCCESS;
    }
    let _folder = Folder::make();
    let mut report = Report::from_arguments();
    for test in TESTS.into_iter().flatten() {
        let needs_more = !matches!(test.needs, Needs::Nothing | Needs::LandingPads) && is_emulated();
        let lacks_pads = test.needs == Needs::LandingPads && !looks_for_pads();
        let is_foreign = test.needs == Needs::X86_64 && cfg!(not(target_arch = "x86_64"));
        let is_elsewhere = test.needs == Needs::Guest && !is_guest();
        let lacks_loader = test.needs == Needs::Loader && cfg!(target_feature = "crt-static");
        let is_new = test.needs == Needs::NewKernel;
        let lacks_keys = test.needs == Needs::Keys && !has_keys();
        let may_not_apply =
            needs_more || is_foreign || is_elsewhere || lacks_loader || is_new || lacks_keys || lacks_pads;
        report.run(test.name, may_not_apply, || match (needs_more, is_elsewhere, lacks_keys) {
            _ if lacks_pads => Outcome::NotApplicable("the processor looks for no landing pads".to_owned()),
            (true, ..) => Outcome::NotApplicable("qemu's user mode has no kernel of its own".to_owned()),
            (_, true, _) => Outcome::NotApplicable("the machine is no guest of our own".to_owned()),
            (.., true) => Outcome::NotApplicable("the processor has no protection keys".to_owned()),
            _ => (test.run)(),
        });
    }
    if report.is_complete() {
        let count = TESTS.iter().map(|tests| tests.len()).sum::<usize>();
        report.state("every test ran", report.total() == count && count == TEST_COUNT);
    }
    report.close()
}
