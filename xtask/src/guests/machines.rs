//! The machines that guests run on, as QEMU makes them, and what programs for them are built with.

use std::path::PathBuf;
use std::process::Command;

use crate::project::Project;
use crate::result::Result;
use crate::setup;
use crate::targets::{AARCH64_LINUX, AARCH64_LINUX_GNU, RISCV64_LINUX, X86_64_LINUX};

/// An architecture that Debian has kernels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Debian's amd64.
    X86_64,
    /// Debian's arm64.
    Aarch64,
    /// Debian's riscv64.
    Riscv64,
}

/// Each of them.
pub const ARCHITECTURES: [Architecture; 3] =
    [Architecture::X86_64, Architecture::Aarch64, Architecture::Riscv64];

impl Architecture {
    /// Debian's name for it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
            Self::Riscv64 => "riscv64",
        }
    }

    /// What the programs are built for. All are static: a guest has no libraries.
    pub fn target(self) -> &'static str {
        match self {
            Self::X86_64 => X86_64_LINUX,
            Self::Aarch64 => AARCH64_LINUX,
            Self::Riscv64 => RISCV64_LINUX,
        }
    }

    /// The C compiler for it, and what Rust calls its target.
    pub fn c_compiler(self) -> Result<(&'static str, &'static str)> {
        Ok(match self {
            Self::X86_64 => (setup::musl_compiler()?, X86_64_LINUX),
            // Debian has no cross compiler for musl, so that this one program is of glibc.
            Self::Aarch64 => (setup::aarch64_compiler()?, AARCH64_LINUX_GNU),
            Self::Riscv64 => (setup::riscv64_compiler()?, RISCV64_LINUX),
        })
    }

    /// cargo, building for it.
    pub fn cargo(self, project: &Project, arguments: &[&str]) -> Result<Command> {
        let mut cargo = project.cargo(arguments);
        cargo.args(["--target", self.target()]);
        let variable =
            |name| format!("CARGO_TARGET_{}_{name}", self.target().to_uppercase().replace('-', "_"));
        match self {
            // glibc's static part needs what its own compiler brings along.
            Self::Riscv64 => cargo
                .env(variable("LINKER"), setup::riscv64_compiler()?)
                .env(variable("RUSTFLAGS"), "-C target-feature=+crt-static"),
            Self::X86_64 | Self::Aarch64 => cargo.env(variable("LINKER"), "rust-lld"),
        };
        Ok(cargo)
    }

    fn qemu(self) -> Result<PathBuf> {
        match self {
            Self::X86_64 => setup::qemu_system_x86_64(),
            Self::Aarch64 => setup::qemu_system_aarch64(),
            Self::Riscv64 => setup::qemu_system_riscv64(),
        }
    }

    /// The machine, and the name that Linux has for its serial port.
    fn machine(self) -> (&'static str, &'static str) {
        match self {
            Self::X86_64 => ("q35", "ttyS0"),
            Self::Aarch64 => ("virt", "ttyAMA0"),
            Self::Riscv64 => ("virt", "ttyS0"),
        }
    }

    /// QEMU as a machine with this processor, so many of them. It emulates all: a machine that runs the tests need not
    /// have virtualisation. Its first serial port is our standard output, and a kernel that panics ends it.
    pub fn boot(self, processor: &str, processors: u32) -> Result<Command> {
        let (machine, console) = self.machine();
        let mut qemu = Command::new(self.qemu()?);
        qemu.args(["-M", machine, "-accel", "tcg", "-cpu", processor, "-smp", &processors.to_string()]);
        qemu.args(["-m", "2G", "-nic", "none", "-display", "none", "-monitor", "none", "-serial", "stdio"]);
        // A word of the kernel in the middle of a line would spoil it; a panic is told at any level.
        let settings = format!("console={console} quiet loglevel=1 panic=-1 security=selinux");
        qemu.args(["-no-reboot", "-append", &settings]);
        Ok(qemu)
    }
}
