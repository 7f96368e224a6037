//! `cargo xtask test`: all that is tested, part by part. A part is one system that the tests run
//! on; each closes with its counts, and a run of all parts with their sum.

use std::process::{Command, ExitCode};

use execmem_tests_counter::Counter;

use crate::baremetal;
use crate::c_clients;
use crate::cpp_clients;
use crate::deny;
use crate::dist::{self, Dist};
use crate::fuzz;
use crate::guests::{self, SAMPLE_RESULT};
use crate::header;
use crate::listeners;
use crate::macos;
use crate::miri;
use crate::models;
use crate::objects;
use crate::process::watch;
use crate::project::{Project, make_folder, read};
use crate::result::Result;
use crate::sanitizers;
use crate::setup;
use crate::simple;
use crate::symbols;
use crate::tally::Tally;
use crate::targets::{AARCH64_LINUX, AARCH64_LINUX_GNU};
use crate::toolchain::Toolchain;

type Part = fn(&Project, &mut Tally) -> Result<()>;

const PARTS: [(&str, Part); 18] = [
    ("deny", deny::test),
    ("host", host),
    ("models", models::test),
    ("fuzz", fuzz::test),
    ("miri-short", miri::test_short_form),
    ("miri", miri::test),
    ("sanitizers", sanitizers::test),
    ("stress", stress),
    ("musl", musl),
    ("aarch64", aarch64),
    ("cranelift", cranelift),
    ("wasmtime", wasmtime),
    ("baremetal", baremetal::test),
    ("macos", macos::test),
    ("objects-short", objects::test_short_form),
    ("objects", objects::test),
    ("guests-short", guests::test_short_form),
    ("guests", guests::test),
];

/// Each takes as long as several other parts together, and has a run of its own: interpreting the core's tests, checking
/// each access of those of Linux, forking a hundred thousand times, building Wasmtime with its compiler, libraries and compilers of three architectures, and
/// eight kernels of their own.
const BY_NAME_ONLY: [&str; 7] =
    ["miri", "sanitizers", "stress", "wasmtime", "objects-short", "objects", "guests"];

/// Forks under each of four policies: 100,000 in all.
const FORKS: &str = "25000";

/// A workspace of its own, since no package of its build may ask for the feature `symbols`.
const RUN_OWN_NAMES: [&str; 3] = ["run", "--manifest-path", "tests/own-names/Cargo.toml"];
const OWN_NAMES: &str = "a Rust program with functions of the symbols' names links and runs";

/// Runs the part of that name, or all of them but those that are run by their names only.
pub fn run(name: Option<&str>) -> Result<ExitCode> {
    let is_wanted = |part: &str| name.map_or(!BY_NAME_ONLY.contains(&part), |name| name == part);
    let parts: Vec<_> = PARTS.into_iter().filter(|(part, _)| is_wanted(part)).collect();
    if parts.is_empty() {
        let names = PARTS.map(|(name, _)| name).join(", ");
        return Err(format!("there is no such part of the tests: the parts are {names}"));
    }
    let project = Project::find()?;
    let mut sum = Counter::default();
    let mut success = true;
    for (part, run) in &parts {
        println!("tests on {part}");
        let mut tally = Tally::default();
        if let Err(reason) = run(&project, &mut tally) {
            tally.fail(&reason);
        }
        println!("{}", tally.counter());
        success &= tally.counter().is_success() || parts.len() > 1 && tally.is_left_out();
        sum += tally.counter();
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
    tally.run(&mut project.cargo(&["test", "--workspace", "--no-fail-fast"]));

    tally.check("the header is up to date", || header::check(project));
    let dist = dist::build(project, &toolchain, &toolchain.host)?;
    check_libraries(&dist, tally);
    c_clients::check_header(project, &dist, tally);
    c_clients::check_guide(project, &dist, tally);
    c_clients::run_c_client(project, &dist, tally);
    cpp_clients::run_with_pkg_config(project, &dist, tally);
    cpp_clients::run_with_cmake(project, &dist, tally);
    listeners::test(project, &dist, tally);
    simple::test(project, &toolchain, tally);
    c_clients::check_replaced_symbols(project, &dist, tally);
    c_clients::check_unloading(project, &dist, tally);
    tally.check("the static library links into a Rust program with its own std", || {
        c_clients::check_rust_client(project, &toolchain, &dist, &toolchain.host, None)
    });

    let example = |name| project.cargo(&["run", "--release", "--example", name]);
    tally.check(OWN_NAMES, || prints(&mut project.cargo(&RUN_OWN_NAMES), "42 12 7"));
    tally.check("the example hello prints 42", || prints(&mut example("hello"), "42"));
    tally.check("the example run_object runs its sample", || {
        prints(&mut example("run_object"), SAMPLE_RESULT)
    });
    tally.check("the example heap_map draws its chunks at each step", || {
        let folder = project.built("heap_map");
        make_folder(&folder)?;
        prints(example("heap_map").arg("--").arg(&folder), "chunks at the end")?;
        let steps = read(&folder.join("heap_map.html"))?.matches("<svg").count();
        if steps == 60 { Ok(()) } else { Err(format!("the page has {steps} steps")) }
    });
    Ok(())
}

/// This machine, in the storm of forks and under the hostile calls of which all other parts have a short form.
fn stress(project: &Project, tally: &mut Tally) -> Result<()> {
    for (test, variable, number) in
        [("storm", "EXECMEM_STORM_FORKS", FORKS), ("hostile", "EXECMEM_HOSTILE_CALLS", "1000000")]
    {
        let package = ["test", "--release", "--package", "execmem-tests-linux", "--test", test];
        tally.run(project.cargo(&package).env(variable, number));
    }
    Ok(())
}

/// This machine with the other C library: musl, linked into each program.
fn musl(project: &Project, tally: &mut Tally) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let target = setup::musl_target(&toolchain);
    toolchain.require_target(&target)?;
    let compiler = setup::musl_compiler()?;
    let dist = linux_with_musl(project, &toolchain, &target, None, tally)?;
    c_clients::run_c_client_with_musl(project, &dist, compiler, tally);
    Ok(())
}

/// aarch64 Linux, in QEMU's user mode. It executes stale code where `ic ivau` is missing or on the
/// wrong one of two views, so it can judge dual-mapped rewrites; it never notices a missing
/// `dc cvau` or `isb`, and passes membarrier to the kernel below it, so it proves nothing there.
fn aarch64(project: &Project, tally: &mut Tally) -> Result<()> {
    let toolchain = Toolchain::find()?;
    toolchain.require_target(AARCH64_LINUX)?;
    // A program that loops on stale code would hang the run for ever.
    let runner = format!("timeout --kill-after=10 900 {}", setup::qemu_aarch64()?.display());
    // The core's tests beside its units drive it on plain memory: the host's run of them says it all.
    let mut units = cargo_with_musl(project, AARCH64_LINUX, Some(&runner), &["test", "--lib"]);
    tally.run(units.args(["--package", "execmem-core"]));
    linux_with_musl(project, &toolchain, AARCH64_LINUX, Some(&runner), tally)?;

    println!("with glibc:");
    toolchain.require_target(AARCH64_LINUX_GNU)?;
    let compiler = setup::aarch64_compiler()?;
    // Where Debian's cross compiler has its libraries.
    let runner = format!("{runner} -L /usr/aarch64-linux-gnu");
    let tests = ["test", "--package", "execmem-tests-linux", "--test", "conformance", "--test", "linux"];
    tally.run(&mut cargo_for(project, AARCH64_LINUX_GNU, compiler, Some(&runner), &tests));
    Ok(())
}

/// The module for Cranelift and the memory for cranelift-jit's, a workspace of its own: here under each policy, and on
/// aarch64 in QEMU's user mode, with what `aarch64` says of that.
fn cranelift(project: &Project, tally: &mut Tally) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let manifest = ["--features", "provider", "--manifest-path", "integrations/cranelift/Cargo.toml"];
    under_each_policy(project, &manifest, tally);
    let calc = ["--example", "calc", "--", "(x+1)*y", "4", "5"];
    tally.check("the example calc prints 25", || {
        prints(project.cargo(&["run"]).args(manifest).args(calc), "25")
    });

    toolchain.require_target(AARCH64_LINUX)?;
    let runner = format!("timeout --kill-after=10 900 {}", setup::qemu_aarch64()?.display());
    let cargo = |arguments: &[&str]| cargo_with_musl(project, AARCH64_LINUX, Some(&runner), arguments);
    println!("aarch64:");
    tally.run(cargo(&["test", "--tests"]).args(manifest));
    tally.check("the example calc prints 25 on aarch64", || {
        prints(cargo(&["run"]).args(manifest).args(calc), "25")
    });
    Ok(())
}

/// Wasmtime's modules in memory of the library, a workspace of its own. What a kernel makes of it, `baremetal` runs.
fn wasmtime(project: &Project, tally: &mut Tally) -> Result<()> {
    let manifest = ["--manifest-path", "integrations/wasmtime/Cargo.toml"];
    tally.run(project.cargo(&["test", "--doc"]).args(manifest));
    under_each_policy(project, &manifest, tally);
    Ok(())
}

/// The tests of a workspace of its own, under each policy that Linux has.
fn under_each_policy(project: &Project, manifest: &[&str], tally: &mut Tally) {
    for policy in ["auto", "rwx", "dual", "toggle"] {
        println!("policy {policy}:");
        tally.run(project.cargo(&["test", "--tests"]).args(manifest).env("EXECMEM_POLICY", policy));
    }
}

/// All that is about Linux, for a target with musl. `runner` is what runs its programs.
fn linux_with_musl(
    project: &Project,
    toolchain: &Toolchain,
    target: &str,
    runner: Option<&str>,
    tally: &mut Tally,
) -> Result<Dist> {
    let cargo = |arguments: &[&str]| cargo_with_musl(project, target, runner, arguments);
    let mut tests = cargo(&["test", "--no-fail-fast"]);
    for package in
        ["execmem", "execmem-os-linux", "execmem-tests-linux", "execmem-object", "execmem-example-port"]
    {
        tests.args(["--package", package]);
    }
    tally.run(&mut tests);

    let dist = dist::build(project, toolchain, target)?;
    check_libraries(&dist, tally);
    tally.check("the static library links into a Rust program with its own std", || {
        c_clients::check_rust_client(project, toolchain, &dist, target, runner)
    });
    tally.check(OWN_NAMES, || prints(&mut cargo(&RUN_OWN_NAMES), "42 12 7"));
    tally.check("the example hello prints 42", || {
        prints(&mut cargo(&["run", "--release", "--example", "hello"]), "42")
    });
    tally.check("the example run_object runs its sample", || {
        prints(&mut cargo(&["run", "--release", "--example", "run_object"]), SAMPLE_RESULT)
    });
    Ok(dist)
}

/// cargo for a target with musl, which needs no C compiler to link.
fn cargo_with_musl(project: &Project, target: &str, runner: Option<&str>, arguments: &[&str]) -> Command {
    cargo_for(project, target, "rust-lld", runner, arguments)
}

fn cargo_for(
    project: &Project,
    target: &str,
    linker: &str,
    runner: Option<&str>,
    arguments: &[&str],
) -> Command {
    let mut cargo = project.cargo(arguments);
    cargo.args(["--target", target]);
    let variable = |name| format!("CARGO_TARGET_{}_{name}", target.to_uppercase().replace('-', "_"));
    cargo.env(variable("LINKER"), linker);
    if let Some(runner) = runner {
        cargo.env(variable("RUNNER"), runner);
    }
    cargo
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
    tally.check("nothing in the static or the shared library can panic", || {
        symbols::check_panics(&dist.static_library())?;
        symbols::check_panics(&dist.shared_library())
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
