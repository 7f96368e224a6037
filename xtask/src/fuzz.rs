//! `cargo xtask test fuzz`: inputs that libFuzzer makes, guided by the code that they reach. `tests/fuzz` has the targets.

use std::process::Command;
use std::sync::Mutex;

use crate::process::shown;
use crate::project::{Project, make_folder};
use crate::result::Result;
use crate::setup;
use crate::tally::Tally;
use crate::toolchain::Toolchain;

/// What is fuzzed.
struct Target {
    name: &'static str,
    /// In bytes.
    longest: u32,
    /// The folder of the inputs that it begins with.
    corpus: &'static str,
    is_of_choices: bool,
}

/// One whose inputs are texts of a format, with words and numbers to be guessed.
const fn format(name: &'static str, longest: u32, corpus: &'static str) -> Target {
    Target { name, longest, corpus, is_of_choices: false }
}

const OPERATIONS: Target =
    Target { name: "operations", longest: 512, corpus: "tests/fuzz/corpus/operations", is_of_choices: true };

const TARGETS: [Target; 4] = [
    OPERATIONS,
    format("object", 16384, "integrations/object/samples"),
    format("archive", 1024, "tests/fuzz/corpus/archive"),
    format("mappings", 512, "tests/fuzz/corpus/mappings"),
];

/// What `cargo fuzz` builds with, but for the sanitizer: so any Rust will do, and no further tool.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cpanic=abort --cfg fuzzing";

/// What shows libFuzzer the numbers that are compared. Where each byte of an input is a choice there is none to guess, and
/// this costs more than half of the time: `operations` makes 2.9 times as many a second of the processor without it, and
/// without weighing inputs by how rare is what they reach.
const COMPARES: &str = "-Cllvm-args=-sanitizer-coverage-trace-compares";

/// Runs each target for a minute, or `EXECMEM_FUZZ_SECONDS`, as many at a time as there are processors.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    setup::c_compilers()?;
    let host = Toolchain::find()?.host;
    let formats: Vec<_> =
        TARGETS.iter().filter(|target| !target.is_of_choices).map(|target| target.name).collect();
    build(project, &host, &format!("{FLAGS} {COMPARES}"), "", &formats)?;
    build(project, &host, FLAGS, CHOICES, &[OPERATIONS.name])?;
    let seconds = std::env::var("EXECMEM_FUZZ_SECONDS").unwrap_or("60".to_owned());
    let targets = Mutex::new(TARGETS.into_iter());
    let outcomes = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let next = || targets.lock().ok()?.next();
                while let Some(target) = next() {
                    let outcome = fuzz(project, &host, &target, &seconds);
                    outcomes.lock().expect("no worker panics").push((target.name, outcome));
                }
            });
        }
    });
    for (name, outcome) in outcomes.into_inner().unwrap_or_default() {
        tally.check(&format!("no input breaks `{name}`"), || outcome);
    }
    Ok(())
}

/// The folder of what is built without [`COMPARES`].
const CHOICES: &str = "fuzz-choices/";

fn build(project: &Project, host: &str, flags: &str, folder: &str, names: &[&str]) -> Result<()> {
    // With a target of its own, what runs while it builds is not instrumented.
    let mut build =
        project.cargo(&["build", "--release", "--manifest-path", "tests/fuzz/Cargo.toml", "--target", host]);
    build.args(names.iter().flat_map(|name| ["--bin", *name]));
    build.env("RUSTFLAGS", flags).env("CARGO_TARGET_DIR", project.built(folder));
    match build.status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("`{}` failed", shown(&build))),
    }
}

fn fuzz(project: &Project, host: &str, target: &Target, seconds: &str) -> Result<()> {
    let Target { name, longest, corpus, is_of_choices } = target;
    let folder = if *is_of_choices { CHOICES } else { "" };
    let found = project.built(&format!("fuzz/{name}"));
    make_folder(&found)?;
    let mut command = Command::new(project.built(&format!("{folder}{host}/release/{name}")));
    command.args([format!("-max_total_time={seconds}"), format!("-max_len={longest}")]);
    command.args(["-print_final_stats=1", "-verbosity=0", "-timeout=20", "-len_control=0"]);
    if *is_of_choices {
        command.arg("-entropic=0");
    }
    if std::env::var_os("EXECMEM_FUZZ_SECONDS").is_none() {
        // A change is not refused for what another one did: the short form begins the same way each time.
        command.arg("-seed=1");
    }
    command.arg(format!("-artifact_prefix={}/", project.built("fuzz").display()));
    command.arg(found).arg(project.file(corpus));
    let output = command.output().map_err(|error| format!("{name} could not be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let figure = |figure: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(figure))?;
        line.trim().parse::<u64>().ok()
    };
    if !output.status.success() {
        return Err(format!("`{}` failed ({}):\n{said}", shown(&command), output.status));
    }
    let inputs = figure("stat::number_of_executed_units:").ok_or("libFuzzer counted no input")?;
    let operations = figure("stat::operations:").map(|number| format!(", {number} operations"));
    println!("{name}: {inputs} inputs{} in {seconds} s", operations.unwrap_or_default());
    if inputs < 1000 { Err(format!("only {inputs} inputs")) } else { Ok(()) }
}
