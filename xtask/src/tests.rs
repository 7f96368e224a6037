//! `cargo xtask test`: all that is tested, part by part. A part is one system that the tests run
//! on; each closes with its counts, and a run of all parts with their sum.

use std::process::{Command, ExitCode};

use crate::Result;
use crate::baremetal;
use crate::c_clients;
use crate::dist::Dist;
use crate::header;
use crate::macos;
use crate::process::watch;
use crate::project::Project;
use crate::setup::{self, AARCH64_LINUX};
use crate::symbols;
use crate::tally::Tally;
use crate::toolchain::Toolchain;

type Part = fn(&Project, &mut Tally) -> Result<()>;

const PARTS: [(&str, Part); 4] =
    [("host", host), ("aarch64", aarch64), ("baremetal", baremetal::test), ("macos", macos::test)];

/// What the bundled object of run_object computes.
const SAMPLE_RESULT: &str = "sample(10) = 2848";

/// Runs the part of that name, or all of them.
pub fn run(name: Option<&str>) -> Result<ExitCode> {
    let parts: Vec<_> = PARTS.into_iter().filter(|(part, _)| name.is_none_or(|name| name == *part)).collect();
    if parts.is_empty() {
        let names = PARTS.map(|(name, _)| name).join(", ");
        return Err(format!("there is no such part of the tests: the parts are {names}"));
    }
    let project = Project::find()?;
    let mut sum = Tally::default();
    let mut success = true;
    for (part, run) in &parts {
        println!("tests on {part}");
        let mut tally = Tally::default();
        if let Err(reason) = run(&project, &mut tally) {
            tally.fail(&reason);
        }
        println!("{tally}");
        success &= tally.is_success();
        sum += tally;
    }
    if parts.len() > 1 {
        println!("all parts:\n{sum}");
    }
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// This machine, with the C libraries and everything that a newcomer is told to type.
fn host(project: &Project, tally: &mut Tally) -> Result<()> {
    setup::c_compilers()?;
    let toolchain = Toolchain::find()?;
    tally.cargo_test(&mut project.cargo(&["test", "--workspace", "--no-fail-fast"]));

    tally.check("the header is up to date", || header::check(project));
    let dist = Dist::build(project, &toolchain, &toolchain.host)?;
    check_libraries(&dist, tally);
    c_clients::check_header(project, &dist, tally);
    c_clients::run_c_client(project, &dist, tally);
    c_clients::check_replaced_symbols(project, &dist, tally);
    tally.check("the static library links into a Rust program with its own std", || {
        c_clients::check_rust_client(project, &toolchain, &dist, &toolchain.host, None)
    });

    let example = |name| project.cargo(&["run", "--release", "--example", name]);
    tally.check("the example hello prints 42", || prints(&mut example("hello"), "42"));
    tally.check("the example run_object runs its sample", || {
        prints(&mut example("run_object"), SAMPLE_RESULT)
    });
    Ok(())
}

/// aarch64 Linux, in QEMU's user mode. It executes stale code where `ic ivau` is missing or on the
/// wrong one of two views, so it can judge dual-mapped rewrites; it never notices a missing
/// `dc cvau` or `isb`, and passes membarrier to the kernel below it, so it proves nothing there.
fn aarch64(project: &Project, tally: &mut Tally) -> Result<()> {
    let toolchain = Toolchain::find()?;
    toolchain.require_target(AARCH64_LINUX)?;
    // A program that loops on stale code would hang the run for ever.
    let qemu = setup::qemu_aarch64()?;
    let runner = format!("timeout --kill-after=10 900 {}", qemu.display());
    let emulated = |arguments: &[&str]| -> Command {
        let mut cargo = project.cargo(arguments);
        cargo.args(["--target", AARCH64_LINUX]);
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
        cargo.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER", &runner);
        cargo
    };
    // The core's tests beside its units drive it on plain memory: the host's run of them says it all.
    tally.cargo_test(&mut emulated(&["test", "--package", "execmem-core", "--lib"]));
    let mut tests = emulated(&["test", "--no-fail-fast"]);
    for package in ["execmem", "execmem-os-linux", "execmem-tests-linux", "execmem-tests-objects"] {
        tests.args(["--package", package]);
    }
    tally.cargo_test(&mut tests);

    let dist = Dist::build(project, &toolchain, AARCH64_LINUX)?;
    check_libraries(&dist, tally);
    tally.check("the static library links into a Rust program with its own std", || {
        let runner = Some(runner.as_str());
        c_clients::check_rust_client(project, &toolchain, &dist, AARCH64_LINUX, runner)
    });
    tally.check("the example hello prints 42", || {
        prints(&mut emulated(&["run", "--release", "--example", "hello"]), "42")
    });
    tally.check("the example run_object runs its sample", || {
        prints(&mut emulated(&["run", "--release", "--example", "run_object"]), SAMPLE_RESULT)
    });
    Ok(())
}

fn check_libraries(dist: &Dist, tally: &mut Tally) {
    tally.check("the static library defines the listed symbols and no other", || {
        symbols::check_static(&dist.static_library())
    });
    tally.check("the shared library exports the listed symbols and no other", || {
        symbols::check_shared(&dist.shared_library())
    });
    tally.check("the shared library needs libc alone and no patching", || {
        symbols::check_loading(&dist.shared_library())
    });
}

/// Whether a program succeeds and says the expected word.
fn prints(command: &mut Command, expected: &str) -> Result<()> {
    let mut printed = String::new();
    let status = watch(command, |line| printed.push_str(line))?;
    if !status.success() {
        return Err(format!("it failed ({status})"));
    }
    if printed.trim().is_empty() || !printed.contains(expected) {
        return Err(format!("it did not print {expected:?}"));
    }
    Ok(())
}
