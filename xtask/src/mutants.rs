//! `cargo xtask test mutants --shard k/n`: cargo-mutants changes the core in small ways, one at a time, and runs its
//! tests. `.cargo/mutants.toml` says which files. A mutant that no test notices is missing a test.

use crate::process::{capture, shown};
use crate::project::Project;
use crate::result::Result;

/// Runs a part of the mutants: shard `k/n`, counted from 0.
pub fn run(project: &Project, shard: &str) -> Result<()> {
    if capture(&mut project.cargo(&["mutants", "--version"])).is_err() {
        return Err("cargo-mutants is missing: please run `cargo install --locked cargo-mutants`".to_owned());
    }
    let mut cargo = project.cargo(&["mutants", "--package", "execmem-core", "--shard", shard, "--output"]);
    let status = cargo.arg(project.built("")).env_remove("CARGO_TARGET_DIR").status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(format!("`{}` found mutants that no test notices, or failed ({status})", shown(&cargo)))
        }
        Err(error) => Err(format!("`{}` could not be started: {error}", shown(&cargo))),
    }
}
