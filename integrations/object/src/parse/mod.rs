//! From a file's bytes to an [`ObjectFile`](crate::object_file::ObjectFile).

mod bounds;
mod elf;
mod file;
mod foreign;
mod mach_o;
mod property;
mod riscv64;

pub use bounds::Bounds;
pub use file::parse;
pub use foreign::ARCHIVE;
