//! The system-independent core of execmem.
//!
//! Everything that can be decided without a system is decided here: which ranges are valid, who owns
//! an address ([`registry`]), which views code memory gets and who may write when ([`policy`]), how
//! instruction caches are made coherent ([`icache`]). A system supplies pages through the one seam,
//! [`Platform`], and exports the C symbols with [`export_symbols!`].
//!
//! The crate needs neither `std` nor `alloc`: its own metadata lives in pages from the platform.
//!
//! Start reading at [`Runtime`]: each of its methods is one operation of the contract.
#![no_std]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("execmem's contract is written for 64-bit addresses");

pub mod abi;
pub mod code_heap;
pub mod error;
pub mod icache;
pub mod platform;
pub mod policy;
pub mod protection;
pub mod registry;
pub mod runtime;
pub mod span;
pub mod value;

mod call;
mod lock;
mod memory;
mod near;
mod report;

pub use code_heap::CodeHeap;
pub use error::Error;
pub use platform::Platform;
pub use policy::Policy;
pub use protection::{Advice, MapFlags, Protection};
pub use report::Statistics;
pub use runtime::Runtime;
pub use span::Span;
