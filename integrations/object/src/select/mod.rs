//! Which parts of the files are linked, as one object.
//!
//! Of objects all is linked, unless entries are named: then it is what these reach. Of archives it is what is
//! reached: the members that define what is missing, and of those the sections that something refers to. What a linked
//! member wants to have called at its start and end is reached.

mod archive;
mod inputs;
mod merge;
mod reach;
mod support;

pub use inputs::{Input, Selected, select};
#[cfg(test)]
pub use support::support;
