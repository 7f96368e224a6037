//! What a guest runs, and the archive that brings it there.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::machines::Architecture;
use crate::c_clients;
use crate::cpio;
use crate::dist;
use crate::process::capture;
use crate::project::{Project, write};
use crate::result::Result;
use crate::setup;
use crate::symbols;
use crate::toolchain::Toolchain;

/// What the bundled object of the example run_object computes.
pub const SAMPLE_RESULT: &str = "sample(10) = 2848";

/// A program with what it is told.
pub struct Program {
    /// A word to tell it by.
    pub name: &'static str,
    /// What it must print, if it counts nothing.
    pub words: Option<&'static str>,
    source: Source,
    /// Settings of the environment before it, arguments behind it.
    settings: &'static str,
    arguments: &'static str,
}

/// Where a program comes from, and its name there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// A test of `tests/linux`.
    Test(&'static str),
    /// An example.
    Example(&'static str),
    /// The C program of `tests/c`.
    Client,
}

impl Source {
    /// The file in the guest's folder `bin`.
    fn file(self) -> &'static str {
        match self {
            Self::Test(name) | Self::Example(name) => name,
            Self::Client => "client",
        }
    }
}

const fn test(name: &'static str) -> Program {
    // An emulated machine is slow, and slower where its processors outnumber the real ones.
    Program {
        name,
        words: None,
        source: Source::Test(name),
        settings: "EXECMEM_TESTS_SLOWNESS=30",
        arguments: "",
    }
}

const fn client(name: &'static str, settings: &'static str) -> Program {
    Program { name, words: None, source: Source::Client, settings, arguments: "" }
}

const fn example(name: &'static str, words: &'static str) -> Program {
    Program { name, words: Some(words), source: Source::Example(name), settings: "", arguments: "" }
}

/// What takes a few minutes.
pub fn short_form(architecture: Architecture) -> Vec<Program> {
    // What a filter or a setting refuses is the same everywhere: once is enough.
    let conformance = match architecture {
        Architecture::X86_64 => test("conformance"),
        Architecture::Aarch64 | Architecture::Riscv64 => {
            let arguments =
                "--skip=systemd's --skip=Docker's --skip=vm.memfd_noexec=1 --skip=~memfd_create --skip=EXEC:";
            Program { arguments, ..test("conformance") }
        }
    };
    // Not those that go through all operations again and again, or are about rare moments: each of them takes minutes.
    let arguments = "--skip=faults: --skip=stepping: --skip=operations: --skip=copies:";
    let linux = Program { arguments, ..test("linux") };
    let client = client("client", "EXECMEM_POLICY=auto");
    match architecture {
        // Four processors are emulated by one of ours: there they take as long as all else together.
        Architecture::Riscv64 => vec![conformance, client],
        _ => vec![conformance, linux, client],
    }
}

/// All that there is.
pub fn all(_: Architecture) -> Vec<Program> {
    // A signal after each instruction is more than an emulated machine can do in a test's time.
    let linux = Program { arguments: "--skip=stepping:", ..test("linux") };
    vec![
        test("conformance"),
        linux,
        test("fork"),
        test("hostile"),
        test("storm"),
        client("client-auto", "EXECMEM_POLICY=auto"),
        client("client-dual", "EXECMEM_POLICY=dual"),
        client("client-toggle", "EXECMEM_POLICY=toggle"),
        example("hello", "42"),
        example("run_object", SAMPLE_RESULT),
    ]
}

/// The programs for an architecture, as a kernel gets them.
pub struct Archive {
    pub file: PathBuf,
}

impl Archive {
    /// Builds the programs, and packs them.
    pub fn build(
        project: &Project,
        toolchain: &Toolchain,
        architecture: Architecture,
        programs: &[Program],
    ) -> Result<Archive> {
        let tests = build_tests(project, architecture)?;
        let init = build_init(project, architecture)?;
        let list: String = programs.iter().map(line).collect();
        let mut files = vec![("init".to_owned(), contents(&init)?)];
        for source in programs.iter().map(|program| program.source) {
            let path = format!("bin/{}", source.file());
            if files.iter().all(|(known, _)| *known != path) {
                let built = match source {
                    Source::Test(name) => find(&tests, name)?.to_owned(),
                    Source::Example(name) => build_example(project, architecture, name)?,
                    Source::Client => build_client(project, toolchain, architecture)?,
                };
                files.push((path, contents(&built)?));
            }
        }
        let policy = contents(&build_policy(project)?)?;
        let mut entries: Vec<(&str, u32, &[u8])> = vec![
            ("bin", cpio::DIRECTORY, b""),
            ("programs", cpio::REGULAR, list.as_bytes()),
            ("policy", cpio::REGULAR, &policy),
        ];
        entries.extend(files.iter().map(|(path, bytes)| (path.as_str(), cpio::PROGRAM, &bytes[..])));
        let file = project.built(&format!("guests/{}.cpio", architecture.debian()));
        write(&file, &cpio::archive(&entries))?;
        Ok(Archive { file })
    }
}

/// A line of the list that `tests/guests` reads.
fn line(program: &Program) -> String {
    let Program { name, source, settings, arguments, .. } = program;
    format!("{name} {settings} /bin/{} {arguments}\n", source.file())
}

fn build_tests(project: &Project, architecture: Architecture) -> Result<Vec<PathBuf>> {
    let arguments = ["test", "--no-run", "--release", "--quiet", "--message-format=json"];
    let mut cargo = architecture.cargo(project, &arguments)?;
    let told = capture(cargo.args(["--package", "execmem-tests-linux"]))?;
    Ok(executables(&told).map(PathBuf::from).collect())
}

fn build_init(project: &Project, architecture: Architecture) -> Result<PathBuf> {
    let mut cargo = architecture.cargo(project, &["build", "--release", "--quiet"])?;
    capture(cargo.args(["--package", "execmem-tests-guests"]))?;
    Ok(project.built(&format!("{}/release/execmem-tests-guests-init", architecture.target())))
}

/// The policy of SELinux, for the oldest of the kernels.
fn build_policy(project: &Project) -> Result<PathBuf> {
    /// Of Linux 4.13 (security/selinux/include/security.h): later ones read it too.
    const VERSION: &str = "31";
    let policy = project.built("guests/policy");
    let mut compiler = Command::new(setup::SELINUX_COMPILER);
    compiler.args(["-c", VERSION, "-f", "/dev/null", "-o"]).arg(&policy);
    capture(compiler.arg(project.file("tests/guests/selinux.cil")))?;
    Ok(policy)
}

fn build_example(project: &Project, architecture: Architecture, name: &str) -> Result<PathBuf> {
    let mut cargo = architecture.cargo(project, &["build", "--release", "--quiet"])?;
    capture(cargo.args(["--example", name]))?;
    Ok(project.built(&format!("{}/release/examples/{name}", architecture.target())))
}

fn build_client(project: &Project, toolchain: &Toolchain, architecture: Architecture) -> Result<PathBuf> {
    let (compiler, target) = architecture.c_compiler()?;
    let dist = dist::build(project, toolchain, target)?;
    // No other part builds the libraries for riscv64.
    symbols::check_panics(&dist.static_library())?;
    symbols::check_panics(&dist.shared_library())?;
    c_clients::compile_static(project, compiler, architecture.debian(), &dist)
}

/// The paths of programs in cargo's messages, one a line: `{..., "executable":"PATH", ...}`.
fn executables(messages: &str) -> impl Iterator<Item = &str> {
    messages.lines().filter_map(|line| {
        let (_, rest) = line.split_once("\"executable\":\"")?;
        Some(rest.split_once('"')?.0)
    })
}

/// The program of that name; cargo adds a hash.
fn find<'a>(files: &'a [PathBuf], name: &str) -> Result<&'a Path> {
    let is_it = |file: &&PathBuf| {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        stem.rsplit_once('-').is_some_and(|(stem, _hash)| stem == name)
    };
    files.iter().find(is_it).map(PathBuf::as_path).ok_or_else(|| format!("cargo built no program {name}"))
}

fn contents(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| format!("{} can't be read: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_found_in_what_cargo_says() {
        let said = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                    {\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/linux-0a1b\",\"fresh\":true}\n\
                    {\"reason\":\"build-finished\",\"success\":true}\n";
        let files: Vec<PathBuf> = executables(said).map(PathBuf::from).collect();
        assert_eq!(files, [PathBuf::from("/t/deps/linux-0a1b")]);
        assert_eq!(find(&files, "linux"), Ok(Path::new("/t/deps/linux-0a1b")));
        assert!(find(&files, "storm").is_err());
    }

    #[test]
    fn a_line_of_the_list_has_the_name_first() {
        assert_eq!(line(&client("c", "KEY=value")), "c KEY=value /bin/client \n");
        assert_eq!(line(&example("hello", "42")), "hello  /bin/hello \n");
    }
}
