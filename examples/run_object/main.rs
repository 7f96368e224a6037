//! Loads object files as `cc -c -O2` makes them, links them with each other, and calls a function in them.
//!
//! ```text
//! cargo run --release --example run_object                            the bundled sample
//! cargo run --release --example run_object -- FILES… FUNCTION ARGS…   one's own
//! cargo run --release --example run_object -- --help                  all that it can do
//! ```
//! The sample's source is `examples/objects/sample.c`, on macOS `sample.rs`; each says how it was compiled.

mod arguments;
mod crash;
mod library;
mod returns;
mod sample;

use arguments::{Command, Job};
use execmem::Protection;
use execmem_object::{Linker, Object};
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let outcome = arguments::parse(words).and_then(|command| match command {
        Command::Help => say(arguments::HELP.trim_end()),
        Command::Run(job) => run(&job),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            // If stderr can't be written to, the exit code still tells.
            let _ = writeln!(io::stderr(), "run_object: {sentence}");
            ExitCode::FAILURE
        }
    }
}

fn run(job: &Job) -> Result<(), String> {
    let mut files = job.read_files()?;
    for name in &job.libraries {
        files.extend(library::add(name)?);
    }
    let linker = files.iter().fold(Linker::new(), |linker, (name, bytes)| linker.file(name, bytes));
    let object = linker.entry(&job.function).link().map_err(|error| error.to_string())?;
    show(&object)?;

    crash::watch(&object, &job.function);
    // SAFETY: whoever names an object on the command line vouches for it. The bundled sample has no constructors that
    // do anything but count.
    unsafe { object.start() }.map_err(|error| error.to_string())?;
    // SAFETY: whoever names a function vouches for it. The bundled sample's takes the one integer that it gets here.
    let result = unsafe { job.returns.call(&object, &job.function, &job.arguments) };
    let result = result.map_err(|error| error.to_string())?;
    // C has a buffer of its own. What the function printed is to come before what is printed here.
    // SAFETY: fflush takes NULL, and means all streams by it.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    let arguments: Vec<String> = job.arguments.iter().map(i64::to_string).collect();
    say(&format!("{}({}){result}", job.function, arguments.join(", ")))?;
    statistics()
}

/// What was linked, and where it lies.
fn show(object: &Object) -> Result<(), String> {
    let bytes: usize = object.segments().iter().map(|segment| segment.size).sum();
    let (first, further) = object.files().split_at(object.files().len().min(4));
    let further = match further.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    say(&format!("{}{further}, in {bytes} bytes:", first.join(", ")))?;
    for segment in object.segments() {
        let letters = segment.protection.letters();
        let pads = if segment.protection.contains(Protection::BTI) { ", landing pads alone" } else { "" };
        say(&format!("  {:#x} {:>8} bytes {letters}{pads}", segment.address, segment.size))?;
    }
    Ok(())
}

fn statistics() -> Result<(), String> {
    let runtime = execmem::runtime();
    let statistics = runtime.statistics();
    let policy = runtime.policy().map_err(|error| error.to_string())?;
    say(&format!("memory of policy {}: {} bytes mapped", policy.name(), statistics.mapped_bytes))?;
    for protection in [Protection::RX, Protection::READ, Protection::RW, Protection::RWX] {
        let bytes = statistics.bytes_by_protection[usize::from(protection.bits())];
        say(&format!("  {:>8} bytes {}", bytes, protection.letters()))?;
    }
    runtime.dump();
    Ok(())
}

/// Prints a line. If its reader has gone away that is an error, and not a panic as with `println`.
fn say(line: &str) -> Result<(), String> {
    writeln!(io::stdout(), "{line}").map_err(|error| format!("standard output: {error}"))
}
