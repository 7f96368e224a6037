//! execmem on macOS: pages from `mmap` and `mach_vm`, and the `rt_*` symbols.
//!
//! The crate uses libSystem and no `std`, so that the C libraries made from it link into any program. It needs macOS
//! 11. All adapters have the same files; what Unix systems have in common is in `execmem_core::unix`.
//!
//! | file | what |
//! |---|---|
//! | `platform.rs` | the seam that the core asks, and what happens when the library is loaded |
//! | `exports.rs` | the `rt_*` symbols |
//! | `pages.rs` | mapping pages, also twice, and replacing them |
//! | `files.rs` | mapping files |
//! | `copy.rs` | copying where a file may have become too short |
//! | `mappings.rs` | what is mapped in this process |
//! | `cores.rs` | instruction caches, and what other cores have fetched |
//! | `process.rs` | how a thread sleeps |
//! | `c_library.rs` | what the C libraries have in place of `std` |
//! | `jit.rs` | the write switch of `MAP_JIT` pages |
//! | `signing.rs` | whether unsigned pages may be executed |
//! | `mach.rs` | the Mach calls' error numbers |
//!
//! What Apple's kernel allows depends on the processor and on how the program was signed:
//!
//! | | W and X at once | `MAP_JIT` | RW to RX by `mprotect` |
//! |---|---|---|---|
//! | Intel | yes | yes | yes |
//! | Apple silicon | no | yes | yes |
//! | hardened runtime, with `com.apple.security.cs.allow-jit` | no | yes | kills who executes it |
//! | hardened runtime, without | no | no | kills who executes it |
//!
//! The core tries on one page what is granted; what would kill is refused here (`signing`). Memory of
//! `rt_alloc_rw_memory` is plain memory always, and becomes executable by `mprotect`: where that is refused,
//! only `rt_alloc_exec_memory` gives code memory.
//!
//! Its machine code is tested on Linux, against a model of libSystem and the kernel (`tests/darwin`).
#![no_std]
#![cfg(target_os = "macos")]

mod copy;
mod cores;
mod exports;
mod files;
mod jit;
mod mach;
mod mappings;
mod pages;
mod platform;
mod process;
mod signing;

#[cfg(all(feature = "c-library", not(test)))]
mod c_library;

pub use exports::*;
pub use platform::{MacOs, runtime};
