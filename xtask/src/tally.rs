//! Counting what passed and what failed.

use std::fmt;
use std::ops::AddAssign;
use std::process::Command;

use crate::process::{shown, watch};
use crate::result::Result;

/// How many tests passed and how many failed. Printed in the form that closes each run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Whether something ran and nothing failed: a run without a single test proves nothing.
    pub fn is_success(self) -> bool {
        self.passed > 0 && self.failed == 0
    }

    /// One test of our own, told like those of `cargo test`.
    pub fn check(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        match test() {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(reason) => {
                println!("test {name} ... FAILED");
                self.fail(&reason);
            }
        }
    }

    /// A failure that has no test's name: something could not even start.
    pub fn fail(&mut self, reason: &str) {
        println!("{reason}");
        self.failed += 1;
    }

    /// Runs `cargo test` in some form and adds up what its test programs report.
    pub fn cargo_test(&mut self, command: &mut Command) {
        self.add_reported(command, Tally::of_cargo_line);
    }

    /// Runs a program that closes with `N passed, N failed`.
    pub fn client(&mut self, command: &mut Command) {
        self.add_reported(command, Tally::of_closing_line);
    }

    fn add_reported(&mut self, command: &mut Command, parse: fn(&str) -> Option<Tally>) {
        let mut reported = Tally::default();
        let outcome = watch(command, |line| reported += parse(line).unwrap_or_default());
        *self += reported;
        match outcome {
            Err(reason) => self.fail(&reason),
            // It did not build, or a test program died before it could report.
            Ok(status) if !status.success() && reported.failed == 0 => {
                self.fail(&format!("`{}` failed ({status})", shown(command)));
            }
            Ok(_) if reported == Tally::default() => {
                self.fail(&format!("`{}` ran no test", shown(command)));
            }
            Ok(_) => {}
        }
    }

    /// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`
    fn of_cargo_line(line: &str) -> Option<Tally> {
        let (_verdict, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = counts.split("; ");
        Tally::of_words(counts.next()?, counts.next()?)
    }

    /// `3 passed, 0 failed`
    pub fn of_closing_line(line: &str) -> Option<Tally> {
        let (passed, failed) = line.trim().split_once(", ")?;
        Tally::of_words(passed, failed)
    }

    fn of_words(passed: &str, failed: &str) -> Option<Tally> {
        Some(Tally {
            passed: passed.strip_suffix(" passed")?.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_lines_of_cargo_test_are_added_up() {
        let mut tally = Tally::default();
        tally.cargo_test(&mut shell(
            "echo 'running 4 tests'
             echo 'test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'
             echo 'test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out'
             exit 101",
        ));
        assert_eq!(tally, Tally { passed: 6, failed: 3 });
    }

    #[test]
    fn a_client_is_counted_by_its_closing_line() {
        let mut tally = Tally::default();
        tally.client(&mut shell("echo 'a check of 7 passed, 1 failed'; echo '7 passed, 0 failed'"));
        assert_eq!(tally, Tally { passed: 7, failed: 0 });
    }

    #[test]
    fn a_program_that_dies_or_runs_nothing_is_a_failure() {
        for script in ["exit 101", "kill -9 $$", "true", "echo '0 passed, 0 failed'"] {
            let mut tally = Tally::default();
            tally.client(&mut shell(script));
            assert_eq!(tally, Tally { passed: 0, failed: 1 }, "{script}");
        }
    }

    #[test]
    fn a_death_after_a_good_report_is_still_a_failure() {
        let mut tally = Tally::default();
        tally.client(&mut shell("echo '3 passed, 0 failed'; kill -9 $$"));
        assert_eq!(tally, Tally { passed: 3, failed: 1 });
        assert!(!tally.is_success());
    }

    #[test]
    fn nothing_executed_is_no_success() {
        assert!(!Tally::default().is_success());
        let mut tally = Tally::default();
        tally.check("a check that holds", || Ok(()));
        assert!(tally.is_success());
        tally.check("a check that does not", || Err("because".to_owned()));
        assert_eq!(tally.to_string(), "1 passed, 1 failed");
        assert!(!tally.is_success());
    }
}
