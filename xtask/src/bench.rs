//! `cargo xtask bench`: execmem beside its peers on this machine, and what it costs a kernel.

use crate::baremetal;
use crate::process::shown;
use crate::project::{Project, write};
use crate::result::Result;
use std::path::Path;

/// Runs the benchmarks of these names, or all, and writes the report.
pub fn run(project: &Project, arguments: &[&str]) -> Result<()> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().partition(|argument| argument.starts_with("--"));
    let has = |option: &str| options.contains(&option);
    if let Some(unknown) = options.iter().find(|option| !OPTIONS.contains(option)) {
        return Err(format!("there is no option {unknown}, but {}", OPTIONS.join(", ")));
    }
    let folder = project.built("bench");
    if names == ["keep"] {
        return program(project, &["keep", path(&folder)?, path(&project.file(""))?], has("--alone"));
    }
    let counted = match names[..] {
        [] | ["baremetal"] if !has("--quick") => baremetal::bench(project)?,
        _ => String::new(),
    };
    write(&folder.join("counted.txt"), &counted)?;
    let mut words = vec!["report", path(&folder)?];
    words.extend(names.is_empty().then_some("all"));
    words.extend(names.iter().copied().filter(|name| *name != "baremetal"));
    words.extend(has("--quick").then_some("--quick"));
    program(project, &words, has("--alone"))
}

const OPTIONS: [&str; 2] = ["--quick", "--alone"];

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| format!("{} is no text", path.display()))
}

fn program(project: &Project, words: &[&str], is_alone: bool) -> Result<()> {
    let mut cargo = project.cargo(&["run", "--release", "--quiet", "--manifest-path"]);
    cargo.arg(project.file("benches/Cargo.toml"));
    cargo.args(is_alone.then_some("--no-default-features")).arg("--").args(words);
    let status =
        cargo.status().map_err(|error| format!("`{}` could not be started: {error}", shown(&cargo)))?;
    if status.success() { Ok(()) } else { Err(format!("the benchmarks failed ({status})")) }
}
