//! A call of each symbol of the list.

use crate::arguments::{Argument, Draw, Kept};
use core::ffi::{c_char, c_void};
use execmem_core::abi::*;

/// A symbol, and a call of it with arguments that are drawn.
pub struct Call {
    pub name: &'static str,
    pub make: fn(&mut Draw) -> Outcome,
}

/// What the result says.
#[derive(Clone, Copy)]
pub enum Outcome {
    Succeeded,
    Failed,
    /// The symbol has no failure value.
    Silent,
}

trait Judged<F> {
    fn outcome(&self, failure: F) -> Outcome;
}

impl<T: PartialEq> Judged<T> for T {
    fn outcome(&self, failure: T) -> Outcome {
        if *self == failure { Outcome::Failed } else { Outcome::Succeeded }
    }
}

/// The register holds the same, whether it fails or not.
impl Judged<i64> for () {
    fn outcome(&self, _: i64) -> Outcome {
        Outcome::Silent
    }
}

macro_rules! calls {
    (() $runtime:ident $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)? $(=> $call:expr)?;
    )*) => {
        unsafe extern "C" {
            $(fn $name($($argument: $type),*) -> $result;)*
        }

        /// All symbols.
        pub const CALLS: &[Call] = &[$(Call {
            name: stringify!($name),
            make: |draw| {
                $(let $argument = <$type>::drawn(draw, stringify!($argument));)*
                // SAFETY: `drawn` keeps what the contract asks of a caller.
                let result = unsafe { $name($($argument),*) };
                result.keep(draw);
                #[allow(unused_assignments, unused_mut, reason = "some have no failure value")]
                let mut outcome = Outcome::Silent;
                $(outcome = result.outcome($failure);)?
                outcome
            },
        }),*];
    };
}

execmem_core::for_each_symbol!(calls!());
