//! Why a call failed: one enum, its stable code, its sentence.

use core::ffi::CStr;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $sentence:literal;)*) => {
        /// Why a call failed. The discriminant is the code that `rt_last_error` gives.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Error {
            $($(#[$doc])* $name = $code,)*
        }

        impl Error {
            /// Every error, in the order of the codes.
            pub const ALL: &[Error] = &[$(Error::$name),*];

            /// The sentence for people, as C wants it.
            pub const fn message(self) -> &'static CStr {
                match self {
                    $(Error::$name => const {
                        match CStr::from_bytes_with_nul(concat!($sentence, "\0").as_bytes()) {
                            Ok(text) => text,
                            Err(_) => panic!("a sentence has no NUL inside"),
                        }
                    },)*
                }
            }
        }
    };
}

errors! {
    /// An argument is outside what the contract allows.
    InvalidArgument = 1, "invalid argument";
    /// An offset or a length reaches past the end of a file.
    OutOfRange = 2, "out of range: past the end of the file";
    /// The range is not inside one live region of this library.
    NotOwned = 3, "not owned: the range is not inside one live region of this library";
    /// The size differs from the one that was requested.
    WrongSize = 4, "wrong size: not the size that was requested";
    /// The system has no memory, address space or mapping left.
    NoMemory = 5, "no memory";
    /// A single allocation above the limit.
    OverLimit = 6, "over the limit for a single allocation";
    /// The system or the W^X policy refuses.
    Refused = 7, "refused by the system or by the W^X policy";
    /// The pages' protection does not allow it.
    WrongProtection = 8, "wrong protection: the pages do not allow this access";
    /// The address is not executable.
    NotExecutable = 9, "not executable";
    /// No such file, symbol or mapping.
    NotFound = 10, "not found";
    /// The path names a directory, a FIFO, a device or a socket.
    NotRegularFile = 11, "not a regular file";
    /// An empty file can't be mapped.
    EmptyFile = 12, "empty file";
    /// The device or the file system failed, or a mapped file shrank.
    Io = 13, "input/output error";
    /// This system can't do it.
    Unsupported = 14, "unsupported on this system";
    /// The value is not a byte array.
    BadValue = 15, "bad value: not a byte array";
    /// The environment variable `EXECMEM_POLICY` holds something that is no policy's name.
    UnknownPolicy = 16, "unknown policy: the environment variable EXECMEM_POLICY names none";
}

impl Error {
    /// The error with this code.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|error| *error as i32 == code)
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.message().to_str().unwrap_or_default())
    }
}

impl core::error::Error for Error {}
