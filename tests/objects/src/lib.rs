//! The loader of the example run_object, so that it can be tested, and what its tests share.

#[path = "../../../examples/run_object/loader/mod.rs"]
pub mod loader;

pub mod cases;
pub mod patch;
pub mod samples;
