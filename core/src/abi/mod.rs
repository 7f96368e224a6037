//! The C interface: what turns [`Runtime`](crate::Runtime)'s methods into the `rt_*` symbols.
//!
//! An adapter says [`export_symbols!`](crate::export_symbols) and has them all. Each export takes and gives whole
//! registers (contract, section 1.1): narrow arguments are read from their low bits, narrow results
//! fill the register.

pub mod calls;
mod code_calls;
mod symbols;
pub mod types;

use core::ffi::CStr;
pub use types::*;

/// A name and the function behind it.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    /// `rt_…`.
    pub name: &'static CStr,
    /// The function, its real signature forgotten.
    pub function: unsafe extern "C" fn(),
}

/// An argument as the caller's register holds it.
pub trait Argument: Sized {
    /// The whole register.
    type Register;
    /// The argument in it.
    fn read(register: Self::Register) -> Self;
}

/// A result as the caller's register, or pair of registers, will hold it.
pub trait Returned {
    /// The whole register.
    type Register;
    /// The result, extended to it.
    fn extend(self) -> Self::Register;
}

macro_rules! whole_registers {
    ($([$($generic:ident)?] $name:ty),*) => {$(
        impl<$($generic)?> Argument for $name {
            type Register = Self;
            fn read(register: Self) -> Self {
                register
            }
        }
        impl<$($generic)?> Returned for $name {
            type Register = Self;
            fn extend(self) -> Self {
                self
            }
        }
    )*};
}

whole_registers!([] i64, [] u64, [] RtMapping, [] RtEachSymbol, [T] *const T, [T] *mut T);

impl Argument for i32 {
    type Register = i64;
    fn read(register: i64) -> Self {
        register as i32
    }
}

impl Argument for bool {
    type Register = i64;
    fn read(register: i64) -> Self {
        register as u8 != 0
    }
}

impl Returned for i32 {
    type Register = i64;
    fn extend(self) -> i64 {
        self.into()
    }
}

impl Returned for bool {
    type Register = i64;
    fn extend(self) -> i64 {
        self.into()
    }
}

/// C callers ignore it; the register says 0 for success.
impl Returned for () {
    type Register = i64;
    fn extend(self) -> i64 {
        0
    }
}

/// Defines all `rt_*` symbols over a `static` [`Runtime`](crate::Runtime), and `SYMBOLS`, the table of them.
/// The list's types must be in scope: `core::ffi::{c_char, c_void}` and `execmem_core::abi::*`.
///
/// What a linker or a loader binds a global name to is not for the library to say: a program may export a function
/// of that name itself. So the table has private functions, and the exported ones only jump there.
#[macro_export]
macro_rules! export_symbols {
    ($runtime:ident) => {
        $crate::for_each_symbol!($crate::__export!($runtime));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (($runtime:ident) $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)?;
    )*) => {
        /// Every exported symbol, in the order of the header.
        pub static SYMBOLS: &[$crate::abi::Symbol] = &[$($crate::abi::Symbol {
            name: match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => unreachable!(),
            },
            // SAFETY: both are addresses of functions; whoever calls it gives it its own type back.
            function: unsafe {
                core::mem::transmute::<*const (), unsafe extern "C" fn()>(functions::$name as *const ())
            },
        }),*];

        /// The functions that the exported ones stand for.
        mod functions {
            use super::*;

            $(
                // Where the exported one would be the same code, LLVM would keep that one alone.
                #[inline(never)]
                pub(super) unsafe extern "C" fn $name(
                    $($argument: <$type as $crate::abi::Argument>::Register),*
                ) -> <$result as $crate::abi::Returned>::Register {
                    // SAFETY: the caller of this function promised what the exported one asks for.
                    let outcome = unsafe {
                        $crate::abi::calls::$name(
                            $crate::__subject!($runtime, $name)
                            $(, <$type as $crate::abi::Argument>::read($argument))*
                        )
                    };
                    $crate::__outcome!($runtime, outcome $(, $failure)?)
                }
            )*
        }

        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// Pointers are valid as the contract says; code that is called or replaced is the caller's own.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name(
                $($argument: <$type as $crate::abi::Argument>::Register),*
            ) -> <$result as $crate::abi::Returned>::Register {
                // SAFETY: the caller of this function promised the same.
                unsafe { functions::$name($($argument),*) }
            }
        )*
    };
}

/// What a symbol works on. Only two need the table of all symbols: a linker can drop what a program without
/// them doesn't use.
#[doc(hidden)]
#[macro_export]
macro_rules! __subject {
    ($runtime:ident, rt_symbol_lookup) => {
        SYMBOLS
    };
    ($runtime:ident, rt_register_symbols) => {
        SYMBOLS
    };
    ($runtime:ident, $name:ident) => {
        &$runtime
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __outcome {
    ($runtime:ident, $outcome:ident) => {
        $crate::abi::Returned::extend($outcome)
    };
    ($runtime:ident, $outcome:ident, $failure:expr) => {
        match $outcome {
            Ok(result) => $crate::abi::Returned::extend(result),
            Err(error) => {
                $runtime.note_failure(error);
                $crate::abi::Returned::extend($failure)
            }
        }
    };
}

macro_rules! declarations {
    (() $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)?;
    )*) => {
        /// The names of all symbols, in the order of the list.
        pub const SYMBOL_NAMES: &[&str] = &[$(stringify!($name)),*];

        /// The list as Rust source that cbindgen understands: what the header is generated from.
        pub const DECLARATIONS: &str = concat!($(
            stringify!(
                $(#[$doc])*
                #[unsafe(no_mangle)]
                pub extern "C" fn $name($($argument: $type),*) -> $result {}
            ),
            "\n",
        )*);
    };
}

crate::for_each_symbol!(declarations!());
