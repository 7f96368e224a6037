//! The system-independent core of execmem.
//!
//! Everything that can be decided without a system is decided here: which ranges are valid, who owns an address,
//! which views code memory gets and who may write when, where blocks of code lie, how instruction caches are made
//! coherent ([`icache`]). A system supplies pages through the one seam, [`platform`], and exports the C symbols with
//! [`export_symbols!`].
//!
//! The crate needs neither `std` nor `alloc`: its own metadata lives in pages from the platform.
//!
//! Start reading at [`Runtime`]: each of its methods is one operation of the contract.
#![no_std]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("execmem's contract is written for 64-bit addresses");

pub mod abi;
pub mod icache;
pub mod platform;
#[cfg(all(unix, feature = "unix"))]
pub mod unix;

mod bits;
mod clusters;
mod code_heap;
mod error;
mod free_space;
mod hardening;
mod header;
mod lock;
mod memory;
mod near;
mod policy;
mod prefetch;
mod protection;
mod registry;
mod runtime;
mod slots;
mod space;
mod span;
mod sync;
mod value;

pub use code_heap::{Block, ChunkPicture, CodeHeap, Limits};
pub use error::Error;
pub use header::{RT_VALUE_NIL as NIL, RtExecMemoryStats as Statistics, RtValue};
pub use platform::Platform;
pub use policy::Policy;
pub use protection::{Advice, Hardening, MapFlags, Protection};
pub use runtime::Runtime;
pub use runtime::files::MapRequest;
pub use span::Span;
