//! The core's tests under Miri, which interprets them and sees what no machine shows: undefined behaviour, and
//! races of threads.

use std::process::Command;
use std::sync::Mutex;

use crate::project::Project;
use crate::result::Result;
use crate::setup;
use crate::tally::Tally;

/// Threads beside each other, forks, and the unit tests.
const SHORT_FORM: [&str; 4] = ["threads", "fork", "code_heap_threads", "code_heap_fork"];

/// All tests of the core.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    run(project, test_programs(project)?, tally)
}

/// Those that Miri has most to say of.
pub fn test_short_form(project: &Project, tally: &mut Tally) -> Result<()> {
    let is_wanted =
        |program: &Option<String>| program.as_deref().is_none_or(|name| SHORT_FORM.contains(&name));
    let programs: Vec<_> = test_programs(project)?.into_iter().filter(is_wanted).collect();
    match programs.len() == 1 + SHORT_FORM.len() {
        true => run(project, programs, tally),
        false => Err("a test program of Miri's short form is missing".to_owned()),
    }
}

/// Each test program has a process of its own, as many at a time as there are processors.
fn run(project: &Project, programs: Vec<Option<String>>, tally: &mut Tally) -> Result<()> {
    setup::miri()?;
    let programs = Mutex::new(programs.into_iter());
    let tally = Mutex::new(tally);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let next = || programs.lock().ok()?.next();
                while let Some(program) = next() {
                    let mut own = Tally::default();
                    own.run(&mut cargo_miri_test(project, &program));
                    tally.lock().expect("no worker panics").add(own.counter());
                }
            });
        }
    });
    Ok(())
}

/// Reads files, which are out of Miri's reach.
const READER: &str = "contract";

/// The unit tests, and the name of each other test program.
fn test_programs(project: &Project) -> Result<Vec<Option<String>>> {
    let folder = project.file("core/tests");
    let unreadable = |error: std::io::Error| format!("{} can't be read: {error}", folder.display());
    let mut programs = vec![None];
    for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let is_program = file.extension().is_some_and(|extension| extension == "rs");
        if is_program && file.file_stem().is_none_or(|name| name != READER) {
            programs.push(file.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(programs)
}

fn cargo_miri_test(project: &Project, program: &Option<String>) -> Command {
    // A test that hangs would hang the run for ever.
    let mut cargo = Command::new("timeout");
    cargo.args(["--kill-after=10", "1200", "rustup", "run", "nightly", "cargo", "miri", "test"]);
    cargo.args(["--package", "execmem-core", "--no-fail-fast"]);
    cargo.current_dir(project.file("")).env("CARGO_TARGET_DIR", project.built(""));
    // An address is a number in the contract, so pointers are made of numbers everywhere.
    let mut flags = "-Zmiri-permissive-provenance".to_owned();
    match program {
        Some(name) => drop(cargo.args(["--test", name])),
        None => {
            cargo.arg("--lib");
            // The units are about parts of records that live for ever: their tests make them so.
            flags += " -Zmiri-ignore-leaks";
        }
    }
    cargo.env("MIRIFLAGS", flags);
    cargo
}
