//! What regions and code heaps both stand on: the process's address space as this library uses it.
//!
//! [`AddressSpace`] has the platform, the registry of regions, the policy and the counters, and what takes more than
//! one of them: entering a region, flipping pages, giving a process memory of its own after a fork. Nothing in here
//! knows of the operations of the contract or of heaps.

mod address_space;
mod counters;
mod freed_code;
mod separation;

pub(crate) use address_space::AddressSpace;
pub(crate) use freed_code::FreedCode;
