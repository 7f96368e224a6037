//! What can be wrong with an object, each with its sentence.

use crate::architecture::Architecture;
use std::fmt;

/// Why an object can't be loaded, or a function in it can't be called. Its text is one sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The file is neither an ELF nor a Mach-O object: what it is instead.
    NotAnObject(&'static str),
    /// A 32-bit or a big-endian file.
    WrongClass,
    /// An ELF or Mach-O file, but a program or a shared library.
    NotRelocatable,
    /// Code for a machine whose relocations are not known: its number in the file's format.
    UnknownMachine(u32),
    /// Code for another machine than this one.
    WrongArchitecture(Architecture),
    /// The file contradicts itself, or refers to something outside of itself: what is wrong.
    Damaged(String),
    /// The file is sound, and needs something that this crate doesn't have: what that is.
    Unsupported(String),
    /// This section is to be writable and executable.
    WritableCode(String),
    /// This symbol or section is thread-local storage.
    ThreadLocal(String),
    /// The object asks for an executable stack.
    ExecutableStack,
    /// This section (`.init`, `.fini`) is a piece of a function that only the C runtime's own objects complete.
    FunctionPiece(String),
    /// This symbol is for exceptions. They can't pass through loaded code.
    Unwinding(String),
    /// This function (`atexit`) has others called later, when the image may be gone.
    LaterCall(String),
    /// This symbol is an indirect function: the object itself would have to choose its address.
    IndirectFunction(String),
    /// This section or common symbol asks for more than page alignment.
    Alignment(String),
    /// Code and data together are larger than 2 GiB.
    TooLarge,
    /// Zeroed data and alignment together need more memory than is allowed.
    TooMuchZeroed {
        /// The most that is allowed, in bytes.
        limit: u64,
    },
    /// A relocation that this crate does not know.
    UnknownRelocation {
        /// Its name in the psABI, or its number.
        relocation: String,
        /// The section that it is in.
        section: String,
    },
    /// A relocation whose value does not fit where it is to be stored.
    Misfit {
        /// Why it does not fit.
        misfit: Misfit,
        /// The relocation's name in the psABI, or its number.
        relocation: String,
        /// `section+offset`.
        place: String,
        /// What it refers to.
        symbol: String,
    },
    /// This symbol is defined neither in the object nor by the resolver.
    MissingSymbol(String),
    /// A function that the object does not define.
    MissingFunction {
        /// The one that was asked for.
        name: String,
        /// Those that it does define.
        defined: Vec<String>,
    },
    /// execmem refuses the memory or the call.
    Memory(execmem::Error),
}

/// Why a value can't be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It has too many bits.
    OutOfRange,
    /// The field has no room for its low bits, and they aren't zero.
    Misaligned,
}

impl From<execmem::Error> for Error {
    fn from(error: execmem::Error) -> Self {
        Self::Memory(error)
    }
}

impl From<object::Error> for Error {
    fn from(error: object::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

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
            Self::IndirectFunction(name) => {
                write!(out, "{name} is an indirect function, which this loader does not resolve")
            }
            Self::Alignment(name) => write!(out, "{name} asks for more than page alignment"),
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
            Self::MissingSymbol(name) => {
                write!(out, "the symbol {name} is defined neither in the object nor in this process")
            }
            Self::MissingFunction { name, defined } if defined.is_empty() => {
                write!(out, "there is no function {name}, nor any other")
            }
            Self::MissingFunction { name, defined } => {
                write!(out, "there is no function {name}; there are: {}", defined.join(", "))
            }
            Self::Memory(error) => write!(out, "the memory: {error}"),
        }
    }
}

impl std::error::Error for Error {}
