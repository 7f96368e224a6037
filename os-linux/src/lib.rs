//! execmem on Linux: pages from `mmap`, and the `rt_*` symbols.
//!
//! The crate uses libc and no `std`, so that the C libraries made from it link into any program. All adapters have
//! the same files; what Unix systems have in common is in `execmem_core::unix`.
//!
//! | file | what |
//! |---|---|
//! | `platform.rs` | the seam that the core asks, and what happens when the library is loaded |
//! | `exports.rs` | the `rt_*` symbols |
//! | `pages.rs` | mapping pages, also twice, replacing them, and making them huge |
//! | `files.rs` | mapping files |
//! | `copy.rs` | copying where a file may have become too short |
//! | `mappings.rs` | what is mapped in this process; `maps_text.rs` reads the text of that |
//! | `keys.rs` | what only the library's own writes can store to; `no_keys.rs` is for processors without that |
//! | `cores.rs` | what other cores have fetched |
//! | `process.rs` | how a thread sleeps and is woken |
//! | `c_library.rs` | what the C libraries have in place of `std` |
//!
//! Tested on x86_64, and on aarch64 under qemu-user. Kernel features newer than 4.17 are used where the
//! kernel knows them, with a fallback where it doesn't.
#![no_std]
#![cfg(target_os = "linux")]

mod copy;
mod cores;
mod exports;
mod files;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_keys.rs")]
mod keys;
mod mappings;
mod maps_text;
mod pages;
mod platform;
mod process;

#[cfg(all(feature = "c-library", not(test)))]
mod c_library;

pub use exports::*;
pub use platform::{Linux, runtime};
