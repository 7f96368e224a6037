//! How many tests passed and failed, in every program that runs tests, on any system.
#![no_std]

use core::fmt;
use core::ops::AddAssign;

/// A count. Printed it is the line that closes a run, `N passed, N failed`, and before that how many tests could not
/// apply, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Tests that hold.
    pub passed: u64,
    /// Tests that don't.
    pub failed: u64,
    /// Tests that need what the system lacks.
    pub not_applicable: u64,
}

impl Counter {
    /// All tests that ran.
    pub fn total(self) -> u64 {
        self.passed + self.failed + self.not_applicable
    }

    /// Whether something passed and nothing failed: a run without a single test proves nothing.
    pub fn is_success(self) -> bool {
        self.passed > 0 && self.failed == 0
    }
}

impl AddAssign for Counter {
    fn add_assign(&mut self, other: Counter) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.not_applicable += other.not_applicable;
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.not_applicable > 0 {
            writeln!(formatter, "{} not applicable", self.not_applicable)?;
        }
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::string::ToString;

    #[test]
    fn the_closing_line_stands_alone_in_the_last_line() {
        let mut counter = Counter { passed: 3, failed: 1, not_applicable: 0 };
        assert_eq!(counter.to_string(), "3 passed, 1 failed");
        counter += Counter { passed: 1, failed: 0, not_applicable: 2 };
        assert_eq!(counter.to_string(), "2 not applicable\n4 passed, 1 failed");
        assert_eq!(counter.total(), 7);
    }

    #[test]
    fn only_a_run_that_proved_something_is_a_success() {
        assert!(!Counter::default().is_success());
        assert!(!Counter { not_applicable: 1, ..Counter::default() }.is_success());
        assert!(Counter { passed: 1, ..Counter::default() }.is_success());
        assert!(!Counter { passed: 1, failed: 1, not_applicable: 0 }.is_success());
    }
}
