//! The bare machine: a kernel with the conformance suite and the examples, in QEMU's system mode.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use execmem_tests_counter::Counter;
use object::{Object, ObjectSection, SectionFlags};

use crate::c_clients;
use crate::cpio;
use crate::dist::{self, Dist};
use crate::process::capture;
use crate::project::{Project, make_folder, write};
use crate::result::Result;
use crate::setup;
use crate::symbols;
use crate::tally::{Tally, counts};
use crate::targets::BARE_MACHINE;
use crate::toolchain::Toolchain;
use crate::watchdog::{Limits, run};

/// A kernel, a processor, how many cores, and what is different in this run.
const RUNS: [(&str, u32, &str); 7] = [
    ("cortex-a53", 2, ""),
    ("cortex-a72", 2, ""),
    ("max", 2, ""),
    ("cortex-a72", 4, ""),
    ("cortex-a72", 2, "policy=toggle"),
    ("cortex-a72", 2, "tables=kernel"),
    ("cortex-a53", 1, ""),
];

/// What the first 26 symbols cost a kernel at most, in bytes: code, and memory beside page tables.
const MOST_TEXT: u64 = 34 * 1024;
const MOST_STATIC_MEMORY: u64 = 12 * 1024;

/// A test that takes long prints nothing; on a busy machine QEMU is slow.
const LIMITS: Limits = Limits { quiet: Duration::from_secs(240), total: Duration::from_secs(1200) };

/// Everything that is tested on the bare machine.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    tally.check("the first 26 symbols take at most 34 KiB of code and 12 KiB of memory", || {
        check_sizes(project)
    });
    let kernel = Kernel::build(project)?;
    for (processor, cores, words) in RUNS {
        println!("{processor}, {cores} cores {words}");
        kernel.test(processor, cores, words, tally);
    }
    tally.check("a kernel that hangs is stopped, and what it said last is shown", || kernel.check_watchdog());
    tally.check("the example prints what its function says", || {
        check_example(project, "baremetal", &["the function says 41"])
    });
    tally.check("the example runs WebAssembly with Wasmtime", || {
        let lines = [
            "the module takes one region: 1",
            "an empty module comes and goes",
            "fib(20) = 6765",
            "three times 14 is 42",
            "out of bounds is a trap",
            "allocations: 1",
            "done",
        ];
        check_example(project, "wasmtime-baremetal", &lines)
    });
    test_from_c(project, tally)
}

/// The library as C kernels get it, and one of them.
fn test_from_c(project: &Project, tally: &mut Tally) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let dist = dist::build(project, &toolchain, BARE_MACHINE)?;
    tally.check("the library for kernels defines the symbols of its headers, and asks for none", || {
        let listed = dist::bare_symbols(project)?.into_iter().collect();
        symbols::check_alone(&dist.static_library(), &listed)
    });
    tally.check("nothing that the library for kernels defines can panic", || {
        symbols::check_panics(&dist.static_library())
    });
    c_clients::check_header_named("execmem_baremetal.h", project, &dist, tally);
    tally.check("the example in C prints what its function says, and gives its memory back", || {
        check_c_example(project, &dist)
    });
    Ok(())
}

/// Builds and runs the example in C, as its first lines tell a reader to.
fn check_c_example(project: &Project, dist: &Dist) -> Result<()> {
    let kernel = project.built("clients/kernel");
    make_folder(&project.built("clients"))?;
    let mut compile = Command::new(setup::aarch64_compiler()?);
    compile.args(["-O2", "-ffreestanding", "-mstrict-align", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]);
    compile
        .args(["-nostdlib", "-static", "-Wl,-Ttext=0x40080000,--build-id=none"])
        .arg("-I")
        .arg(dist.include());
    compile.arg("-o").arg(&kernel).arg(project.file("examples/baremetal-c/kernel.c"));
    capture(compile.arg(dist.static_library()))?;
    let mut qemu = Command::new(setup::qemu_system_aarch64()?);
    qemu.args(["-M", "virt", "-cpu", "cortex-a72", "-m", "128M", "-nic", "none"]);
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel"]).arg(&kernel);
    let mut printed = String::new();
    let end = run(&mut qemu, LIMITS, |line| printed.push_str(line))?;
    let expected = ["policy dual", "allocations: 0", "the function says 41"];
    match expected.iter().find(|words| !printed.contains(**words)) {
        None if end.status.success() => Ok(()),
        None => Err(format!("it failed ({})", end.status)),
        Some(words) => Err(format!("it did not print {words:?}")),
    }
}

/// Rows of the benchmarks' report (`benches/src/rows.rs`): the library's size, and how many instructions the life of a
/// piece of code takes: counted, not timed.
pub fn bench(project: &Project) -> Result<String> {
    let mut rows = size_rows(project)?;
    let kernel = Kernel::build(project)?;
    let mut command = kernel.qemu("cortex-a72", 1, "bench");
    let end = run(command.args(["-icount", "shift=0"]), LIMITS, |line| {
        if line.starts_with("row\t") {
            rows.push_str(line);
        }
    })?;
    if end.status.success() { Ok(rows) } else { Err(format!("the benchmark failed ({})", end.status)) }
}

/// The kernel of the tests, with the archive of files that it wants.
struct Kernel {
    qemu: PathBuf,
    image: PathBuf,
    archive: PathBuf,
}

impl Kernel {
    fn build(project: &Project) -> Result<Kernel> {
        let toolchain = Toolchain::find()?;
        toolchain.require_target(BARE_MACHINE)?;
        let qemu = setup::qemu_system_aarch64()?;
        let program = build(project, &["--release", "--bin", "execmem-tests-baremetal"])?;
        // QEMU passes a device tree to raw images only.
        let image = program.with_extension("bin");
        let mut objcopy = Command::new(toolchain.llvm_tool("llvm-objcopy")?);
        capture(objcopy.args(["-O", "binary"]).arg(&program).arg(&image))?;
        let archive = image.with_extension("cpio");
        let entries: [(&str, u32, &[u8]); 3] = [
            ("etc", cpio::DIRECTORY, b""),
            ("etc/greeting", cpio::REGULAR, b"hello from the archive\n"),
            ("etc/fifo", cpio::FIFO, b""),
        ];
        write(&archive, &cpio::archive(&entries))?;
        Ok(Kernel { qemu, image, archive })
    }

    fn qemu(&self, processor: &str, cores: u32, words: &str) -> Command {
        let mut command = Command::new(&self.qemu);
        command.args(["-M", "virt,gic-version=3", "-m", "128M", "-nic", "none", "-cpu", processor]);
        command.args(["-smp", &cores.to_string(), "-append", words]);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio"]);
        command.args(["-semihosting-config", "enable=on,target=native"]);
        command.arg("-kernel").arg(&self.image).arg("-initrd").arg(&self.archive);
        command
    }

    /// Counts what the kernel reports. Its last words and QEMU's exit status must agree.
    fn test(&self, processor: &str, cores: u32, words: &str, tally: &mut Tally) {
        let mut reported = Counter::default();
        let command = &mut self.qemu(processor, cores, words);
        let end = run(command, LIMITS, |line| reported += counts(line).unwrap_or_default());
        tally.add(reported);
        match end {
            Err(reason) => tally.fail(&reason),
            Ok(end) if end.status.success() != reported.is_success() => {
                tally.fail(&format!("the kernel reported {reported}, but QEMU ended with {}", end.status));
            }
            Ok(_) => {}
        }
    }

    fn check_watchdog(&self) -> Result<()> {
        let limits = Limits { quiet: Duration::from_secs(10), ..LIMITS };
        match run(&mut self.qemu("cortex-a72", 1, "hang"), limits, |_| ()) {
            Err(reason) if reason.contains("this run hangs on purpose") => Ok(()),
            Err(reason) => Err(format!("it was stopped, but: {reason}")),
            Ok(end) => Err(format!("it was not stopped: {}", end.status)),
        }
    }
}

/// Builds a program of the package `tests/baremetal`.
fn build(project: &Project, arguments: &[&str]) -> Result<PathBuf> {
    let mut cargo = project.cargo(&["build", "--quiet", "--target", BARE_MACHINE]);
    cargo.arg("--manifest-path").arg(project.file("tests/baremetal/Cargo.toml")).args(arguments);
    capture(&mut cargo)?;
    let (profile, name) = match arguments {
        ["--no-default-features", "--profile", profile, "--bin", name] => (*profile, *name),
        [.., name] => ("release", *name),
        [] => return Err("no program was named".into()),
    };
    Ok(project.built(&format!("{BARE_MACHINE}/{profile}/{name}")))
}

/// Runs an example as its first lines tell a reader to, and looks for lines that it must print.
fn check_example(project: &Project, name: &str, expected: &[&str]) -> Result<()> {
    let cargo = |task: &str| {
        let mut cargo = project.cargo(&[task, "--release", "--quiet"]);
        cargo.current_dir(project.file(&format!("examples/{name}")));
        cargo
    };
    // Apart: a compiler may say nothing for longer than a machine that hangs.
    capture(&mut cargo("build"))?;
    let mut printed = String::new();
    let end = run(&mut cargo("run"), LIMITS, |line| printed.push_str(line))?;
    if !end.status.success() {
        return Err(format!("it failed ({})", end.status));
    }
    match expected.iter().find(|line| !printed.contains(**line)) {
        Some(line) => Err(format!("it did not print {line:?}")),
        None => Ok(()),
    }
}

/// What a program takes, in bytes.
struct Sizes {
    text: u64,
    constants: u64,
    /// Tables for unwinding, which a kernel that aborts can discard.
    unwinding: u64,
    /// Memory that is written.
    memory: u64,
}

impl fmt::Display for Sizes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sizes { text, constants, unwinding, memory } = self;
        write!(
            formatter,
            "{text} bytes of text, {constants} of constants, {memory} of static memory beside page "
        )?;
        write!(formatter, "tables ({unwinding} of unwind tables not counted)")
    }
}

/// What a kernel pays for the first 26 symbols with the adapter, and for everything.
fn size_rows(project: &Project) -> Result<String> {
    let mut rows = String::new();
    for (program, what) in [("size", "the first 26 symbols"), ("size_all", "all symbols")] {
        let Sizes { text, constants, memory, .. } = measure(project, program)?;
        let parts = [("code", text), ("constants", constants), ("static memory beside page tables", memory)];
        for (part, bytes) in parts {
            rows += &format!(
                "row\tA kernel on aarch64\t{what}: {part}\t0\t\tBytes\t\tOurs\texecmem\t{bytes}\t1\n"
            );
        }
    }
    Ok(rows)
}

/// Fails if the first 26 symbols with the adapter have become larger than is promised.
fn check_sizes(project: &Project) -> Result<()> {
    let sizes = measure(project, "size")?;
    match sizes.text <= MOST_TEXT && sizes.memory <= MOST_STATIC_MEMORY {
        true => Ok(()),
        false => Err(format!("they are {sizes}; at most {MOST_TEXT} and {MOST_STATIC_MEMORY} are promised")),
    }
}

/// Measures a program that is linked with nothing but the library, optimised for size.
fn measure(project: &Project, program: &str) -> Result<Sizes> {
    sizes(&build(project, &["--no-default-features", "--profile", "size", "--bin", program])?)
}

fn sizes(program: &Path) -> Result<Sizes> {
    let unreadable = |error: &dyn fmt::Display| format!("{}: {error}", program.display());
    let data = std::fs::read(program).map_err(|error| unreadable(&error))?;
    let file = object::File::parse(&*data).map_err(|error| unreadable(&error))?;
    let mut sizes = Sizes { text: 0, constants: 0, unwinding: 0, memory: 0 };
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags, .. } = section.flags() else { continue };
        let has = |flag: object::elf::SectionFlags| sh_flags.0 & flag.0 != 0;
        let is_unwinding = section.name().is_ok_and(|name| name.starts_with(".eh_frame"));
        let counter = if has(object::elf::SHF_EXECINSTR) {
            &mut sizes.text
        } else if has(object::elf::SHF_WRITE) {
            &mut sizes.memory
        } else if is_unwinding {
            &mut sizes.unwinding
        } else if has(object::elf::SHF_ALLOC) {
            &mut sizes.constants
        } else {
            continue;
        };
        *counter += section.size();
    }
    Ok(sizes)
}
