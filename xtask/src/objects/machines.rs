//! The machines: this one, and those that QEMU's user mode runs programs for.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::capture;
use crate::project::Project;
use crate::result::Result;
use crate::setup;
use crate::targets::{AARCH64_LINUX_GNU, RISCV64_LINUX};
use crate::toolchain::Toolchain;

/// A machine that objects are made for and run on.
pub struct Machine {
    /// Its architecture, as Rust calls it.
    pub name: &'static str,
    /// As Debian calls it.
    pub debian: &'static str,
    /// The release of Debian whose libraries are taken: one that has them for this architecture.
    pub suite: &'static str,
    /// The Rust compiler's name for it.
    pub target: String,
    /// Before the names of GNU's tools: `aarch64-linux-gnu-`, or nothing for this machine's own.
    prefix: &'static str,
    /// What runs its programs; nothing here.
    runner: Vec<String>,
}

/// This machine.
pub fn host() -> Result<Machine> {
    setup::c_compilers()?;
    let target = Toolchain::find()?.host;
    let (name, debian) = match std::env::consts::ARCH {
        "x86_64" => ("x86_64", "amd64"),
        "aarch64" => ("aarch64", "arm64"),
        "riscv64" => ("riscv64", "riscv64"),
        other => return Err(format!("there are no libraries for {other}")),
    };
    let suite = if name == "riscv64" { "trixie" } else { "bookworm" };
    Ok(Machine { name, debian, suite, target, prefix: "", runner: Vec::new() })
}

/// This machine, and the others.
pub fn all() -> Result<Vec<Machine>> {
    let host = host()?;
    let mut machines = Vec::new();
    if host.name != "aarch64" {
        setup::aarch64_compiler()?;
        setup::compiler("aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu")?;
        machines.push(Machine {
            name: "aarch64",
            debian: "arm64",
            suite: "bookworm",
            target: AARCH64_LINUX_GNU.into(),
            prefix: "aarch64-linux-gnu-",
            runner: runner(&setup::qemu_aarch64()?, "aarch64-linux-gnu"),
        });
    }
    if host.name != "riscv64" {
        setup::riscv64_compiler()?;
        setup::compiler("riscv64-linux-gnu-g++", "g++-riscv64-linux-gnu")?;
        machines.push(Machine {
            name: "riscv64",
            debian: "riscv64",
            suite: "trixie",
            target: RISCV64_LINUX.into(),
            prefix: "riscv64-linux-gnu-",
            runner: runner(&setup::qemu_riscv64()?, "riscv64-linux-gnu"),
        });
    }
    machines.insert(0, host);
    Ok(machines)
}

fn runner(qemu: &Path, libraries: &str) -> Vec<String> {
    vec![qemu.display().to_string(), "-L".into(), format!("/usr/{libraries}")]
}

impl Machine {
    /// Builds run_object for it.
    pub fn build(&self, project: &Project) -> Result<PathBuf> {
        Toolchain::find()?.require_target(&self.target)?;
        let mut cargo =
            project.cargo(&["build", "--release", "--example", "run_object", "--target", &self.target]);
        if !self.prefix.is_empty() {
            let variable = self.target.to_uppercase().replace('-', "_");
            cargo.env(format!("CARGO_TARGET_{variable}_LINKER"), self.tool("gcc"));
        }
        capture(&mut cargo)?;
        Ok(project.built(&format!("{}/release/examples/run_object", self.target)))
    }

    /// A tool of GNU's for this machine: `gcc`, `g++`.
    pub fn tool(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A compiler: `gcc`, `g++` or `gfortran`, `clang` or `clang++`, or `rustc`.
    pub fn compiler(&self, name: &str) -> Command {
        match name {
            "clang" | "clang++" => {
                let mut command = Command::new(name);
                command.arg(format!("--target={}-linux-gnu", self.name));
                command
            }
            "rustc" => {
                let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
                command.args(["--target", &self.target]);
                command
            }
            _ => Command::new(self.tool(name)),
        }
    }

    /// A program of this machine, to be run. It is ended after a minute.
    pub fn program(&self, path: &Path) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "60"]).args(&self.runner).arg(path);
        command
    }
}
