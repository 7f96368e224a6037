//! Why a call failed: one enum, its stable code, its sentence.

use crate::header::*;
use core::ffi::CStr;

const fn c_string(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a sentence has no NUL inside"),
    }
}

macro_rules! errors {
    ($($name:ident = $code:ident, $sentence:literal;)*) => {
        /// Why a call failed. The discriminant is the code that `rt_last_error` gives.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Error {
            $(#[doc = $sentence] $name = $code,)*
        }

        impl Error {
            /// Every error, in the order of the codes.
            pub const ALL: &[Error] = &[$(Error::$name),*];

            /// The sentence for people, as C wants it.
            pub const fn message(self) -> &'static CStr {
                match self {
                    $(Error::$name => const { c_string(concat!($sentence, "\0")) },)*
                }
            }
        }
    };
}

errors! {
    InvalidArgument = RT_ERROR_INVALID_ARGUMENT, "invalid argument";
    OutOfRange = RT_ERROR_OUT_OF_RANGE, "out of range: past the end of the file";
    NotOwned = RT_ERROR_NOT_OWNED, "not owned: the range is not inside one live region of this library";
    WrongSize = RT_ERROR_WRONG_SIZE, "wrong size: not the size that was requested";
    NoMemory = RT_ERROR_NO_MEMORY, "no memory";
    OverLimit = RT_ERROR_OVER_LIMIT, "over the limit for a single allocation";
    Refused = RT_ERROR_REFUSED, "refused by the system or by the W^X policy";
    WrongProtection = RT_ERROR_WRONG_PROTECTION, "wrong protection: the pages do not allow this access";
    NotExecutable = RT_ERROR_NOT_EXECUTABLE, "not executable";
    NotFound = RT_ERROR_NOT_FOUND, "not found";
    NotRegularFile = RT_ERROR_NOT_REGULAR_FILE, "not a regular file";
    EmptyFile = RT_ERROR_EMPTY_FILE, "empty file";
    Io = RT_ERROR_IO, "input/output error";
    Unsupported = RT_ERROR_UNSUPPORTED, "unsupported on this system";
    BadValue = RT_ERROR_BAD_VALUE, "bad value: not a byte array";
    UnknownPolicy = RT_ERROR_UNKNOWN_POLICY, "unknown policy: the environment variable EXECMEM_POLICY names none";
}

impl Error {
    /// The error with this code.
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|error| *error as i32 == code)
    }
}

/// What a call gives, or why it failed.
pub(crate) type Result<T = ()> = core::result::Result<T, Error>;

impl core::fmt::Display for Error {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter.write_str(self.message().to_str().unwrap_or_default())
    }
}

impl core::error::Error for Error {}
