//! `cargo xtask test models`: the concurrency of the core, each order of steps (loom) or many at random (shuttle).
//!
//! A copy of the core is built with the atomics of `tests/models`, and with its models as test modules of the parts
//! that they are about. Each model names faults: what is written differently, and where. The copy has them all, each
//! behind a question for its name. A model that doesn't fail once such a fault is seeded has proved nothing.

use std::path::Path;
use std::process::Command;

use crate::process::{capture, shown};
use crate::project::{Project, read, write};
use crate::result::Result;
use crate::tally::Tally;

/// A model and the file of the core whose parts it is about: with loom.
const UNITS: [(&str, &str); 5] = [
    ("page_map.rs", "registry/page_map/mod.rs"),
    ("chunk.rs", "code_heap/mod.rs"),
    ("table.rs", "memory.rs"),
    ("freed_code.rs", "space/mod.rs"),
    ("lock.rs", "lock.rs"),
];

/// Those that drive the whole runtime on `tests/fake`: with shuttle.
const WHOLE: [&str; 2] = ["late_copy", "publication"];

/// Other words for the models, wherever there is no fault: texts of a file that stand there once.
const REPLACED: [(&str, &str, &str); 7] = [
    ("core/src/lib.rs", "#![no_std]", "#![no_std]\n#![allow(unused_parens)]"),
    ("core/src/lib.rs", "mod sync;", "pub mod sync;\n#[cfg(test)]\nmod models;"),
    // Each look is a step, and a sleeper is as good as one who looks.
    ("core/src/lock.rs", "SPINS: usize = 100", "SPINS: usize = 0"),
    (
        "core/Cargo.toml",
        "[dependencies]\n",
        "[dependencies]\nloom.workspace = true\nshuttle.workspace = true\n",
    ),
    ("core/Cargo.toml", "execmem-fake = { path = \"../tests/fake\" }", ""),
    ("fake/Cargo.toml", "[dependencies]\n", "[dependencies]\nshuttle.workspace = true\n"),
    (
        "fake/src/platform.rs",
        "use std::sync::atomic::{AtomicUsize, Ordering};",
        "use execmem_core::sync::{AtomicUsize, Ordering};",
    ),
];

/// In the fake threads are those of the checker. Its locks are held for no step of one.
const FAKE_FILES: [&str; 2] = ["platform.rs", "state.rs"];

/// A part of the core's text, and what stands there instead if the fault is seeded.
struct Fault {
    name: String,
    file: String,
    right: String,
    wrong: String,
    /// What runs the model: arguments of `cargo test`.
    run: Vec<String>,
}

/// Builds the models, runs them, and runs each once more for each of its faults.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    let faults = lay_out(project)?;
    let cargo = |arguments: &[&str]| {
        let mut cargo = project.cargo(&["test"]);
        cargo.current_dir(project.built("models")).args(arguments);
        cargo
    };
    tally.run(&mut cargo(&["--package", "execmem-core", "--lib", "model::"]));
    tally.run(&mut cargo(&["--package", "execmem-models", "--tests"]));
    if !tally.counter().is_success() {
        return Ok(());
    }
    for fault in faults {
        let arguments: Vec<&str> = fault.run.iter().map(String::as_str).collect();
        let mut model = cargo(&arguments);
        model.env("EXECMEM_FAULT", &fault.name);
        tally.check(&format!("a model fails if {}", fault.name), || must_fail(&mut model));
    }
    Ok(())
}

/// Whether a test of a model fails, which has to have run.
fn must_fail(model: &mut Command) -> Result<()> {
    match capture(model) {
        Ok(_) => Err(format!("`{}` passes", shown(model))),
        Err(said) if said.contains("test result: FAILED") => Ok(()),
        Err(said) => Err(said),
    }
}

/// Lays out a copy of the core, the fake and the models. The faults that it has.
fn lay_out(project: &Project) -> Result<Vec<Fault>> {
    let folder = project.built("models");
    let own = project.file("tests/models");
    let mut files = Vec::new();
    for (from, to) in
        [("core/src", "core/src"), ("tests/fake/src", "fake/src"), ("tests/models/tests", "tests")]
    {
        gather(&project.file(from), to, &mut files)?;
    }
    for (from, to) in [
        ("core/Cargo.toml", "core/Cargo.toml"),
        ("tests/fake/Cargo.toml", "fake/Cargo.toml"),
        ("tests/models/Cargo.toml", "Cargo.toml"),
        ("tests/models/Cargo.lock", "Cargo.lock"),
        ("tests/models/models.rs", "core/src/models.rs"),
    ] {
        files.push((to.to_owned(), read(&project.file(from))?));
    }
    for (path, text) in &mut files {
        if path == "core/src/sync.rs" {
            *text = read(&own.join("sync.rs"))?;
        } else if FAKE_FILES.iter().any(|file| *path == format!("fake/src/{file}")) {
            *text = text.replace("std::thread", "shuttle::thread");
        }
    }
    for (file, right, other) in REPLACED {
        replace(&mut files, file, right, other)?;
    }
    let mut faults = Vec::new();
    for (model, of) in UNITS {
        let path = own.join(model);
        let module = of.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::") + "::model::";
        let run = ["--package", "execmem-core", "--lib", &module];
        faults.extend(faults_of(&read(&path)?, &run)?);
        let (_, text) = find(&mut files, &format!("core/src/{of}"))?;
        text.push_str(&format!("\n#[cfg(test)]\n#[path = {path:?}]\nmod model;\n"));
    }
    for model in WHOLE {
        let text = read(&own.join(format!("tests/{model}.rs")))?;
        faults.extend(faults_of(&text, &["--package", "execmem-models", "--test", model])?);
    }
    for Fault { name, file, right, wrong, .. } in &faults {
        let asks = format!("(if crate::sync::is_seeded({name:?}) {{ ({wrong}) }} else {{ ({right}) }})");
        replace(&mut files, &format!("core/src/{file}"), right, &asks)?;
    }
    for (path, text) in files {
        let path = folder.join(path);
        // What is as it was need not be built again.
        if read(&path).ok().as_deref() != Some(&text) {
            write(&path, &text)?;
        }
    }
    Ok(faults)
}

/// All texts of a folder, each with its path below `to`.
fn gather(folder: &Path, to: &str, files: &mut Vec<(String, String)>) -> Result<()> {
    let unreadable = |error: std::io::Error| format!("{} can't be read: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = format!("{to}/{}", path.file_name().unwrap_or_default().to_string_lossy());
        match path.is_dir() {
            true => gather(&path, &name, files)?,
            false => files.push((name, read(&path)?)),
        }
    }
    Ok(())
}

fn find<'a>(files: &'a mut [(String, String)], file: &str) -> Result<&'a mut (String, String)> {
    files.iter_mut().find(|(path, _)| path == file).ok_or(format!("there is no {file} any more"))
}

/// Replaces what stands in a file exactly once.
fn replace(files: &mut [(String, String)], file: &str, right: &str, other: &str) -> Result<()> {
    let (_, text) = find(files, file)?;
    if text.matches(right).count() != 1 {
        return Err(format!("a model's text does not stand in {file} exactly once: {right}"));
    }
    *text = text.replace(right, other);
    Ok(())
}

/// The faults that the head of a model names, each in three lines.
fn faults_of(model: &str, run: &[&str]) -> Result<Vec<Fault>> {
    let mut lines = model.lines();
    let mut faults = Vec::new();
    while let Some(line) = lines.next() {
        let Some(named) = line.strip_prefix("//! fault \"") else { continue };
        let (name, file) = named.split_once("\" in ").ok_or(format!("a fault has no file: {line}"))?;
        let mut after = |start| lines.next().and_then(|line| line.strip_prefix(start));
        let (Some(right), Some(wrong)) = (after("//! - "), after("//! + ")) else {
            return Err(format!("the fault {name:?} does not say what it changes"));
        };
        let run = run.iter().map(|argument| (*argument).to_owned()).collect();
        let [name, file, right, wrong] = [name, file, right, wrong].map(str::to_owned);
        faults.push(Fault { name, file, right, wrong, run });
    }
    if faults.is_empty() { Err(format!("the model of {run:?} names no fault")) } else { Ok(faults) }
}
