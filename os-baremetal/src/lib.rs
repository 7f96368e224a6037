//! execmem on bare-metal aarch64: pages from the kernel's frames and page tables, and the `rt_*` symbols.
//!
//! One small file for each thing that the core asks of a system. A kernel gives the library, once and
//! before anything else of it is used, what it may work with: [`init`] says how. From then on the whole
//! contract holds, enforced by the memory management unit.
//!
//! - Page tables are the kernel's own, behind the trait [`PageTables`], or an [`IdentityTables`].
//! - Files are the entries of a cpio archive in memory: [`set_archive`].
//! - Code that replaces other code at the same address needs a step of each core: [`cores`].
//! - `rt_*` functions that allocate or change memory take a spin lock: an interrupt handler must not call
//!   them. Lookups (`rt_is_executable`, `rt_get_protection`) can be called from anywhere.
//!
//! Written for exception level 1, 4 KiB pages and processors with the generic interrupt controller's version
//! 3; tested in QEMU as Cortex-A53, Cortex-A72 and `max`.
// Elsewhere only its tables and frames are built, for tests: links to the rest lead nowhere.
#![cfg_attr(not(target_os = "none"), allow(rustdoc::broken_intra_doc_links))]
#![no_std]

#[cfg(test)]
extern crate std;

mod identity_tables;
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
mod thread;

pub use identity_tables::{IdentityTables, Usage};
pub use tables::{PAGE_SIZE, PageTables};

#[cfg(target_os = "none")]
pub use {
    archive::DamagedArchive,
    console::Console,
    exports::*,
    files::set_archive,
    platform::{BareMetal, Setup, init, runtime},
};
