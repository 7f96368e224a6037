//! A platform for tests, on plain memory, that *enforces* what a system would, and some more.
//!
//! [`Fake`] owns one; [`FakePlatform`] is the handle that a [`Runtime`](execmem_core::Runtime) takes. What it sees:
//!
//! - a store to a page that isn't writable, or to unmapped memory;
//! - an unmap, a protect or a request of anything that isn't the core's own, or of a part of a mapping;
//! - a page that is writable and executable, where a test forbids that;
//! - a write that was not made visible to instruction fetches, on this core or on the others
//!   ([`FakePlatform::executed`]).
//!
//! What it does on demand: fails any call ([`FakePlatform::fail`]), refuses what hardened systems refuse
//! ([`Switches`]), places memory elsewhere, shrinks files, calls the test back before each call
//! ([`FakePlatform::observe`]).
//!
//! Stores are found by comparison, when a call names the pages and in [`FakePlatform::verify`]. So a store
//! that writes what is there already isn't seen, nor is a load. Two views of memory are two buffers: the
//! executable one shows a write after the next flush, where real memory shows it to loads at once.
//!
//! It runs under Miri. Memory of an instance is never given back: handles are `'static`.

mod bytes;
mod caches;
mod calls;
mod faults;
mod files;
mod memory;
mod operations;
mod platform;
mod state;
mod switches;

pub use calls::{Call, Event, Flush, Request};
pub use memory::{Live, POISON};
pub use state::{Fake, FakePlatform};
pub use switches::Switches;
