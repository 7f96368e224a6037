//! From a file's bytes to an [`ObjectFile`](crate::object_file::ObjectFile).

mod bounds;
mod elf;
mod file;
mod foreign;
mod mach_o;

pub use file::parse;
