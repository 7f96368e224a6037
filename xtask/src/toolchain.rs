//! The parts of the Rust toolchain that a build here needs and that rustup adds on request.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::capture;
use crate::result::Result;

/// The toolchain that runs this program, with what it can build for.
pub struct Toolchain {
    /// The target triple of this machine.
    pub host: String,
    sysroot: PathBuf,
}

impl Toolchain {
    /// Asks the compiler that cargo uses where it lives and what it runs on.
    pub fn find() -> Result<Toolchain> {
        let sysroot = capture(Command::new(rustc()).args(["--print", "sysroot"]))?;
        let version = capture(Command::new(rustc()).args(["--version", "--verbose"]))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or("rustc --version --verbose names no host")?.to_owned();
        Ok(Toolchain { host, sysroot: sysroot.trim().into() })
    }

    /// The compiler that cargo uses.
    pub fn rustc(&self) -> Command {
        Command::new(rustc())
    }

    /// The linker that comes with the compiler, working on ELF files of any architecture.
    pub fn elf_linker(&self) -> Command {
        let mut linker = Command::new(self.tools().join("rust-lld"));
        linker.args(["-flavor", "gnu"]);
        linker
    }

    /// The same linker, working on Mach-O files.
    pub fn mach_o_linker(&self) -> Command {
        let mut linker = Command::new(self.tools().join("rust-lld"));
        linker.args(["-flavor", "darwin"]);
        linker
    }

    /// `llvm-objcopy`, `llvm-ar` and their kind, from rustup's component.
    pub fn llvm_tool(&self, name: &str) -> Result<PathBuf> {
        let tool = self.tools().join(name);
        if !tool.exists() {
            add("component", "llvm-tools", &tool)?;
        }
        Ok(tool)
    }

    /// Makes sure that the standard library for `target` is there.
    pub fn require_target(&self, target: &str) -> Result<()> {
        let library = self.libraries(target).join("lib");
        if library.exists() { Ok(()) } else { add("target", target, &library) }
    }

    fn tools(&self) -> PathBuf {
        self.libraries(&self.host).join("bin")
    }

    fn libraries(&self, target: &str) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(target)
    }
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// `rustup target add ...` or `rustup component add ...`, which must make `expected` appear.
fn add(kind: &str, name: &str, expected: &Path) -> Result<()> {
    let ask = format!("please run `rustup {kind} add {name}`");
    capture(Command::new("rustup").args([kind, "add", name]))
        .map_err(|error| format!("the Rust {kind} {name} is missing: {ask}; {error}"))?;
    if !expected.exists() {
        return Err(format!(
            "rustup added the {kind} {name} to another toolchain than the one in use: {ask} for it"
        ));
    }
    println!("set-up: added the Rust {kind} {name}");
    Ok(())
}
