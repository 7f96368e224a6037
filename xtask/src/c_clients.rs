//! Programs that use the libraries of a `dist` folder as their users would.

use std::path::{Path, PathBuf};
use std::process::Command;

use execmem_core::abi::SYMBOL_NAMES;

use crate::dist::Dist;
use crate::process::{capture, watch};
use crate::project::{Project, make_folder, read, write};
use crate::result::Result;
use crate::tally::Tally;
use crate::toolchain::Toolchain;

/// The C program that goes through the contract.
const SOURCES: [&str; 6] = ["client", "mapping", "executable", "further", "heap", "calling"];

/// It goes through it once for each policy that Linux has.
pub(crate) const POLICIES: [&str; 3] = ["auto", "dual", "toggle"];

pub(crate) const WARNINGS: [&str; 6] =
    ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"];

/// The header alone, in the two languages that it promises.
pub fn check_header(project: &Project, dist: &Dist, tally: &mut Tally) {
    check_header_named("execmem.h", project, dist, tally);
}

/// The same for another header.
pub fn check_header_named(header: &str, project: &Project, dist: &Dist, tally: &mut Tally) {
    for (name, compiler, language, standard) in
        [("C11", "cc", "c", "-std=c11"), ("C++17", "c++", "c++", "-std=c++17")]
    {
        tally.check(&format!("{header} is {name} without a warning"), || {
            let source = project.built(&format!("clients/header.{language}"));
            // Twice, because its guard is part of what is promised.
            let used = match header {
                "execmem.h" => "RtMapping none(void);\nRtMapping none(void) { return RtMapping_NONE; }\n",
                _ => "int unused;\n",
            };
            let include = format!("#include <{header}>\n");
            write(&source, &format!("{include}{include}{used}"))?;
            let mut compile = Command::new(compiler);
            compile.args([standard, "-fsyntax-only", "-x", language]).args(WARNINGS);
            capture(compile.arg("-I").arg(dist.include()).arg(source)).map(drop)
        });
    }
}

/// The C code of the guide, each block on its own.
pub fn check_guide(project: &Project, dist: &Dist, tally: &mut Tally) {
    tally.check("the C code of the guide compiles without a warning", || {
        let folder = project.file("docs/guide");
        let pages = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut blocks = 0;
        for page in pages.flatten() {
            let text = read(&page.path())?;
            for block in text.split("\n```c\n").skip(1).filter_map(|rest| rest.split("\n```").next()) {
                let source = project.built("clients/page.c");
                write(&source, &format!("{block}\n"))?;
                let mut compile = Command::new("cc");
                compile.args(["-std=c11", "-fsyntax-only"]).args(WARNINGS);
                capture(compile.arg("-I").arg(dist.include()).arg(source))
                    .map_err(|reason| format!("{}: {reason}", page.path().display()))?;
                blocks += 1;
            }
        }
        if blocks == 0 { Err("it has no C code".to_owned()) } else { Ok(()) }
    });
}

/// How a program is linked with one of the libraries.
pub(crate) fn flags(dist: &Dist) -> [(&'static str, Result<Vec<String>>); 2] {
    let shared = || {
        let mut flags = pkg_config(dist, &["--cflags", "--libs"])?;
        flags.push(format!("-Wl,-rpath,{}", dist.lib().display()));
        Ok(flags)
    };
    let archive = || {
        let mut flags = pkg_config(dist, &["--cflags"])?;
        flags.push(dist.static_library().display().to_string());
        Ok(flags)
    };
    [("static", archive()), ("shared", shared())]
}

/// The C program with the static and with the shared library.
pub fn run_c_client(project: &Project, dist: &Dist, tally: &mut Tally) {
    for (kind, flags) in flags(dist) {
        run_under_each_policy(project, "cc", kind, flags, tally);
    }
}

/// The C program as one static program with musl.
pub fn run_c_client_with_musl(project: &Project, dist: &Dist, compiler: &str, tally: &mut Tally) {
    run_under_each_policy(project, compiler, "static musl", Ok(static_flags(dist)), tally);
}

/// The C program as one static program. `kind` is a word to tell it by.
pub fn compile_static(project: &Project, compiler: &str, kind: &str, dist: &Dist) -> Result<PathBuf> {
    compile_client(project, compiler, &format!("static {kind}"), &static_flags(dist))
}

fn static_flags(dist: &Dist) -> Vec<String> {
    let include = format!("-I{}", dist.include().display());
    vec!["-static".to_owned(), include, dist.static_library().display().to_string()]
}

fn run_under_each_policy(
    project: &Project,
    compiler: &str,
    kind: &str,
    flags: Result<Vec<String>>,
    tally: &mut Tally,
) {
    let program = match flags.and_then(|flags| compile_client(project, compiler, kind, &flags)) {
        Ok(program) => program,
        Err(reason) => return tally.fail(&reason),
    };
    for policy in POLICIES {
        println!("the C client with the {kind} library, policy {policy}:");
        tally.run(Command::new(&program).env("EXECMEM_POLICY", policy));
    }
}

fn compile_client(project: &Project, compiler: &str, kind: &str, flags: &[String]) -> Result<PathBuf> {
    let program = project.built(&format!("clients/client-{}", kind.replace(' ', "-")));
    make_folder(&project.built("clients"))?;
    let mut compile = Command::new(compiler);
    compile.args(["-std=c11", "-O1", "-pthread"]).args(WARNINGS).arg("-o").arg(&program);
    compile.args(SOURCES.map(|name| project.file(&format!("tests/c/{name}.c"))));
    capture(compile.args(flags))?;
    Ok(program)
}

/// A C program that has functions of its own by the library's names, and exports them. The static library's are
/// there a second time; a linker can be told to take the program's.
pub fn check_replaced_symbols(project: &Project, dist: &Dist, tally: &mut Tally) {
    for (kind, flags) in flags(dist) {
        tally.check(&format!("a program's own functions don't replace those of the {kind} library"), || {
            let own = project.built("clients/own.c");
            write(&own, &own_functions())?;
            let program = project.built(&format!("clients/replaced-{kind}"));
            let mut compile = Command::new("cc");
            compile.args(["-std=c11", "-rdynamic", "-Wl,--allow-multiple-definition"]).args(WARNINGS);
            compile.arg("-o").arg(&program).arg(project.file("tests/c/replaced.c")).arg(own);
            capture(compile.args(flags?))?;
            succeed(&mut Command::new(&program))
        });
    }
}

/// A C program that loads the shared library while it runs, and closes it.
pub fn check_unloading(project: &Project, dist: &Dist, tally: &mut Tally) {
    tally.check("a program that closes the shared library again and again loses and leaks nothing", || {
        let program = project.built("clients/unloaded");
        make_folder(&project.built("clients"))?;
        let mut compile = Command::new("cc");
        compile.args(["-std=c11", "-O1", "-pthread"]).args(WARNINGS).arg("-o").arg(&program);
        compile.arg(project.file("tests/c/unloaded.c")).arg("-I").arg(dist.include()).arg("-ldl");
        capture(&mut compile)?;
        succeed(Command::new(&program).arg(dist.shared_library()))
    });
}

/// A C file with a function by each of the library's names but that of the lookup, and `is_own`, which knows them.
fn own_functions() -> String {
    let names = || SYMBOL_NAMES.iter().filter(|name| **name != "rt_symbol_lookup");
    let function = |name| format!("void {name}(void);\nvoid {name}(void) {{ abort(); }}\n");
    let comparison = |name| format!("    if (address == (int64_t)(uintptr_t){name}) return true;\n");
    let functions: String = names().map(function).collect();
    let comparisons: String = names().map(comparison).collect();
    format!(
        "#include <stdbool.h>\n#include <stdint.h>\n#include <stdlib.h>\n{functions}bool is_own(int64_t address);\n\
         bool is_own(int64_t address) {{\n{comparisons}    return false;\n}}\n"
    )
}

/// The flags that this package's own file asks for, wherever the folder lies.
fn pkg_config(dist: &Dist, questions: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", dist.pkg_config_folder()).args(questions).arg("execmem");
    Ok(capture(&mut command)?.split_whitespace().map(str::to_owned).collect())
}

/// A Rust program, whose own standard library must get along with ours in one link.
/// `runner` is what runs programs for that target.
pub fn check_rust_client(
    project: &Project,
    toolchain: &Toolchain,
    dist: &Dist,
    target: &str,
    runner: Option<&str>,
) -> Result<()> {
    let program = project.built(&format!("clients/with_std-{target}"));
    make_folder(&project.built("clients"))?;
    let mut compile = toolchain.rustc();
    compile.args(["--edition", "2024", "-O", "--target", target, "-l", "static=execmem"]);
    if target != toolchain.host {
        compile.args(["-C", "linker=rust-lld"]);
    }
    compile.arg("-L").arg(dist.lib()).arg("-o").arg(&program);
    capture(compile.arg(project.file("tests/c/with_std.rs")))?;
    succeed(&mut command_for(&program, runner))
}

fn command_for(program: &Path, runner: Option<&str>) -> Command {
    let Some(runner) = runner else {
        return Command::new(program);
    };
    let mut words = runner.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).arg(program);
    command
}

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = watch(command, |_| {})?;
    if status.success() { Ok(()) } else { Err(format!("it failed ({status})")) }
}
