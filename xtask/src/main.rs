//! `cargo xtask`: the project's chores. It finds or installs what it needs, then does it.

mod apt;
mod apt_sources;
mod baremetal;
mod bench;
mod c_clients;
mod cpio;
mod cpp_clients;
mod debian;
mod deny;
mod dist;
mod fuzz;
mod guests;
mod header;
mod listeners;
mod macos;
mod miri;
mod models;
mod mutants;
mod objects;
mod process;
mod project;
mod result;
mod sanitizers;
mod setup;
mod simple;
mod symbols;
mod tally;
mod targets;
mod tests;
mod toolchain;
mod version;
mod watchdog;

use std::process::ExitCode;

use project::Project;
use result::Result;
use toolchain::Toolchain;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  test [PART]             run the tests of one part (deny, host, models, fuzz, miri-short, musl, aarch64, cranelift,
                          baremetal, macos, guests-short, wasmtime, objects-short, objects, miri, sanitizers, guests,
                          stress), or of all but the last seven
  test mutants --shard K/N
                          change the core in small ways, and tell which of them no test notices
  dist [--target TARGET] [--prefix PREFIX] [--local NAME...] [--simple]
                          lay out the C header and libraries in target/dist/TARGET; with PREFIX in front of
                          each name, without these names, with those of integrations/simple, in a folder of its own
  header [--check]        write include/execmem.h, or tell whether it is up to date
  objects                 write the tables of compilers in integrations/object/README.md
  bench [NAME...] [--quick] [--alone]
                          compare with peers in one run (regions, queries, copies, heap, speed, policies, threads,
                          claims, forks, jit), or all of them, and write target/bench/report.md; --alone builds no
                          peers
  bench baremetal         count the instructions of the bare-metal adapter
  bench keep              make BENCHMARKS.md of the last report
  setup                   install what the tests need";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["test"] => tests::run(None),
        ["test", "mutants", "--shard", shard] => {
            done(Project::find().and_then(|project| mutants::run(&project, shard)))
        }
        ["test", part] => tests::run(Some(part)),
        ["dist", "--target", target, ref rest @ ..] => done(dist(Some(target), rest)),
        ["dist", ref rest @ ..] => done(dist(None, rest)),
        ["header"] => done(Project::find().and_then(|project| header::update(&project))),
        ["header", "--check"] => done(Project::find().and_then(|project| header::check(&project))),
        ["objects"] => done(Project::find().and_then(|project| objects::write_tables(&project))),
        ["bench", ref rest @ ..] => done(Project::find().and_then(|project| bench::run(&project, rest))),
        ["setup"] => done(setup::everything()),
        _ => Err(USAGE.to_owned()),
    };
    outcome.unwrap_or_else(|sentence| {
        eprintln!("{sentence}");
        ExitCode::FAILURE
    })
}

fn done(outcome: Result<()>) -> Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}

fn dist(target: Option<&str>, names: &[&str]) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let target = target.unwrap_or(&toolchain.host);
    let names = dist::Names::from_arguments(names)?;
    let folder = dist::build_with(&Project::find()?, &toolchain, target, &names)?;
    println!("wrote {}", folder.root().display());
    Ok(())
}
