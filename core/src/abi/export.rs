//! The symbols of an adapter, and what tools have to know of them.

use crate::header::{RtEachSymbol, RtMapping};
use core::ffi::CStr;

/// A name and the function behind it.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    /// `rt_…`.
    pub name: &'static CStr,
    /// The function, its real signature forgotten.
    pub function: unsafe extern "C" fn(),
}

/// An argument or a result as it is passed: each export takes and gives whole registers (contract, section 1.1).
pub trait InRegister: Sized {
    /// The whole register, or pair of registers.
    type Register;
    /// An argument, from the low bits of the register that the caller filled.
    fn read(register: Self::Register) -> Self;
    /// A result, extended to the register.
    fn extend(self) -> Self::Register;
}

macro_rules! in_register {
    ($([$($generic:ident)?] $type:ty as $register:ty, |$in:ident| $read:expr;)*) => {$(
        impl<$($generic)?> InRegister for $type {
            type Register = $register;
            fn read($in: $register) -> Self {
                $read
            }
            fn extend(self) -> $register {
                self.into()
            }
        }
    )*};
}

in_register! {
    [] i64 as i64, |whole| whole;
    [] u64 as u64, |whole| whole;
    [] i32 as i64, |register| register as i32;
    [] bool as i64, |register| register as u8 != 0;
    [] RtMapping as Self, |whole| whole;
    [] RtEachSymbol as Self, |whole| whole;
    [T] *const T as Self, |whole| whole;
    [T] *mut T as Self, |whole| whole;
}

/// C callers ignore it; the register says 0 for success.
impl InRegister for () {
    type Register = i64;
    fn read(_: i64) {}
    fn extend(self) -> i64 {
        0
    }
}

/// Defines all `rt_*` symbols over a `static` [`Runtime`](crate::Runtime), and `SYMBOLS`, the table of them.
/// The list's types must be in scope: `core::ffi::{c_char, c_void}` and `execmem_core::abi::*`.
///
/// With `export_symbols!(RUNTIME, if CONDITION)` they have their C names only where a `cfg` condition of the adapter
/// holds; without names they are Rust functions like others, and the table is the same.
///
/// What a linker or a loader binds a global name to is not for the library to say: a program may export a function
/// of that name itself. So the table has private functions, and the exported ones only jump there.
#[macro_export]
macro_rules! export_symbols {
    ($runtime:ident) => {
        $crate::export_symbols!($runtime, if all());
    };
    ($runtime:ident, if $condition:meta) => {
        $crate::for_each_symbol!($crate::__export!($runtime, $condition));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    (($runtime:ident, $condition:meta) $_:ident $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)? $(=> $call:expr)?;
    )*) => {
        /// Every symbol, in the order of the header.
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
                    $($argument: <$type as $crate::abi::InRegister>::Register),*
                ) -> <$result as $crate::abi::InRegister>::Register {
                    // SAFETY: the caller of this function promised what the exported one asks for.
                    let outcome = unsafe {
                        $crate::abi::calls::$name(
                            $crate::__subject!($runtime, $name)
                            $(, <$type as $crate::abi::InRegister>::read($argument))*
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
            #[cfg_attr($condition, unsafe(no_mangle))]
            pub unsafe extern "C" fn $name(
                $($argument: <$type as $crate::abi::InRegister>::Register),*
            ) -> <$result as $crate::abi::InRegister>::Register {
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
        $crate::abi::InRegister::extend($outcome)
    };
    ($runtime:ident, $outcome:ident, $failure:expr) => {
        match $outcome {
            Ok(result) => $crate::abi::InRegister::extend(result),
            Err(error) => {
                $runtime.note_failure(error);
                $crate::abi::InRegister::extend($failure)
            }
        }
    };
}

macro_rules! declarations {
    (() $runtime:ident $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)? $(=> $call:expr)?;
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
