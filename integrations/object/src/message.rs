//! The sentence for each error.

use crate::error::{Error, Misfit};
use crate::remedy::remedy;
use std::collections::BTreeMap;
use std::fmt;

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnObject(what) => write!(out, "neither an ELF nor a Mach-O object, but {what}"),
            Self::WrongClass => write!(out, "not a 64-bit little-endian object"),
            Self::NotRelocatable => {
                write!(out, "a linked program or library, not a relocatable object as `cc -c` makes it")
            }
            Self::UnknownMachine(machine) => {
                write!(out, "code for an unknown machine (number {machine:#x})")
            }
            Self::WrongArchitecture(architecture) => {
                write!(out, "code for {architecture}, but this machine is {}", std::env::consts::ARCH)
            }
            Self::Damaged(what) => write!(out, "the file is damaged or truncated: {what}"),
            Self::Unsupported(what) => write!(out, "this loader does not support {what}"),
            Self::WritableCode(section) => {
                write!(out, "section {section} is writable and executable, which is never granted")
            }
            Self::ThreadLocal(name) => {
                write!(out, "{name} is thread-local storage, which this loader does not provide")
            }
            Self::ExecutableStack => {
                write!(out, "the object needs an executable stack (for addresses of nested functions?)")
            }
            Self::FunctionPiece(section) => {
                write!(out, "{section} is a piece of a function that only the C runtime's objects complete")
            }
            Self::Unwinding(symbol) => write!(
                out,
                "{symbol} is for exceptions, which can't pass through loaded code; -fno-exceptions may help"
            ),
            Self::LaterCall(symbol) => {
                write!(out, "{symbol} would have functions called when the object may be gone already")
            }
            Self::NoLandingPads => write!(
                out,
                "its code has no landing pads (BTI), which this process asks for; \
                 -mbranch-protection=standard makes them"
            ),
            Self::NotALandingPad(name) => write!(
                out,
                "{name} has no landing pad (BTI), which compilers leave out of static functions whose address \
                 nothing takes"
            ),
            Self::NotStarted => {
                write!(
                    out,
                    "the object has indirect functions (IFUNC), and has to be started before its functions are called"
                )
            }
            Self::Alignment { name, limit } => {
                write!(out, "{name} asks for a larger alignment than {} MiB", limit >> 20)
            }
            Self::TooLarge => write!(out, "the object is larger than the 2 GiB in which code reaches data"),
            Self::TooMuchZeroed { limit } => {
                write!(out, "the object needs more than {} MiB of zeroed data", limit >> 20)
            }
            Self::UnknownRelocation { relocation, section } => {
                write!(out, "unknown relocation {relocation} in {section}")
            }
            Self::Misfit { misfit: Misfit::OutOfRange, relocation, place, symbol } => write!(
                out,
                "{symbol} is out of range of the relocation {relocation} at {place}; compiling with -fPIC may help"
            ),
            Self::Misfit { misfit: Misfit::Misaligned, relocation, place, symbol } => {
                write!(out, "{symbol} is misaligned for the relocation {relocation} at {place}")
            }
            Self::MissingSymbols(names) => missing(names, out),
            Self::DuplicateSymbol(name) => write!(out, "{name} is defined twice"),
            Self::MixedArchitectures(first, second) => {
                write!(out, "code for {second}, where other objects are for {first}")
            }
            Self::ThinArchive => write!(
                out,
                "a thin archive, which holds the names of its objects and not the objects (ar rcs makes a whole one)"
            ),
            Self::NoIndex => write!(out, "an archive without an index of its symbols (ranlib makes it)"),
            Self::InFile { file, error } => write!(out, "{file}: {error}"),
            Self::Library { name, reason } => write!(out, "the library {name} can't be loaded: {reason}"),
            Self::MissingFunction { name, defined } if defined.is_empty() => {
                write!(out, "there is no function {name}, nor any other")
            }
            Self::MissingFunction { name, defined } => {
                write!(out, "there is no function {name}; there are: {}", defined.join(", "))
            }
            Self::MissingData { name, defined } if defined.is_empty() => {
                write!(out, "there is no variable {name}, nor any other")
            }
            Self::MissingData { name, defined } => {
                write!(out, "there is no variable {name}; there are: {}", defined.join(", "))
            }
            Self::OtherSize { name, size, expected } => {
                write!(out, "{name} has {size} bytes, and not {expected}")
            }
            Self::Memory(error) => write!(out, "the memory: {error}"),
        }
    }
}

/// All missing symbols, those with the same remedy together.
fn missing(names: &[String], out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for name in names {
        groups.entry(remedy(name)).or_default().push(name);
    }
    write!(out, "defined neither in what is linked nor in this process:")?;
    for (number, (remedy, names)) in groups.iter().enumerate() {
        let separator = if number == 0 { "" } else { ";" };
        write!(out, "{separator} {} ({remedy})", names.join(", "))?;
    }
    Ok(())
}
