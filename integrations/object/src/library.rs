//! Shared libraries for this process.

use crate::error::Error;
use std::ffi::{CStr, CString};

/// How many versions of a library's name are tried.
const VERSIONS: u32 = 100;

/// Loads a shared library into this process, for good, so that [`process_symbol`](crate::process_symbol) finds its
/// symbols: by its short name, as linkers take it (`m` for the mathematical library), or by its path.
///
/// # Errors
/// [`Error::Library`], with what the system's loader says. A static program has no loader.
pub fn add_library(name: &str) -> Result<(), Error> {
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.into()]
    } else if cfg!(target_os = "macos") {
        vec![format!("lib{name}.dylib")]
    } else {
        // Where no development files are there is only a name with a version; where they are, the one without may be a
        // script for linkers.
        let plain = format!("lib{name}.so");
        let versions = (0..VERSIONS).rev().map(|version| format!("{plain}.{version}"));
        versions.chain([plain.clone()]).collect()
    };
    let mut reason = String::new();
    for candidate in candidates {
        let Ok(path) = CString::new(candidate) else { continue };
        // SAFETY: the path is a C string. The library's constructors run, as those of every library of a program.
        let library = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if !library.is_null() {
            return Ok(());
        }
        // SAFETY: after a failure there is a text, which stays until the next call of this thread.
        let said = unsafe { libc::dlerror() };
        if !said.is_null() {
            // SAFETY: it is such a text.
            reason = unsafe { CStr::from_ptr(said) }.to_string_lossy().into_owned();
        }
    }
    Err(Error::Library { name: name.into(), reason })
}
