//! A loader for relocatable ELF and Mach-O objects, in the order in which it works:
//!
//! 1. [`object_file`] is what a file has, with every number checked. [`elf`] and [`mach_o`] read it,
//!    [`proportion`] bounds what it may ask for, [`foreign`] names what is no object.
//! 2. [`imports`] finds in this process what the object does not define.
//! 3. [`layout`] decides where everything goes.
//! 4. [`link`] computes the bytes; [`relocate`] says what each relocation means.
//! 5. [`image`] puts them into two mappings of this library, protects them and calls functions there;
//!    [`startup`] says which ones before all others and after them.
//!
//! A file may be damaged in any way: up to the first call, all that follows is an [`error`].

pub mod elf;
pub mod error;
pub mod foreign;
pub mod image;
pub mod imports;
pub mod layout;
pub mod link;
pub mod mach_o;
pub mod object_file;
pub mod proportion;
pub mod relocate;
pub mod startup;
