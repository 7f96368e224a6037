//! Why an owner could not be had, or not do what was asked.

use core::fmt;
pub use execmem_core::Error as ErrorKind;

/// A call that failed: which one, why, and what it was about.
///
/// ```
/// use execmem::{CodeMemory, ErrorKind};
/// let error = CodeMemory::near(4096, 1 << 40, 16).unwrap_err();
/// assert_eq!((error.kind(), error.call()), (ErrorKind::NoMemory, "CodeMemory::near"));
/// assert_eq!(error.to_string(), "CodeMemory::near: no memory (4096 bytes at 0x10000000000)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    call: &'static str,
    address: usize,
    size: usize,
}

impl Error {
    /// Why: what to do depends on it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The method that failed, as in `Function::reserve`; empty for an operation of [`runtime()`](crate::runtime).
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// Where it was to work, or near which address; 0 if anywhere.
    pub fn address(&self) -> usize {
        self.address
    }

    /// How many bytes it was about; 0 if it was not about bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self { kind, call: "", address: 0, size: 0 }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, call, address, size } = *self;
        match call {
            "" => write!(formatter, "{kind}"),
            _ => write!(formatter, "{call}: {kind}"),
        }?;
        match (size, address) {
            (0, 0) => Ok(()),
            (_, 0) => write!(formatter, " ({size} bytes)"),
            (0, _) => write!(formatter, " (at {address:#x})"),
            _ => write!(formatter, " ({size} bytes at {address:#x})"),
        }
    }
}

impl core::error::Error for Error {}

/// Makes errors of one call.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) address: usize,
    pub(crate) size: usize,
}

impl Call {
    /// What a failure of this call says.
    pub(crate) fn failed(self, kind: ErrorKind) -> Error {
        Error { kind, call: self.name, address: self.address, size: self.size }
    }
}

/// A number for the core, above 0.
pub(crate) fn positive(number: usize) -> Result<i64, ErrorKind> {
    i64::try_from(number).ok().filter(|number| *number > 0).ok_or(ErrorKind::InvalidArgument)
}

/// A number for the core.
pub(crate) fn signed(number: usize) -> Result<i64, ErrorKind> {
    i64::try_from(number).map_err(|_| ErrorKind::InvalidArgument)
}
