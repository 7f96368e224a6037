//! `cargo xtask test deny`: licences and sources of all that the project is built with, by `deny.toml`.

use std::process::Command;

use crate::process::capture;
use crate::project::{Project, read};
use crate::result::Result;
use crate::setup;
use crate::tally::Tally;

/// Workspaces of their own that have their packages where they are.
const WORKSPACES: [&str; 9] = [
    "Cargo.toml",
    "benches/Cargo.toml",
    "examples/baremetal/Cargo.toml",
    "examples/wasmtime-baremetal/Cargo.toml",
    "integrations/cranelift/Cargo.toml",
    "integrations/wasmtime/Cargo.toml",
    "tests/baremetal/Cargo.toml",
    "tests/fuzz/Cargo.toml",
    "tests/own-names/Cargo.toml",
];
/// The one that is laid out elsewhere.
const MODELS: &str = "tests/models";

/// Checks each workspace.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    let program = setup::cargo_deny(project)?;
    for workspace in WORKSPACES {
        let mut deny = Command::new(&program);
        deny.args(["--log-level", "error", "--config"]).arg(project.file("deny.toml"));
        deny.arg("--manifest-path")
            .arg(project.file(workspace))
            .args(["check", "licenses", "bans", "sources"]);
        tally.check(&format!("licences and sources of {workspace}"), || capture(&mut deny).map(drop));
    }
    tally.check("every workspace of its own is checked", || {
        let excluded = read(&project.file("Cargo.toml"))?;
        let line = excluded.lines().find(|line| line.starts_with("exclude = ")).unwrap_or_default();
        let folders = line.split('"').skip(1).step_by(2).filter(|folder| *folder != MODELS);
        let missing: Vec<_> =
            folders.filter(|folder| !WORKSPACES.contains(&&*format!("{folder}/Cargo.toml"))).collect();
        if line.is_empty() || !missing.is_empty() { Err(format!("not checked: {missing:?}")) } else { Ok(()) }
    });
    Ok(())
}
