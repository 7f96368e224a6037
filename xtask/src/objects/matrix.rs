//! A program in each language, compiled with every usual option, and run by run_object.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::machines::Machine;
use crate::process::{capture, find_program};
use crate::project::{Project, make_folder};
use crate::result::Result;

/// What each compiler gives with each options.
pub struct Table {
    /// The compilers, with their versions.
    pub compilers: Vec<String>,
    /// By language and options: what each compiler's object does.
    pub rows: Vec<(String, Vec<String>)>,
}

/// The options for C. Some are an architecture's own.
fn options(machine: &Machine) -> Vec<&'static str> {
    let mut all = vec![
        "-O0",
        "-O1",
        "-O2",
        "-O3",
        "-Os",
        "-O2 -g",
        "-O2 -fPIC",
        "-O2 -fpic",
        "-O2 -fPIE",
        "-O2 -fno-pic",
        "-O2 -fPIC -fno-plt",
        "-O2 -fcommon",
        "-O2 -ffunction-sections -fdata-sections",
        "-O2 -fstack-protector-all",
        "-O2 -flto",
    ];
    all.extend(match machine.name {
        "x86_64" => &[
            "-O2 -fPIC -mcmodel=medium",
            "-O2 -fPIC -mcmodel=large",
            "-O2 -fno-pic -mcmodel=medium",
            "-O2 -fno-pic -mcmodel=large",
            "-O2 -fPIC -fcf-protection=full",
            "-O2 -fPIC -march=x86-64-v3",
        ][..],
        "aarch64" => &[
            "-O2 -fno-pic -mcmodel=tiny",
            "-O2 -fno-pic -mcmodel=large",
            "-O2 -fPIC -mbranch-protection=standard",
            "-O2 -fPIC -march=armv8.2-a",
        ],
        _ => &[
            "-O2 -fno-pic -mcmodel=medany",
            "-O2 -fno-pic -mcmodel=medlow",
            "-O2 -fPIC -mno-relax",
            "-O2 -fPIC -march=rv64imafd",
        ],
    });
    all
}

const CPP_OPTIONS: [&str; 5] = ["-O0", "-O2", "-O3 -fPIC", "-O2 -fno-pic", "-O2 -ffunction-sections"];

const FORTRAN_OPTIONS: [&str; 3] = ["-O0", "-O2", "-O3 -fPIC"];

const RUST_OPTIONS: [&str; 6] = [
    "--emit obj -O",
    "--emit obj -C opt-level=1",
    "--emit obj -O -C relocation-model=static",
    "--emit obj -O -C code-model=large",
    "--crate-type staticlib -O (no_std)",
    "--crate-type staticlib -O (std)",
];

/// Compiles and runs all.
pub fn run(project: &Project, machine: &Machine, program: &Path) -> Result<Table> {
    let work = project.built(&format!("objects/matrix/{}", machine.name));
    make_folder(&work)?;
    let run = Run { machine, program, sources: project.file("integrations/object/matrix"), work };
    let mut table = Table { compilers: versions(machine)?, rows: Vec::new() };
    for options in options(machine) {
        let results = ["gcc", "clang"].map(|compiler| run.one(compiler, "c", options, &[]));
        table.rows.push((format!("C `{options}`"), results.to_vec()));
    }
    let own = if machine.name == "aarch64" { &["-O2 -fPIC -mbranch-protection=standard"][..] } else { &[] };
    for options in CPP_OPTIONS.iter().chain(own) {
        let results = ["g++", "clang++"].map(|compiler| run.one(compiler, "cpp", options, &["stdc++"]));
        table.rows.push((format!("C++ `{options}`"), results.to_vec()));
    }
    // Fortran's compiler is there for this machine alone.
    if find_program(&machine.tool("gfortran")).is_some() {
        for options in FORTRAN_OPTIONS {
            let result = run.one("gfortran", "f90", options, &["gfortran"]);
            table.rows.push((format!("Fortran `{options}`"), vec![result, "–".into()]));
        }
    }
    for options in RUST_OPTIONS {
        let result = run.one("rustc", "rs", options, &[]);
        table.rows.push((format!("Rust `{options}`"), vec!["–".into(), result]));
    }
    Ok(table)
}

/// The compilers' versions.
fn versions(machine: &Machine) -> Result<Vec<String>> {
    let first = |compiler: &str| {
        let printed = capture(machine.compiler(compiler).arg("--version"))?;
        let line = printed.lines().next().unwrap_or_default();
        let is_version = |word: &&str| {
            word.starts_with(|first: char| first.is_ascii_digit())
                && word.chars().all(|letter| letter.is_ascii_digit() || letter == '.')
        };
        Ok(format!("{compiler} {}", line.split(' ').find(is_version).unwrap_or("?")))
    };
    let has_fortran = find_program(&machine.tool("gfortran")).is_some();
    let compilers = ["gcc", "clang", "gfortran", "rustc"].into_iter();
    compilers.filter(|compiler| has_fortran || *compiler != "gfortran").map(first).collect()
}

struct Run<'a> {
    machine: &'a Machine,
    program: &'a Path,
    sources: PathBuf,
    work: PathBuf,
}

impl Run<'_> {
    /// What becomes of one object: `works`, or a reason.
    fn one(&self, compiler: &str, language: &str, options: &str, libraries: &[&str]) -> String {
        let output = self.work.join(if options.contains("staticlib") { "libprogram.a" } else { "program.o" });
        let mut compile = self.machine.compiler(compiler);
        self.add_options(&mut compile, language, options);
        compile.arg(self.sources.join("program").with_extension(language)).arg("-o").arg(&output);
        // The compiler itself may not have this.
        if capture(&mut compile).is_err() {
            return "not compiled".into();
        }
        let mut command = self.machine.program(self.program);
        for library in libraries {
            command.args(["-l", library]);
        }
        match capture(command.arg(&output).arg("run")) {
            Ok(printed) if printed.lines().any(|line| line == "run() = 42") => "works".into(),
            Ok(_) => "WRONG RESULT".into(),
            Err(said) => reason(&said),
        }
    }

    fn add_options(&self, compile: &mut Command, language: &str, options: &str) {
        let words = options.split(' ').filter(|word| !word.starts_with('('));
        compile.args(words);
        match language {
            "rs" => {
                compile.args(["--edition", "2024"]);
                match options {
                    _ if options.ends_with("(std)") => compile.args(["--cfg", "feature=\"std\""]),
                    _ if options.ends_with("(no_std)") => {
                        compile.args(["-C", "panic=abort", "--cfg", "feature=\"core\""])
                    }
                    _ => compile.args(["-C", "panic=abort", "--crate-type", "lib"]),
                };
            }
            "f90" => {
                compile.arg("-c").arg("-J").arg(&self.work);
            }
            _ => {
                compile.arg("-c");
            }
        }
    }
}

/// Why an object is refused, in a few words without the numbers that differ from run to run.
fn reason(said: &str) -> String {
    let relocation = said.split(' ').find(|word| word.starts_with("R_")).unwrap_or_default();
    for (part, words) in [
        ("is out of range of the relocation", "refused: out of reach"),
        ("intermediate code", "refused: intermediate code"),
        ("is thread-local storage", "refused: thread-local storage"),
        ("executable stack", "refused: executable stack"),
    ] {
        if said.contains(part) {
            return format!("{words} {relocation}").trim_end().into();
        }
    }
    let sentence = said.lines().find_map(|line| line.split_once("run_object: "));
    format!("FAILS: {}", sentence.map_or(said, |(_, sentence)| sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_words_that_stay_the_same() {
        let said = "`x` failed (1): run_object: a.o: f is out of range of the relocation R_X86_64_32 at .text+0x1; ...";
        assert_eq!(reason(said), "refused: out of reach R_X86_64_32");
        assert_eq!(reason("run_object: x is thread-local storage, which"), "refused: thread-local storage");
        assert_eq!(reason("run_object: f crashed: at 0x0"), "FAILS: f crashed: at 0x0");
    }
}
