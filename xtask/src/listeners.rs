//! What a real debugger, a real profiler and the C++ runtime make of code that has a name and records.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use execmem_tests_counter::Counter;

use crate::c_clients::{WARNINGS, flags, succeed};
use crate::dist::Dist;
use crate::process::{capture, find_program};
use crate::project::{Project, make_folder};
use crate::result::Result;
use crate::setup;
use crate::tally::Tally;

/// What GDB is told before the code runs, and what it must then say, in this order.
const START: [(&str, &str); 5] = [
    ("set breakpoint pending on", ""),
    ("break named", ""),
    ("run", "in named ()"),
    // Code that was freed since has no name any more: it was the list's last and one in the middle.
    ("info address jitted_first", "No symbol \"jitted_first\""),
    ("info address jitted_second", "No symbol \"jitted_second\""),
];
/// A breakpoint in the code: the debugger can't write to memory with two views.
const STOP: [(&str, &str); 2] =
    [("break jitted_function", "Breakpoint 2 at"), ("continue", "in jitted_function ()")];
const END: [(&str, &str); 7] = [
    ("break reached", ""),
    ("continue", "in reached ()"),
    ("backtrace", "in jitted_function ()\n#2 "),
    ("break gone", ""),
    ("continue", "in gone ()"),
    ("info symbol *(long *)&block", "No symbol matches"),
    ("continue", "exited normally"),
];

/// Compiles the program with each library, and lets each listener have it.
pub fn test(project: &Project, dist: &Dist, tally: &mut Tally) {
    for (kind, flags) in flags(dist) {
        let program = match flags.and_then(|flags| compile(project, kind, &flags)) {
            Ok(program) => program,
            Err(reason) => return tally.fail(&reason),
        };
        tally
            .check(&format!("a C++ exception passes code that has records, with the {kind} library"), || {
                succeed(Command::new(&program).arg("thrown"))
            });
        for (policy, stop) in [("auto", &[][..]), ("toggle", &STOP)] {
            tally.check(&format!("GDB knows named code, policy {policy}, with the {kind} library"), || {
                debug(&program, policy, stop)
            });
        }
        profile(project, &program, kind, tally);
    }
}

fn compile(project: &Project, kind: &str, flags: &[String]) -> Result<PathBuf> {
    let program = project.built(&format!("clients/listeners-{kind}"));
    make_folder(&project.built("clients"))?;
    let mut compile = Command::new("c++");
    compile.args(["-std=c++17", "-O1"]).args(WARNINGS).arg("-o").arg(&program);
    capture(compile.arg(project.file("tests/c/listeners.cpp")).args(flags))?;
    Ok(program)
}

fn debug(program: &Path, policy: &str, stop: &[(&str, &str)]) -> Result<()> {
    setup::gdb()?;
    let session = || START.iter().chain(stop).chain(&END);
    // Its errors stand among its answers.
    let mut gdb = Command::new("sh");
    gdb.args(["-c", "exec gdb \"$@\" 2>&1", "sh", "-nx", "-batch", "-iex", "set debuginfod enabled off"]);
    gdb.args(session().flat_map(|(command, _)| ["-ex", command]));
    gdb.arg("--args").arg(program).arg("called");
    gdb.env("EXECMEM_NAMES", "gdb").env("EXECMEM_POLICY", policy);
    let said = capture(gdb.stdin(Stdio::null()))?;
    let mut rest = &*said;
    for (command, answer) in session() {
        let found =
            rest.find(answer).ok_or(format!("after `{command}` GDB did not say {answer:?}: {said}"))?;
        rest = &rest[found + answer.len()..];
    }
    Ok(())
}

/// Where `perf` is there and may count: what it says of a loop that takes a second.
fn profile(project: &Project, program: &Path, kind: &str, tally: &mut Tally) {
    let (data, injected) = (project.built("clients/perf.data"), project.built("clients/perf-jit.data"));
    let record = |program: &Path, argument: &str| {
        let mut perf = Command::new("perf");
        perf.args(["record", "-k", "1", "-e", "cpu-clock", "-o"]).arg(&data).arg(program).arg(argument);
        capture(perf.env("EXECMEM_NAMES", "perf,jitdump"))
    };
    if let Err(reason) =
        find_program("perf").ok_or("there is none".to_owned()).and_then(|_| record(Path::new("true"), ""))
    {
        tally.add(Counter { not_applicable: 1, ..Counter::default() });
        println!("left out `perf`: it can't record here ({})", reason.lines().next().unwrap_or_default());
        return;
    }
    tally.check(&format!("perf has the time of named code under its name, with the {kind} library"), || {
        let process = record(program, "spun")?;
        let process = process.trim();
        let files = [format!("/tmp/perf-{process}.map"), format!("/tmp/jit-{process}.dump")];
        let mut inject = Command::new("perf");
        inject.args(["inject", "--jit", "-i"]).arg(&data).arg("-o").arg(&injected);
        // It makes an object file of each piece of code.
        let is_injected = capture(inject.current_dir(project.built("clients")));
        let reports = [(&data, "[JIT]"), (&injected, "jitted-")].map(|(file, place)| {
            let mut report = Command::new("perf");
            (capture(report.args(["report", "--stdio", "-i"]).arg(file)), place)
        });
        files.iter().try_for_each(std::fs::remove_file).map_err(|error| format!("{files:?}: {error}"))?;
        is_injected?;
        for (said, place) in reports {
            let said = said?;
            let first = said.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
            if !first.is_some_and(|first| first.contains("jitted_loop") && first.contains(place)) {
                return Err(format!("the first line is {first:?}"));
            }
        }
        Ok(())
    });
}
