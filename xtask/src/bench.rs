//! `cargo xtask bench`: execmem beside its peers on this machine, and what it costs a kernel.

use crate::baremetal;
use crate::process::shown;
use crate::project::Project;
use crate::result::Result;

/// The programs of the package `benches`.
const NAMES: [&str; 8] = ["regions", "queries", "copies", "claims", "forks", "heap", "speed", "threads"];

/// Runs the benchmark of that name, or all that run on this machine.
pub fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let is_quick = arguments.contains(&"--quick");
    let names: Vec<&str> = arguments.iter().copied().filter(|argument| *argument != "--quick").collect();
    match names[..] {
        [] => NAMES.into_iter().try_for_each(|name| run_one(project, name, is_quick)),
        ["baremetal"] if !is_quick => baremetal::bench(project),
        [name] if NAMES.contains(&name) => run_one(project, name, is_quick),
        _ => Err(format!(
            "the benchmarks are {}, each with or without --quick, and baremetal",
            NAMES.join(", ")
        )),
    }
}

fn run_one(project: &Project, name: &str, is_quick: bool) -> Result<()> {
    let mut cargo = project.cargo(&["bench", "--quiet", "--manifest-path"]);
    cargo.arg(project.file("benches/Cargo.toml")).args(["--bench", name]);
    if is_quick {
        cargo.args(["--", "--quick"]);
    }
    println!("{name}:");
    let status =
        cargo.status().map_err(|error| format!("`{}` could not be started: {error}", shown(&cargo)))?;
    if status.success() { Ok(()) } else { Err(format!("the benchmark {name} failed ({status})")) }
}
