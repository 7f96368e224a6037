//! What all benchmarks share: how they measure, and what they say.

#[cfg(asmjit)]
pub mod asmjit;
mod measure;
mod random;
mod rows;

pub use measure::{
    Race, children, is_quick, live_function, median, memory, now, peers, rounds, set_policy, timed,
};
pub use random::Random;
pub use rows::{Role, Row, Subject, Unit, row};
