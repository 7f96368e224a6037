//! The example run_object as a program: what it prints, and one sentence and exit code 1 for all that is wrong.
//!
//! On Linux, since it is about ELF objects. Not in QEMU's user mode (the musl target), where a program can't start
//! another of its own kind.
#![cfg(all(target_os = "linux", not(target_env = "musl")))]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The bundled sample for this machine, and the one for another.
const SAMPLES: [&str; 2] = if cfg!(target_arch = "x86_64") {
    [X86_64, AARCH64]
} else if cfg!(target_arch = "riscv64") {
    [RISCV64, X86_64]
} else {
    [AARCH64, X86_64]
};
const X86_64: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/objects/sample-x86_64.o");
const AARCH64: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/objects/sample-aarch64.o");
const RISCV64: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/objects/sample-riscv64.o");
const SAMPLE: &str = SAMPLES[0];

/// The program, which `cargo test` builds beside the tests unless it is told which test to build.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("examples/run_object");
    assert!(program.exists(), "please build it first: cargo build --example run_object");
    program
}

fn run(arguments: &[&str], policy: &str) -> Output {
    Command::new(program()).args(arguments).env("EXECMEM_POLICY", policy).output().unwrap()
}

/// Writes a file for the program to read, and gives its path.
fn file(name: &str, bytes: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn without_arguments_it_runs_the_bundled_sample_under_every_policy() {
    for policy in ["auto", "rwx", "dual", "toggle"] {
        let output = run(&[], policy);
        let printed = String::from_utf8(output.stdout).unwrap();
        let dumped = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{policy}: {dumped}");
        assert!(printed.contains(" 9  fibonacci  1597    2764\nsample(10) = 2848\n"), "{policy}: {printed}");
        assert!(printed.contains("4096 bytes r-x"), "{policy}: {printed}");
        assert!(printed.contains("       0 bytes rwx"), "{policy}: {printed}");
        assert!(dumped.contains("allocations: 2\n"), "{policy}: {dumped}");
        assert!(policy == "auto" || dumped.contains(&format!("policy {policy}\n")), "{dumped}");
    }
}

#[test]
fn it_calls_the_function_that_is_named_with_the_integers_that_are_given() {
    let printed = |arguments: &[&str]| {
        let output = run(arguments, "auto");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(printed(&[SAMPLE, "fibonacci", "20"]).contains("fibonacci(20) = 6765\n"));
    assert!(printed(&[SAMPLE, "fibonacci", "0x10"]).contains("fibonacci(16) = 987\n"));
    assert!(printed(&[SAMPLE, "fibonacci", "-0x10"]).contains("fibonacci(-16) = -16\n"));
    assert!(printed(&[SAMPLE, "sample", "0"]).contains("sample(0) = 1000\n"));
}

/// Runs the program into an error, and gives the sentence that it prints: one line on stderr.
fn sentence(arguments: &[&str]) -> String {
    let output = run(arguments, "auto");
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {printed}");
    let line = printed.strip_suffix('\n').unwrap_or_default();
    let text = line.strip_prefix("run_object: ").unwrap_or_default();
    assert!(!text.is_empty() && !text.contains('\n'), "{arguments:?}: not one sentence: {printed}");
    text.into()
}

#[test]
fn a_wrong_command_line_is_one_sentence() {
    for arguments in [&[SAMPLE][..], &[SAMPLE, "f", "1", "2", "3", "4", "5", "6", "7"], &["-l"]] {
        assert!(sentence(arguments).starts_with("usage: "), "{arguments:?}");
    }
    assert!(sentence(&["--return", "hex"]).starts_with("there is no option --return: usage: "));
    assert!(sentence(&["--returns", "int"]).contains("i64, hex, f64, str or void, and not int"));
    for word in ["ten", "", "-", "0x", "1.5", "18446744073709551616", "-9223372036854775809"] {
        let expected = format!("{word} is not a 64-bit integer");
        assert_eq!(sentence(&[SAMPLE, "fibonacci", word]), expected);
    }
}

#[test]
fn a_wrong_file_is_one_sentence() {
    assert!(sentence(&["/nonexistent.o", "f"]).starts_with("/nonexistent.o: No such file"));
    assert!(sentence(&["/", "f"]).starts_with("/: "));
    let text = file("text.o", b"hello");
    assert_eq!(sentence(&[&text, "f"]), format!("{text}: neither an ELF nor a Mach-O object, but text"));
    let own = program();
    assert!(sentence(&[own.to_str().unwrap(), "main"]).contains("not a relocatable object"));
    assert!(sentence(&[SAMPLES[1], "sample", "1"]).contains("but this machine is"));
    let sound = std::fs::read(SAMPLE).unwrap();
    let short = file("short.o", &sound[..sound.len() / 2]);
    assert!(sentence(&[&short, "sample", "1"]).contains("damaged or truncated"));
    assert!(sentence(&[SAMPLE, "missing"]).contains("there is no function missing; there are: "));
}

#[test]
fn a_policy_that_does_not_exist_is_one_sentence() {
    let output = run(&[], "wx");
    assert_eq!(output.status.code(), Some(1));
    let printed = String::from_utf8(output.stderr).unwrap();
    let reason = ": the memory: unknown policy: the environment variable EXECMEM_POLICY names none\n";
    assert!(printed.ends_with(reason), "{printed}");
}

#[test]
fn help_goes_to_standard_output() {
    let output = run(&["--help"], "auto");
    assert!(output.status.success() && output.stderr.is_empty());
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with("usage: run_object ") && printed.contains("--returns"), "{printed}");
}

/// Compiles a few lines of C, and gives the object's path.
fn object(name: &str, source: &str) -> String {
    let path = file(&format!("{name}.c"), source.as_bytes());
    let object = path.replace(".c", ".o");
    let status = Command::new("cc").args(["-c", "-O1", "-fPIC", "-o", &object, &path]).status();
    assert!(status.unwrap().success());
    object
}

#[test]
fn it_links_files_and_libraries_and_shows_results_of_every_type() {
    let first = object("run-first", "double cosh(double); long helper(long); long f(long x) { return helper(x) * 2; }
        double half(long x) { return cosh(x - 3) * x / 2; } const char *text(void) { return \"a text\"; } void nothing(void) {}");
    let second = object(
        "run-second",
        "long helper(long x) { return x + 1; } long unused(void) { extern long nowhere(void); return nowhere(); }",
    );
    let archive = second.replace("run-second.o", "run-second.a");
    let _ = std::fs::remove_file(&archive);
    assert!(Command::new("ar").args(["rcs", &archive, &second]).status().unwrap().success());
    // The object alone needs what its archive does not: only what the function reaches counts.
    let printed = |arguments: &[&str]| {
        let output = run(arguments, "auto");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(sentence(&[&first, &second, "f", "20"]).contains("nowhere"), "they share a section");
    let second = object("run-second", "long helper(long x) { return x + 1; }");
    assert!(Command::new("ar").args(["rcs", &archive, &second]).status().unwrap().success());
    let with_archive = [&first, &archive, "f", "20"];
    assert!(
        sentence(&with_archive)
            .contains("cosh (the mathematical library isn't in this process: load it with -l m)")
    );
    assert!(printed(&["-l", "m", &first, &archive, "f", "20"]).contains("f(20) = 42\n"));
    assert!(printed(&["-lm", "--returns", "hex", &first, &second, "f", "20"]).contains("f(20) = 0x2a\n"));
    assert!(printed(&["-lm", "--returns=f64", &first, &second, "half", "3"]).contains("half(3) = 1.5\n"));
    assert!(printed(&["-lm", "--returns", "str", &first, &second, "text"]).contains("text() = \"a text\"\n"));
    assert!(
        printed(&["-lm", "--returns", "void", &first, &second, "nothing"]).contains("nothing() returned\n")
    );
    assert!(sentence(&["-l", "of-nobody", &first, "f"]).contains("of-nobody"));
}

/// The map stays when the program has ended: nobody else writes one for a process of that number.
#[test]
fn profilers_are_told_the_names_of_functions_if_they_ask() {
    for is_asked in [true, false] {
        let mut command = Command::new(program());
        command.args([SAMPLE, "fibonacci", "20"]).stdout(Stdio::null()).stderr(Stdio::null());
        if is_asked {
            command.env("EXECMEM_NAMES", "perf");
        }
        let mut child = command.spawn().unwrap();
        let map = PathBuf::from(format!("/tmp/perf-{}.map", child.id()));
        assert!(child.wait().unwrap().success());
        let names = std::fs::read_to_string(&map).unwrap_or_default();
        let _ = std::fs::remove_file(map);
        assert_eq!(names.lines().any(|line| line.ends_with(" fibonacci")), is_asked, "{names}");
    }
}

#[test]
fn a_crash_is_one_sentence_with_the_address_and_the_function() {
    let crashing = object(
        "run-crash",
        "__attribute__((noinline)) static long load(long *x) { return *x; }
        long f(long x) { return load((long *)x) + 1; } void abort(void); long g(void) { abort(); return 1; }
        long h(void) { __builtin_trap(); return 1; }",
    );
    let crashed = sentence(&[&crashing, "f", "0x18"]);
    assert!(
        crashed
            .starts_with("f crashed: an access to memory that it may not use, at address 0x18, in load+0x"),
        "{crashed}"
    );
    assert!(sentence(&[&crashing, "g"]).starts_with("g crashed: a call of abort, outside of the object"));
    assert!(sentence(&[&crashing, "h"]).contains("in h+0x"));
}
