//! What became of a rule: it holds, it can't apply here, or it failed and this is where.

use crate::symbols::rt_last_error;
use core::fmt::{self, Debug, Write};
use core::panic::Location;

/// What a rule returns; `Err` says why it stopped early.
pub type Verdict = Result<(), Stop>;

/// What a system may lack: `Err` is the reason, in words for the report.
pub type Offer<T> = Result<T, &'static str>;

/// Why a rule stopped early.
#[derive(Debug)]
pub enum Stop {
    /// The library broke the rule.
    Failed(Failure),
    /// The system lacks what the rule needs. Not a success: harnesses print the reason.
    NotApplicable(&'static str),
}

impl From<&'static str> for Stop {
    fn from(reason: &'static str) -> Self {
        Self::NotApplicable(reason)
    }
}

/// An expectation that did not come true.
#[derive(Debug)]
pub struct Failure {
    /// Where it is written.
    pub place: &'static Location<'static>,
    /// The expectation as it is written there.
    pub expectation: &'static str,
    /// What was found, as text.
    pub found: Text,
    /// The thread's last error at that moment.
    pub last_error: i32,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, expectation, found, last_error } = self;
        write!(formatter, "{}:{}: {expectation}{found} (last error {last_error})", place.file(), place.line())
    }
}

/// What fits into a [`Text`]. A verdict is passed up through every check: it should stay small.
const TEXT: usize = 79;

/// A short text without an allocator; what doesn't fit is cut off.
pub struct Text {
    bytes: [u8; TEXT],
    length: u8,
}

impl Text {
    const EMPTY: Self = Self { bytes: [0; TEXT], length: 0 };

    fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length as usize]).unwrap_or_default()
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = self.length as usize;
        let fitting = &text[..text.floor_char_boundary(TEXT - start)];
        self.bytes[start..start + fitting.len()].copy_from_slice(fitting.as_bytes());
        self.length += fitting.len() as u8;
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Stop {
    /// A failure at a place that is not the caller's own, with what was found.
    pub fn failed(
        place: &'static Location<'static>,
        expectation: &'static str,
        found: fmt::Arguments<'_>,
    ) -> Self {
        let last_error = rt_last_error();
        let mut text = Text::EMPTY;
        // A `Text` takes everything.
        let _ = text.write_fmt(found);
        Self::Failed(Failure { place, expectation, found: text, last_error })
    }
}

/// States that a condition is true.
#[track_caller]
pub fn expect(holds: bool, expectation: &'static str) -> Verdict {
    match holds {
        true => Ok(()),
        false => Err(Stop::failed(Location::caller(), expectation, format_args!(""))),
    }
}

/// States that two things are equal.
#[track_caller]
pub fn expect_equal<L: PartialEq<R> + Debug, R: Debug>(
    left: L,
    right: R,
    expectation: &'static str,
) -> Verdict {
    if left == right {
        return Ok(());
    }
    let found = format_args!(": {left:?} is not {right:?}");
    Err(Stop::failed(Location::caller(), expectation, found))
}

/// The rule goes on only if the condition is true.
macro_rules! check {
    ($condition:expr) => {
        $crate::verdict::expect($condition, stringify!($condition))?
    };
}

/// The rule goes on only if both sides are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr) => {
        $crate::verdict::expect_equal($left, $right, concat!(stringify!($left), " == ", stringify!($right)))?
    };
}

/// The rule goes on only if the call gives its failure value and says why: `check_fails!(call, value, code)`.
/// Another error is provoked first, so that a code left over from before is noticed.
macro_rules! check_fails {
    ($call:expr, $failure:expr, $code:expr) => {
        $crate::verdict::provoke_other_error($code);
        $crate::verdict::check_eq!($call, $failure);
        $crate::verdict::expect_equal(
            $crate::symbols::rt_last_error(),
            $code,
            concat!("the last error of ", stringify!($call), " is ", stringify!($code)),
        )?
    };
}

/// The rule goes on only if a lookup gives this answer and leaves the thread's last error and the count of failures
/// alone: `check_looks_up!(call, answer)`.
macro_rules! check_looks_up {
    ($call:expr, $answer:expr) => {
        $crate::verdict::provoke_other_error(execmem_core::abi::RT_ERROR_NONE);
        let (error, failed) = ($crate::symbols::rt_last_error(), $crate::memory::statistics()?.failed_calls);
        $crate::verdict::check_eq!($call, $answer);
        $crate::verdict::check_eq!($crate::symbols::rt_last_error(), error);
        $crate::verdict::check_eq!($crate::memory::statistics()?.failed_calls, failed);
    };
}

pub(crate) use {check, check_eq, check_fails, check_looks_up};

/// Leaves a last error that is not `code`.
pub fn provoke_other_error(code: i32) {
    use execmem_core::abi::RT_ERROR_INVALID_ARGUMENT;
    match code {
        RT_ERROR_INVALID_ARGUMENT => drop(crate::symbols::rt_value_free(0)),
        _ => drop(crate::symbols::rt_get_function_pointer(0)),
    }
}
