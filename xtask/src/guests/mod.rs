//! Guests: the programs of `tests/linux` on Debian's own kernels, on machines that QEMU emulates. Old kernels lack what
//! the library uses where it is there, and some have pages of 16 KiB or other architectures than this machine.
//!
//! QEMU's machines never run stale code, on riscv64 neither: what a missing flush does is not seen here.

mod kernels;
mod machines;
mod programs;
mod transcript;

use std::time::{Duration, Instant};

use crate::project::Project;
use crate::result::Result;
use crate::setup;
use crate::tally::Tally;
use crate::toolchain::Toolchain;
use crate::watchdog::{Limits, run};
use kernels::{KERNELS, Kernel};
use machines::Architecture;
pub use programs::SAMPLE_RESULT;
use programs::{Archive, Program};
use transcript::Transcript;

/// A test's own watchdog comes first. An emulated machine on a busy one is slow.
const LIMITS: Limits = Limits { quiet: Duration::from_secs(700), total: Duration::from_secs(3600) };

/// All kernels, with all programs.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    let kernels = chosen(|_| true)?;
    prepare(project, &kernels)?;
    test_on(project, &kernels, programs::all, tally)
}

/// A kernel of each architecture, with what takes a few minutes.
pub fn test_short_form(project: &Project, tally: &mut Tally) -> Result<()> {
    let kernels = chosen(|kernel| kernel.is_in_short_form)?;
    match prepare(project, &kernels) {
        Ok(()) => test_on(project, &kernels, programs::short_form, tally),
        Err(reason) => {
            tally.leave_out(&reason);
            Ok(())
        }
    }
}

/// What this machine may lack: tools, and a Debian to fetch kernels from.
fn prepare(project: &Project, kernels: &[&Kernel]) -> Result<()> {
    setup::guests(&Toolchain::find()?)?;
    kernels.iter().try_for_each(|kernel| kernel.image(project).map(drop))
}

/// The kernel of the name that `EXECMEM_GUESTS` is, or those whose names have it as a part; without that, the usual ones.
fn chosen(is_usual: impl Fn(&Kernel) -> bool) -> Result<Vec<&'static Kernel>> {
    let Ok(part) = std::env::var("EXECMEM_GUESTS") else {
        return Ok(KERNELS.iter().filter(|kernel| is_usual(kernel)).collect());
    };
    let named: Vec<_> = KERNELS.iter().filter(|kernel| kernel.name == part).collect();
    let alike: Vec<_> = KERNELS.iter().filter(|kernel| kernel.name.contains(&part)).collect();
    match (named.is_empty(), alike.is_empty()) {
        (false, _) => Ok(named),
        (true, false) => Ok(alike),
        (true, true) => Err(format!("no kernel has EXECMEM_GUESTS, `{part}`, in its name")),
    }
}

fn test_on(
    project: &Project,
    kernels: &[&Kernel],
    programs: fn(Architecture) -> Vec<Program>,
    tally: &mut Tally,
) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let mut table = String::new();
    for architecture in machines::ARCHITECTURES {
        let kernels: Vec<_> = kernels.iter().filter(|kernel| kernel.architecture == architecture).collect();
        if kernels.is_empty() {
            continue;
        }
        let programs = programs(architecture);
        let archive = Archive::build(project, &toolchain, architecture, &programs)?;
        for kernel in kernels {
            println!("a guest with the kernel {}:", kernel.name);
            table += &boot(project, kernel, &archive, &programs, tally)?;
        }
    }
    println!("{table}");
    if let Some(kernel) = kernels.first() {
        tally.check("a guest that panics is a failure, with its last words", || check_panic(project, kernel));
    }
    Ok(())
}

/// A kernel that gets no archive has no first process.
fn check_panic(project: &Project, kernel: &Kernel) -> Result<()> {
    let mut qemu = kernel.architecture.boot(kernel.processor, kernel.processors)?;
    let mut transcript = Transcript::default();
    run(qemu.arg("-kernel").arg(kernel.image(project)?), LIMITS, |line| transcript.read(line))?;
    let (_, failures) = transcript.close();
    match failures.iter().any(|failure| failure.contains("Kernel panic")) {
        true => Ok(()),
        false => Err(format!("all that was told: {}", failures.join("\n"))),
    }
}

/// Boots the kernel, and counts what it reports. The rows of a table: kernel, page, program, counts.
fn boot(
    project: &Project,
    kernel: &Kernel,
    archive: &Archive,
    programs: &[Program],
    tally: &mut Tally,
) -> Result<String> {
    let mut qemu = kernel.architecture.boot(kernel.processor, kernel.processors)?;
    qemu.arg("-kernel").arg(kernel.image(project)?).arg("-initrd").arg(&archive.file);
    let start = Instant::now();
    let expected = programs.iter().map(|program| (program.name, program.words)).collect();
    let mut transcript = Transcript::of(expected);
    let end = run(&mut qemu, LIMITS, |line| transcript.read(line));
    transcript.failures.extend(end.err());
    let seconds = start.elapsed().as_secs();
    let mut rows = format!("{}, {seconds} s: {}\n", kernel.name, transcript.system);
    for ((name, counted), time) in transcript.programs.iter().zip(&transcript.times) {
        let counted = counted.to_string().replace('\n', ", ");
        rows += &format!("    {name}, {} s: {counted}\n", time.as_secs());
    }
    let (counted, failures) = transcript.close();
    tally.add(counted);
    failures.iter().for_each(|failure| tally.fail(&format!("{}: {failure}", kernel.name)));
    Ok(rows)
}
