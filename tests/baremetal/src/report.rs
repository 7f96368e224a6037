//! Counting and telling, in the form that `cargo test` users know, and leaving QEMU with the outcome.

use core::fmt::{self, Write};
use execmem_conformance::{Stop, Verdict};
use execmem_os_baremetal::console;
use execmem_tests_counter::Counter;

/// The counts of a run.
#[derive(Default)]
pub struct Report {
    counter: Counter,
}

impl Report {
    /// Runs a test, and tells. Where it must apply, finding that it doesn't is a failure.
    pub fn run(&mut self, name: fmt::Arguments<'_>, must_apply: bool, test: impl FnOnce() -> Verdict) {
        match test() {
            Ok(()) => {
                self.counter.passed += 1;
                println!("test {name} ... ok");
            }
            Err(Stop::NotApplicable(reason)) if !must_apply => {
                self.counter.not_applicable += 1;
                println!("test {name} ... not applicable: {reason}");
            }
            Err(Stop::NotApplicable(reason)) => {
                self.counter.failed += 1;
                println!("test {name} ... FAILED: it must apply here, but: {reason}");
            }
            Err(Stop::Failed(failure)) => {
                self.counter.failed += 1;
                println!("test {name} ... FAILED: {failure}");
            }
        }
    }

    /// One test that always applies.
    pub fn test(&mut self, name: &str, test: impl FnOnce() -> Verdict) {
        self.run(format_args!("{name}"), true, test);
    }

    /// How many tests passed, failed, or could not apply.
    pub fn total(&self) -> usize {
        self.counter.total() as usize
    }

    /// How many passed.
    pub fn passed(&self) -> usize {
        self.counter.passed as usize
    }

    /// The closing line, and the end of QEMU, whose exit status tells whether all is well.
    pub fn close(self) -> ! {
        println!("{}", self.counter);
        semihosting::process::exit(i32::from(!self.counter.is_success()))
    }
}

/// A line on the stack, so that it is printed in one piece.
struct Line {
    text: [u8; 400],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let count = text.len().min(self.text.len() - 1 - self.length);
        self.text[self.length..self.length + count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

/// Prints a line; what is too long is cut off.
pub fn print_line(arguments: fmt::Arguments<'_>) {
    let mut line = Line { text: [0; 400], length: 0 };
    // It takes everything.
    let _ = line.write_fmt(arguments);
    line.text[line.length] = b'\n';
    console::print(&line.text[..=line.length]);
}

macro_rules! println {
    ($($arguments:tt)*) => { $crate::report::print_line(format_args!($($arguments)*)) };
}

/// The test goes on only if the condition is true.
macro_rules! check {
    ($condition:expr) => {
        execmem_conformance::verdict::expect($condition, stringify!($condition))?
    };
}

/// The test goes on only if both sides are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr) => {
        execmem_conformance::verdict::expect_equal(
            $left,
            $right,
            concat!(stringify!($left), " == ", stringify!($right)),
        )?
    };
}

pub(crate) use {check, check_eq, println};
