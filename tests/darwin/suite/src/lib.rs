//! The conformance suite inside a library for macOS, beside the adapter that it tests.
//!
//! Whoever loads the library finds out how many rules there are ([`suite_count`]), names them
//! ([`suite_name`]) and runs them one by one ([`suite_run`]). What the rules need of their system
//! comes from the loader, as a table of C functions: [`Host`].
#![no_std]

mod host;

pub use host::*;

#[cfg(target_os = "macos")]
mod run;

#[cfg(target_os = "macos")]
pub use run::*;
