//! `-l LIBRARY`.

use crate::arguments::File;
use std::process::Command;

/// Loads a shared library, or gives the archive of that name that the C compiler finds.
pub fn add(name: &str) -> Result<Option<File>, String> {
    let Err(refused) = execmem_object::add_library(name) else { return Ok(None) };
    let asked = Command::new("cc").arg(format!("-print-file-name=lib{name}.a")).output();
    let printed = asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    // Of what it doesn't find it prints the name alone.
    match printed {
        Ok(path) if path.contains('/') => match std::fs::read(&path) {
            Ok(bytes) => Ok(Some((path, bytes))),
            Err(error) => Err(format!("{path}: {error}")),
        },
        _ => Err(refused.to_string()),
    }
}
