//! Reading a relocatable Mach-O file of 64 bits.

mod file;
mod reader;
mod relocations;

pub use file::{is_mach_o, parse};
