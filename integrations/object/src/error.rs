//! What can be wrong with an object. `message` has the sentences.

use crate::architecture::Architecture;

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
    /// This symbol is for exceptions. They can't pass through code that was compiled for macOS.
    Unwinding(String),
    /// This function (`pthread_atfork`) has others called later, when the image may be gone.
    LaterCall(String),
    /// The process is hardened by `RT_HARDEN_BTI`, and the code doesn't say that it has landing pads.
    NoLandingPads,
    /// No indirect branch can end at this function: it has no landing pad, and the object's pages ask for them.
    NotALandingPad(String),
    /// The object has indirect functions, whose addresses are known when it is started.
    NotStarted,
    /// This section or common symbol asks for a larger alignment than there is.
    Alignment {
        /// Its name.
        name: String,
        /// The largest alignment, in bytes.
        limit: u64,
    },
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
    /// These symbols are defined neither in what is linked nor by the resolver.
    MissingSymbols(Vec<String>),
    /// Two objects define this symbol.
    DuplicateSymbol(String),
    /// Objects for two architectures.
    MixedArchitectures(Architecture, Architecture),
    /// An archive that holds names of files, and not the objects.
    ThinArchive,
    /// An archive without an index of its symbols.
    NoIndex,
    /// What is wrong in one of several files.
    InFile {
        /// The file's name, for a member of an archive `archive(member)`.
        file: String,
        /// What is wrong.
        error: Box<Error>,
    },
    /// A library that the system's loader refuses.
    Library {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A function that the object does not define.
    MissingFunction {
        /// The one that was asked for.
        name: String,
        /// Those that it does define.
        defined: Vec<String>,
    },
    /// A variable that the object does not define.
    MissingData {
        /// The one that was asked for.
        name: String,
        /// Those that it does define.
        defined: Vec<String>,
    },
    /// A variable of another size.
    OtherSize {
        /// Its name.
        name: String,
        /// The bytes that it has.
        size: u64,
        /// The bytes that were asked for.
        expected: u64,
    },
    /// execmem refuses the memory or the call.
    Memory(execmem::ErrorKind),
}

/// Why a value can't be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It has too many bits.
    OutOfRange,
    /// The field has no room for its low bits, and they aren't zero.
    Misaligned,
}

impl From<execmem::ErrorKind> for Error {
    fn from(error: execmem::ErrorKind) -> Self {
        Self::Memory(error)
    }
}

impl From<object::Error> for Error {
    fn from(error: object::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl std::error::Error for Error {}
