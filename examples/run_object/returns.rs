//! What a function returns, and how that is shown.

use execmem_object::{Error, Object};
use std::ffi::{CStr, c_char};

/// The type of a result.
#[derive(Clone, Copy)]
pub enum Returns {
    Integer,
    Hexadecimal,
    Double,
    Text,
    Nothing,
}

impl Returns {
    /// By the word of the command line.
    pub fn named(word: &str) -> Result<Self, String> {
        Ok(match word {
            "i64" => Self::Integer,
            "hex" => Self::Hexadecimal,
            "f64" => Self::Double,
            "str" => Self::Text,
            "void" => Self::Nothing,
            _ => return Err(format!("a function returns i64, hex, f64, str or void, and not {word}")),
        })
    }

    /// Calls a function with up to six integers, and gives what to print behind the call.
    ///
    /// # Safety
    /// The function takes no more integers than `arguments` has, and returns this.
    pub unsafe fn call(self, object: &Object, name: &str, arguments: &[i64]) -> Result<String, Error> {
        type Six<R> = unsafe extern "C" fn(i64, i64, i64, i64, i64, i64) -> R;
        let mut six = [0; 6];
        six[..arguments.len()].copy_from_slice(arguments);
        let [a, b, c, d, e, f] = six;
        // SAFETY: in the C convention a function doesn't see more arguments than it has; the caller vouches for the
        // rest.
        Ok(unsafe {
            match self {
                Self::Integer => {
                    format!(" = {}", shown(object.function::<Six<i64>>(name)?(a, b, c, d, e, f)))
                }
                Self::Hexadecimal => {
                    format!(" = {:#x}", object.function::<Six<i64>>(name)?(a, b, c, d, e, f))
                }
                Self::Double => format!(" = {:?}", object.function::<Six<f64>>(name)?(a, b, c, d, e, f)),
                Self::Text => {
                    let text = object.function::<Six<*const c_char>>(name)?(a, b, c, d, e, f);
                    match text.is_null() {
                        true => " = NULL".into(),
                        false => format!(" = {:?}", CStr::from_ptr(text).to_string_lossy()),
                    }
                }
                Self::Nothing => {
                    object.function::<Six<()>>(name)?(a, b, c, d, e, f);
                    " returned".into()
                }
            }
        })
    }
}

/// The result as a `long`, and as an `int` if that differs: a function that returns an `int` leaves anything in the
/// upper half of the register.
fn shown(result: i64) -> String {
    match result as i32 {
        int if i64::from(int) == result => result.to_string(),
        int => format!("{result} (as an int: {int})"),
    }
}
