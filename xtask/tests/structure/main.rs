//! How the sources are laid out, checked by reading them: who uses whom, and how long files are.

mod circles;
mod modules;
mod uses;

use std::fs;
use std::path::{Path, PathBuf};

use modules::Modules;

/// The crates whose files must not use each other in a circle.
const CRATES: &[&str] = &[
    "core/src/lib.rs",
    "os-linux/src/lib.rs",
    "os-macos/src/lib.rs",
    "os-baremetal/src/lib.rs",
    "integrations/object/src/lib.rs",
    "xtask/src/main.rs",
];

/// Nobody reads a longer file in one go.
const MOST_LINES: usize = 400;

#[test]
fn no_files_use_each_other_in_a_circle() {
    let circles: Vec<String> = CRATES.iter().flat_map(|root| circles_of(root)).collect();
    assert!(circles.is_empty(), "files that use each other:\n{}", circles.join("\n"));
}

#[test]
fn no_rust_file_is_longer_than_400_lines() {
    let files = rust_files(&project());
    assert!(files.len() > 100, "the project was not found: {} files", files.len());
    let long: Vec<String> = files
        .iter()
        .map(|file| (file.strip_prefix(project()).expect("a file of the project"), line_count(file)))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(file, lines)| format!("{}: {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "files to be split by what they do:\n{}", long.join("\n"));
}

/// One line for each circle in a crate.
fn circles_of(root: &str) -> Vec<String> {
    let read = |file: &Path| fs::read_to_string(project().join(file)).ok();
    let modules = Modules::read(Path::new(root), &read);
    circles::circles(&uses::graph(&modules)).iter().map(|circle| circles::shown(circle)).collect()
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn line_count(file: &Path) -> usize {
    fs::read_to_string(file).expect("a readable file").lines().count()
}

/// All below a folder, but for what builds write and what is hidden.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
