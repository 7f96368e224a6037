//! Loads a relocatable object, as `cc -c` or `rustc --emit obj` makes it, into memory of [`execmem`], and calls
//! its functions. ELF and Mach-O objects of 64 bits, for x86_64 and aarch64.
//!
//! ```
//! use execmem_object::{Image, process_symbol};
//!
//! # let (_, file) = execmem_object_samples::for_this_machine();
//! // `file` holds the bytes of an object that defines `long fibonacci(long)`.
//! let image = Image::load(file, process_symbol)?;
//! let fibonacci = image.function("fibonacci")?;
//! // SAFETY: the function takes one integer, and touches nothing else.
//! assert_eq!(unsafe { image.call(fibonacci, &[20]) }?, 6765);
//! # Ok::<(), execmem_object::Error>(())
//! ```
//!
//! Loading a damaged file never panics: what is wrong with it is an [`Error`]. What it may allocate is bounded, by its
//! size and by 1 GiB of zeroed data. None of the object's code runs before it is called, and calls are `unsafe`.
//!
//! # The order of the work
//! 1. `parse` reads the file into an `object_file`, and checks every number in it.
//! 2. `import` asks a resolver for what the object does not define; `process` has the usual resolver.
//! 3. `layout` decides where everything goes.
//! 4. `link` computes the bytes; `relocate` says what each relocation means.
//! 5. `image` puts the bytes into memory, protects them and calls functions there; `startup` finds the constructors
//!    and destructors.

mod architecture;
mod error;
mod image;
mod import;
mod layout;
mod link;
mod object_file;
mod parse;
mod process;
mod relocate;
mod startup;

#[cfg(test)]
mod tests;

pub use architecture::Architecture;
pub use error::{Error, Misfit};
pub use image::{Image, Segment};
pub use import::Import;
pub use process::process_symbol;
