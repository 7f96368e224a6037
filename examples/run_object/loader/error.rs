//! What can be wrong with an object file, each with its sentence.

use super::proportion::ZEROED_LIMIT;
use super::relocate::{Architecture, Misfit};
use object::elf;
use std::fmt;

/// Why an object can't be loaded or a function in it can't be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file is something else than an object: what.
    NotAnObject(&'static str),
    /// A 32-bit or a big-endian file.
    WrongClass,
    /// An ELF or Mach-O file, but a program or a shared library.
    NotRelocatable,
    /// Code for a machine that no relocations are known for: its number in the file's format.
    UnknownMachine(u32),
    /// Code for another machine than this one.
    WrongArchitecture(Architecture),
    /// An offset, size or index leads nowhere.
    Damaged(String),
    /// The file is sound, and this loader lacks something that it needs.
    Unsupported(String),
    /// A section that wants to be writable and executable.
    WritableCode(String),
    /// A symbol or a section of thread-local storage.
    ThreadLocal(String),
    /// Code wants to be on the stack.
    ExecutableStack,
    /// A section with a piece of the function that the C runtime's own objects begin and end.
    FunctionPiece(String),
    /// A symbol of the machinery that passes exceptions on.
    Unwinding(String),
    /// A function that takes others to be called later, by a process that doesn't know of the image's end.
    LaterCall(String),
    /// A symbol whose address a function of the object would have to choose.
    IndirectFunction(String),
    /// A section or common symbol that wants more than page alignment.
    Alignment(String),
    /// More than 2 GiB in all.
    TooLarge,
    /// More zeroed data than [`ZEROED_LIMIT`].
    TooMuchZeroed,
    /// A relocation that this loader does not know.
    UnknownRelocation {
        /// Whose numbering.
        architecture: Architecture,
        /// The ELF number.
        kind: elf::RelocationType,
        /// The section that it is in.
        section: String,
    },
    /// A relocation whose value does not fit.
    Misfit {
        /// How it does not fit.
        misfit: Misfit,
        /// Whose numbering.
        architecture: Architecture,
        /// The ELF number.
        kind: elf::RelocationType,
        /// `section+offset`.
        place: String,
        /// What it refers to.
        symbol: String,
    },
    /// A symbol that neither the object nor the process defines.
    MissingSymbol(String),
    /// A function that the object does not define.
    MissingFunction {
        /// The one that was asked for.
        name: String,
        /// Those that it does define.
        defined: Vec<String>,
    },
    /// The memory library refuses.
    Memory(execmem::Error),
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
            Self::TooMuchZeroed => {
                write!(out, "the object needs more than {} MiB of zeroed data", ZEROED_LIMIT >> 20)
            }
            Self::UnknownRelocation { architecture, kind, section } => {
                let kind = Kind(*architecture, *kind);
                write!(out, "unknown relocation {kind} in {section}")
            }
            Self::Misfit { misfit, architecture, kind, place, symbol } => {
                let kind = Kind(*architecture, *kind);
                match misfit {
                    Misfit::OutOfRange => write!(
                        out,
                        "{symbol} is out of range of the relocation {kind} at {place}; compiling with -fPIC may help"
                    ),
                    Misfit::Misaligned => {
                        write!(out, "{symbol} is misaligned for the relocation {kind} at {place}")
                    }
                }
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

/// A relocation's name in the psABI, or its number.
struct Kind(Architecture, elf::RelocationType);

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match elf::machine_names(self.0.machine()).r.name(self.1) {
            Some(name) => write!(out, "{name}"),
            None => write!(out, "number {}", self.1.0),
        }
    }
}
