//! `cargo xtask test sanitizers`: the Linux adapter and all behind it under AddressSanitizer, ThreadSanitizer and
//! valgrind's memcheck. The tests are those of `tests/linux`, each in a process of its own, which a report ends as a
//! failure; `left_out.rs` says which are left out under which checker, and why.
//!
//! What none of them sees: an access by one view of memory and by the other are two addresses to them, so that of two
//! threads that use a view each they see no race. Machine code that a test writes isn't instrumented (valgrind follows
//! it). Memory of the library comes from the kernel in whole pages, and ends where those end: what reaches beyond it
//! inside of them, no checker knows. What they do see is what the library does with everything else: records, tables,
//! stacks, what callers pass, and what the kernel is told to write.

mod left_out;

use std::collections::BTreeMap;
use std::process::Command;

use execmem_tests_counter::Counter;

use crate::process::{shown, watch};
use crate::project::{Project, write};
use crate::result::Result;
use crate::setup;
use crate::tally::{self, Tally};
use crate::toolchain::Toolchain;
use left_out::{LeftOut, OF_ADDRESS, OF_THREAD, OF_VALGRIND, UNDER_VALGRIND};

/// In seconds, for one program: a busy machine is slow.
const PATIENCE: &str = "3600";

/// By how much fewer repetitions do, and that tests have more time: `tests/linux/src/system.rs`.
const SLOWNESS: &str = "10";

/// Of AddressSanitizer. Without fake stacks: a thread prefers a part of the heap by the address of its stack, and would
/// have another one in each function. Tests end without giving back what they had, which the kernel does: no leaks.
const ADDRESS_OPTIONS: &str = "detect_stack_use_after_return=0:detect_leaks=0";

/// Of ThreadSanitizer, besides the file of what it can't follow. Its shadow of the core's memory grows with what was
/// touched, which no limit of the system stops in time.
const THREAD_OPTIONS: &str = "hard_rss_limit_mb=8000";

/// What ThreadSanitizer takes for races, by a function that is in the report.
///
/// Memory that is copied after a fork is mapped, filled, and moved to where it belongs (`mremap`), which it doesn't
/// follow: it sees two threads that fill the same addresses. And before a fork what another thread is writing at that
/// moment is copied as it is, by intention (`copy_used` in `core/src/runtime/fork.rs`).
const NO_RACES: &str = "race:AddressSpace*>::copy::<\n";

/// The core's tests of threads, on plain memory, which hide nothing from ThreadSanitizer. The others have one thread.
const CORE_TESTS: [&str; 4] = ["threads", "code_heap_threads", "fork", "code_heap_fork"];

/// What checks the programs.
struct Checker<'a> {
    name: &'a str,
    /// Parts of the names of what is run, of each program; nothing is all.
    asked_for: [(&'a str, &'a [&'a str]); 2],
    left_out: &'a [LeftOut],
    /// cargo, told how to build and run programs.
    cargo: &'a dyn Fn() -> Command,
}

/// Runs the tests under each of the three.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    // It is a nightly with the source of the standard library.
    setup::miri()?;
    setup::valgrind()?;
    let host = Toolchain::find()?.host;
    let known = project.built("sanitizers/no-races.txt");
    write(&known, NO_RACES)?;
    let address = || {
        let mut cargo = with_sanitizer(project, &host, "address");
        cargo.env("ASAN_OPTIONS", ADDRESS_OPTIONS);
        cargo
    };
    let thread = || {
        let mut cargo = with_sanitizer(project, &host, "thread");
        // Else what the standard library does with atomics and locks goes unseen.
        cargo.arg("-Zbuild-std");
        cargo.env("TSAN_OPTIONS", format!("{THREAD_OPTIONS}:suppressions={}", known.display()));
        cargo
    };
    let valgrind = || {
        let mut cargo = limited(&["cargo", "test", "--target", &host]);
        let runner = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace('-', "_"));
        // Code is written where code was: it has to look each time, in files too, since memory with two views is one.
        cargo.env(runner, "valgrind --quiet --smc-check=all --error-exitcode=77");
        cargo.current_dir(project.file("")).env("CARGO_TARGET_DIR", project.built(""));
        cargo
    };
    let all: [(&str, &[&str]); 2] = [("conformance", &[]), ("linux", &[])];
    for checker in [
        Checker { name: "AddressSanitizer", asked_for: all, left_out: OF_ADDRESS, cargo: &address },
        Checker { name: "ThreadSanitizer", asked_for: all, left_out: OF_THREAD, cargo: &thread },
        Checker { name: "valgrind", asked_for: UNDER_VALGRIND, left_out: OF_VALGRIND, cargo: &valgrind },
    ] {
        println!("{}:", checker.name);
        for (program, names) in checker.asked_for {
            run(&checker, program, names, tally);
        }
    }
    println!("ThreadSanitizer, the core:");
    let mut core = thread();
    core.args(["--package", "execmem-core"]);
    core.args(CORE_TESTS.iter().flat_map(|test| ["--test", *test]));
    tally.run(&mut core);
    Ok(())
}

/// A program of `tests/linux`, without the tests that are left out. One that leaves out none is out of date.
fn run(checker: &Checker<'_>, program: &str, names: &[&str], tally: &mut Tally) {
    let mut command = (checker.cargo)();
    command.args(["--package", "execmem-tests-linux", "--test", program, "--"]).args(names);
    command.env("EXECMEM_TESTS_SLOWNESS", SLOWNESS);
    let left_out: Vec<_> = checker.left_out.iter().filter(|entry| entry.program == program).collect();
    for entry in &left_out {
        println!("left out: {:?}: {}", entry.tests, entry.reason);
        command.arg(format!("--skip={}", entry.tests));
    }
    let (mut reported, mut skipped) = (Counter::default(), BTreeMap::new());
    let outcome = watch(&mut command, |line| {
        reported += tally::counts(line).unwrap_or_default();
        skipped.extend(skips(line));
    });
    tally.add(reported);
    match outcome {
        Err(reason) => tally.fail(&reason),
        Ok(status) if !status.success() && reported.failed == 0 => {
            tally.fail(&format!("`{}` failed ({status})", shown(&command)));
        }
        Ok(_) if reported.passed == 0 => tally.fail(&format!("`{}` ran no test", shown(&command))),
        Ok(_) => {}
    }
    tally.check(&format!("what is left out of `{program}` under {} exists", checker.name), || {
        let unknown = |entry: &&&LeftOut| skipped.get(entry.tests).is_none_or(|count| *count == 0);
        let unknown: Vec<_> = left_out.iter().filter(unknown).map(|entry| entry.tests).collect();
        if unknown.is_empty() { Ok(()) } else { Err(format!("no test's name has {unknown:?}")) }
    });
}

/// `--skip=NAME left out 3`, as the programs of `tests/linux` say it at their end.
fn skips(line: &str) -> Option<(String, usize)> {
    let (name, count) = line.trim().strip_prefix("--skip=")?.rsplit_once(" left out ")?;
    Some((name.to_owned(), count.parse().ok()?))
}

/// cargo for programs with a sanitizer in them, in a folder of their own.
fn with_sanitizer(project: &Project, host: &str, sanitizer: &str) -> Command {
    let mut cargo = limited(&["rustup", "run", "nightly", "cargo", "test", "--target", host]);
    cargo.current_dir(project.file("")).env("RUSTFLAGS", format!("-Zsanitizer={sanitizer}"));
    cargo.env("CARGO_TARGET_DIR", project.built(&format!("sanitizers/{sanitizer}")));
    cargo
}

/// A program that would hang the run for ever if it hung.
fn limited(words: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", PATIENCE]).args(words);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_left_out_is_counted_by_the_programs_line() {
        assert_eq!(skips("--skip=limits: left out 12\n"), Some(("limits:".to_owned(), 12)));
        assert_eq!(skips("--skip=a left out b left out 0"), Some(("a left out b".to_owned(), 0)));
        assert_eq!(skips("12 filtered out"), None);
    }
}
