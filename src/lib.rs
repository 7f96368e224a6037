//! Executable memory and mapped files for language runtimes, JIT compilers and kernels.
//!
//! This crate picks the adapter for the target ([`os`]) and adds owners that free what they hold. All
//! operations are methods of [`runtime()`]; the feature `symbols` exports the same ones as the `rt_*` C
//! symbols that `include/execmem.h` declares.
//!
//! ```
//! # #[cfg(target_arch = "x86_64")] const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
//! # #[cfg(target_arch = "aarch64")] const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];
//! # #[cfg(target_arch = "riscv64")] const CODE: &[u8] = &[0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0, 0];
//! let memory = execmem::CodeMemory::new(4096)?;
//! memory.write(0, CODE)?;
//! memory.make_executable()?;
//! // SAFETY: the code is a function without arguments.
//! assert_eq!(unsafe { memory.call(0, &[]) }?, 42);
//! # Ok::<(), execmem::Error>(())
//! ```
#![no_std]

mod block;
mod data;
mod error;
mod file;
mod function;
mod memory;
mod region;
mod reserved;
mod signature;

pub use execmem_core::MapRequest;
pub use execmem_core::{Advice, Hardening, MapFlags, Policy, Protection, Runtime, Span, abi};
pub use execmem_core::{Block, ChunkPicture, CodeHeap, Limits};

/// The adapter for this target.
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
pub use execmem_os_baremetal as os;
#[cfg(target_os = "linux")]
pub use execmem_os_linux as os;

/// The adapter for this target.
#[cfg(target_os = "macos")]
pub use execmem_os_macos as os;

#[cfg(not(any(target_os = "linux", target_os = "macos", all(target_os = "none", target_arch = "aarch64"))))]
compile_error!("execmem has no adapter for this system yet: implement execmem_core::Platform for it");

#[doc(hidden)]
pub use execmem_core::icache::is_aarch64_landing_pad;

pub use data::{Constants, DataMemory};
pub use error::{Error, ErrorKind};
pub use file::MappedFile;
pub use function::{Entry, Function};
pub use memory::CodeMemory;
pub use os::runtime;
pub use reserved::{Reserved, Written, publish_all};
pub use signature::Signature;

/// The Rust code of the guide is compiled and run with the tests.
#[cfg(doctest)]
mod guide {
    macro_rules! page {
        ($name:ident, $path:literal) => {
            #[doc = include_str!(concat!("../docs/guide/", $path))]
            mod $name {}
        };
    }
    page!(arm, "arm.md");
    page!(engines, "engines.md");
    page!(failures, "failures.md");
    page!(forks, "forks.md");
    page!(huge_pages, "huge-pages.md");
    page!(policy, "policy.md");
    page!(statistics, "statistics.md");
    page!(threads, "threads.md");
}
