//! Loads relocatable objects, as `cc -c` or `rustc --emit obj` makes them, and archives of them into memory of
//! [`execmem`], links them, and calls their functions. ELF objects of 64 bits for x86_64, aarch64 and riscv64, Mach-O
//! objects for the first two.
//!
//! ```
//! use execmem_object::Object;
//!
//! # let (_, file) = execmem_object_samples::for_this_machine();
//! // `file` holds the bytes of an object that defines `long fibonacci(long)`.
//! let fibonacci = Object::load(file)?.function::<unsafe extern "C" fn(i64) -> i64>("fibonacci")?;
//! // SAFETY: the function takes one integer, and touches nothing else.
//! assert_eq!(unsafe { fibonacci(20) }, 6765);
//! # Ok::<(), execmem_object::Error>(())
//! ```
//!
//! Loading a damaged file never panics: what is wrong with it is an [`Error`]. What it may allocate is bounded, by its
//! size and by 1 GiB of zeroed data. None of the object's code runs before it is called, and calls are `unsafe`.
//!
//! # The order of the work
//! 1. `parse` reads each file into an `object_file`, and checks every number in it.
//! 2. `select` makes one object of those that are linked; `unwind` reads and makes the tables of exceptions.
//! 3. `import` asks a resolver for what is not defined; `process` has the usual resolver, `library` extends it, `builtins`
//!    are functions that compilers call without being told.
//! 4. `layout` decides where everything goes.
//! 5. `link` computes the bytes; `relocate` says what each relocation means.
//! 6. `image` puts the bytes into `memory` and protects them; `startup` finds the constructors and destructors, `exit`
//!    keeps what is called at the end.
//! 7. `loaded` and `function` are what users hold, `linker` what they link several files with.

mod architecture;
mod builtins;
mod error;
mod exit;
mod function;
mod image;
mod import;
mod layout;
mod library;
mod link;
mod linker;
mod loaded;
mod memory;
mod message;
mod object_file;
mod parse;
mod process;
mod relocate;
mod remedy;
mod select;
mod startup;
mod unwind;

#[cfg(test)]
mod tests;

pub use architecture::Architecture;
pub use error::{Error, Misfit};
pub use function::{Function, FunctionType};
pub use image::Segment;
pub use import::Import;
pub use library::add_library;
pub use linker::Linker;
pub use loaded::Object;
pub use process::process_symbol;
