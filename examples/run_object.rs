//! Loads an object file as `cc -c -O2` makes it, and calls a function in it.
//!
//! ```text
//! cargo run --release --example run_object                            the bundled sample
//! cargo run --release --example run_object -- FILE.o FUNCTION ARGS…   one's own, with up to six integers
//! ```
//! The sample's source is `examples/objects/sample.c`, on macOS `sample.rs`; each says how it was compiled.

use execmem::Protection;
use execmem_object::{Error, Image, process_symbol};
use std::io::{self, Write};
use std::process::ExitCode;

#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
const SAMPLE: (&str, &[u8]) = ("sample-macos-x86_64.o", include_bytes!("objects/sample-macos-x86_64.o"));
#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
const SAMPLE: (&str, &[u8]) = ("sample-macos-aarch64.o", include_bytes!("objects/sample-macos-aarch64.o"));
#[cfg(all(not(target_os = "macos"), target_arch = "x86_64"))]
const SAMPLE: (&str, &[u8]) = ("sample-x86_64.o", include_bytes!("objects/sample-x86_64.o"));
#[cfg(all(not(target_os = "macos"), target_arch = "aarch64"))]
const SAMPLE: (&str, &[u8]) = ("sample-aarch64.o", include_bytes!("objects/sample-aarch64.o"));

const USAGE: &str = "usage: run_object [FILE.o FUNCTION [up to six integers]]";

/// What to run.
struct Job {
    name: String,
    file: Vec<u8>,
    function: String,
    arguments: Vec<i64>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    match job(arguments.get(1..).unwrap_or_default()).and_then(|job| run(&job)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            // If stderr can't be written to, the exit code still tells.
            let _ = writeln!(io::stderr(), "run_object: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line asks for.
fn job(words: &[String]) -> Result<Job, String> {
    let [path, function, arguments @ ..] = words else {
        return match words {
            [] => Ok(Job {
                name: SAMPLE.0.into(),
                file: SAMPLE.1.into(),
                function: "sample".into(),
                arguments: vec![10],
            }),
            _ => Err(USAGE.into()),
        };
    };
    if arguments.len() > 6 {
        return Err(USAGE.into());
    }
    let arguments = arguments.iter().map(|word| integer(word)).collect::<Result<_, _>>()?;
    let file = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    Ok(Job { name: path.clone(), file, function: function.clone(), arguments })
}

/// A decimal or `0x` hexadecimal number of 64 bits, signed or not.
fn integer(word: &str) -> Result<i64, String> {
    let (negative, digits) = match word.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    match magnitude {
        Ok(magnitude) if !negative => Ok(magnitude as i64),
        Ok(magnitude) if magnitude <= 1 << 63 => Ok((magnitude as i64).wrapping_neg()),
        _ => Err(format!("{word} is not a 64-bit integer")),
    }
}

fn run(job: &Job) -> Result<(), String> {
    let at_fault = |error: Error| format!("{}: {error}", job.name);
    let mut image = Image::load(&job.file, process_symbol).map_err(at_fault)?;
    let function = image.function(&job.function).map_err(at_fault)?;
    say(&format!("{}, in {} bytes:", job.name, image.size()))?;
    for segment in image.segments() {
        let letters = segment.protection.letters();
        say(&format!("  {:#x} {:>8} bytes {letters}", segment.address, segment.size))?;
    }

    // SAFETY: whoever names an object and a function on the command line vouches for them. The bundled sample takes
    // the one integer that it gets here.
    let result = unsafe {
        image.construct().map_err(at_fault)?;
        image.call(function, &job.arguments).map_err(at_fault)?
    };
    // C has a buffer of its own. What the function printed is to come before what is printed here.
    // SAFETY: fflush takes NULL, and means all streams by it.
    unsafe { libc::fflush(std::ptr::null_mut()) };
    let arguments: Vec<String> = job.arguments.iter().map(i64::to_string).collect();
    say(&format!("{}({}) = {}", job.function, arguments.join(", "), shown(result)))?;
    statistics()
}

/// The result as a `long`, and as an `int` if that differs: a function that returns an `int` leaves anything in the
/// upper half of the register.
fn shown(result: i64) -> String {
    match result as i32 {
        int if i64::from(int) == result => result.to_string(),
        int => format!("{result} (as an int: {int})"),
    }
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
