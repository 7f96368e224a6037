//! The contract of the `rt_*` symbols, `docs/contract.md`, as one suite for every adapter.
//!
//! Each rule is a function that proves one sentence through the C symbols and nothing else, so the same
//! code runs as a Linux program, on a bare machine, and inside a Mach-O library. A harness links an
//! adapter, describes its system as a [`World`], runs every rule of [`SECTIONS`], and compares how many
//! it ran with [`RULE_COUNT`]. No rule panics, and none allocates.
//!
//! The rules keep files' contents and texts on the stack: give them half a megabyte of it.
//!
//! The order matters where one process runs everything: the first section must see a process that has
//! allocated nothing, and the last one registers value operations, which can't be taken back. A rule
//! that fails half-way leaves its memory allocated; the others compare figures before and after, so they
//! don't mind.
#![no_std]

pub mod code;
pub mod memory;
pub mod rules;
pub mod snapshot;
pub mod symbols;
pub mod verdict;
pub mod world;

pub use rules::{RULE_COUNT, SECTIONS, Section};
pub use verdict::{Failure, Stop, Verdict};
pub use world::World;

/// A rule of the contract, and the function that proves it.
pub struct Rule {
    /// The sentence that is proved.
    pub name: &'static str,
    /// Tries it out.
    pub run: fn(&World) -> Verdict,
}

impl Rule {
    const fn new(name: &'static str, run: fn(&World) -> Verdict) -> Self {
        Self { name, run }
    }
}
