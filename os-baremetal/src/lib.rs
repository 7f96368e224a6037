//! execmem on a bare machine, which is an aarch64 so far: pages from the kernel's frames and page tables, and the
//! `rt_*` symbols.
//!
//! A kernel gives the library, once and before anything else of it is used, what it may work with: [`init`] says how.
//! From then on the whole contract holds, enforced by the memory management unit.
//!
//! - Page tables are the kernel's own, behind the trait [`PageTables`], or an [`IdentityTables`].
//! - Files are the entries of a cpio archive in memory: [`set_archive`].
//! - Code that replaces other code at the same address needs a step of each core: [`cores`].
//! - `rt_*` functions that allocate or change memory take a spin lock: an interrupt handler must not call
//!   them. Lookups (`rt_is_executable`, `rt_get_protection`) can be called from anywhere.
//!
//! All adapters have the same files, as far as there is something to say:
//!
//! | file | what |
//! |---|---|
//! | `platform.rs` | the seam that the core asks, and what a kernel gives |
//! | `exports.rs` | the `rt_*` symbols |
//! | `pages.rs` | mapping pages, also twice: frames (`frames.rs`) at addresses (`arena.rs`), by `tables.rs` |
//! | `files.rs` | mapping files of an archive (`archive.rs`) |
//! | `mappings.rs` | what is mapped |
//! | `cores.rs` | what other cores have fetched |
//! | `process.rs` | the cell for the last error |
//! | `console.rs` | text for people |
//! | `c_setup.rs`, `c_library.rs` | set-up from C, and what the C library has in place of `std` |
//! | `arch.rs` | what a processor supplies; `aarch64/` is one |
// Elsewhere only its tables and frames are built, for tests: links to the rest lead nowhere.
#![cfg_attr(not(target_os = "none"), allow(rustdoc::broken_intra_doc_links))]
#![no_std]

#[cfg(all(target_os = "none", not(target_arch = "aarch64")))]
compile_error!("execmem knows only aarch64 as a bare machine yet: a folder beside src/aarch64 is needed");

#[cfg(test)]
extern crate std;

pub mod aarch64;
mod arch;
mod tables;

// No other system uses these, but any host can test them.
#[cfg(any(target_os = "none", test))]
mod archive;
#[cfg(any(target_os = "none", test))]
mod arena;
#[cfg(any(target_os = "none", test))]
mod frames;

#[cfg(target_os = "none")]
pub mod console;
#[cfg(target_os = "none")]
pub mod cores;
#[cfg(target_os = "none")]
mod exports;
#[cfg(target_os = "none")]
mod files;
#[cfg(target_os = "none")]
mod mappings;
#[cfg(target_os = "none")]
mod pages;
#[cfg(target_os = "none")]
mod platform;
#[cfg(target_os = "none")]
mod process;

#[cfg(all(target_os = "none", feature = "c-library"))]
mod c_library;
#[cfg(all(target_os = "none", feature = "c-setup"))]
pub mod c_setup;

pub use arch::{IdentityTables, Usage};
pub use tables::{PAGE_SIZE, PageTables};

#[cfg(target_os = "none")]
pub use {
    arch::Serial,
    archive::DamagedArchive,
    console::Console,
    exports::*,
    files::set_archive,
    platform::{BareMetal, Setup, init, runtime},
};
