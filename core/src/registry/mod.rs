//! The allocation registry: which addresses are ours, what they allow, and who is using them now.
//!
//! Lookups of a page are lock-free. Everything else takes one lock for a short time, and no system call is made under
//! it, except to get memory for the registry's own records or to give it back, and around a fork. An operation on a
//! region *claims* it: shared for copies and hints, exclusive for changes of protection and release.

mod claim;
mod fork;
mod page_map;
mod queue;
mod records;
mod region;

pub(crate) use claim::{Claim, Wanted};
pub(crate) use fork::Frozen;
pub(crate) use page_map::Page;
pub(crate) use queue::Access;
pub(crate) use records::{Record, Registry};
pub(crate) use region::{Forked, Kind, Region};
