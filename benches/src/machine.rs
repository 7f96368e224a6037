//! What the figures were measured on and with.

use std::process::Command;
use std::thread::available_parallelism;

/// The first lines of the report: they are taken before anything runs.
pub fn preface(is_quick: bool) -> String {
    let rounds = if is_quick { " Few rounds (`--quick`): not to be quoted." } else { "" };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|line| line.1);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("unknown");
    format!(
        "# Benchmarks\n\n\
         {} by `cargo xtask bench`: {}, {} processors, Linux {}, load {load} at the start.{rounds} {}\n\n\
         Figures are medians of rounds in which all of a row take turns, processor time of a thread unless said \
         otherwise; in parentheses the median of the rounds' ratios, ours to theirs: below 1 is better. A row of several \
         counts has its figures in their order. Compare within a row, not between runs.\n",
        output("date", &["-u", "+%F"]),
        cpu.unwrap_or("unknown processor"),
        available_parallelism().map_or(0, |count| count.get()),
        read("/proc/sys/kernel/osrelease").trim(),
        peers()
    )
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout);
    String::from_utf8_lossy(&output.unwrap_or_default()).trim().to_owned()
}

/// Who is compared, and in which version.
fn peers() -> String {
    if cfg!(not(feature = "peers")) {
        return "Built without peers.".into();
    }
    let lock = include_str!("../Cargo.lock");
    let version = |name: &str| {
        // Of two versions the newer one stands last, and is ours.
        let (_, rest) = lock.rsplit_once(&format!("name = \"{name}\"\nversion = \""))?;
        rest.split('"').next()
    };
    let names = ["asmkit-rs", "cranelift-jit", "dynasmrt", "memmap2", "mmap-rs", "region"];
    let versions = names.map(|name| format!("{name} {}", version(name).unwrap_or("unknown")));
    format!("{}, {}.", asmjit(), versions.join(", "))
}

#[cfg(asmjit)]
fn asmjit() -> String {
    let version = execmem_benches::asmjit::asmjit_version();
    let from = if option_env!("ASMJIT_PREFIX").is_some() { "from `ASMJIT_PREFIX`" } else { "as installed" };
    format!("Beside asmjit {}.{}.{} ({from})", version >> 16, version >> 8 & 255, version & 255)
}

#[cfg(not(asmjit))]
fn asmjit() -> String {
    "asmjit is not installed (libasmjit-dev, or `ASMJIT_PREFIX`). Beside".into()
}
