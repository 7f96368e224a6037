//! Counting what passed and what failed, here and in the programs that are run.

use std::process::Command;

use execmem_tests_counter::Counter;

use crate::process::{shown, watch};
use crate::result::Result;

/// The counts of a part of the tests.
#[derive(Default)]
pub struct Tally {
    counter: Counter,
    is_left_out: bool,
}

impl Tally {
    /// What was counted so far.
    pub fn counter(&self) -> Counter {
        self.counter
    }

    /// Adds what a program has reported.
    pub fn add(&mut self, reported: Counter) {
        self.counter += reported;
    }

    /// One test of our own, told like those of `cargo test`.
    pub fn check(&mut self, name: &str, test: impl FnOnce() -> Result<()>) {
        match test() {
            Ok(()) => {
                println!("test {name} ... ok");
                self.counter.passed += 1;
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
        self.counter.failed += 1;
    }

    /// Tells why this machine can't run the part. That is no success of the part, and no failure of a run of all parts;
    /// where the machine has to be able to, it is a failure.
    pub fn leave_out(&mut self, reason: &str) {
        if std::env::var_os("CI").is_some_and(|value| value == "true") {
            return self.fail(reason);
        }
        println!("left out: {reason}");
        self.is_left_out = true;
    }

    /// Whether nothing was counted since this machine can't run the part.
    pub fn is_left_out(&self) -> bool {
        self.is_left_out && self.counter == Counter::default()
    }

    /// Runs programs that report what passed and failed, and adds that up: `cargo test` in some form, or one program.
    pub fn run(&mut self, command: &mut Command) {
        let mut reported = Counter::default();
        let outcome = watch(command, |line| reported += counts(line).unwrap_or_default());
        self.add(reported);
        match outcome {
            Err(reason) => self.fail(&reason),
            // It did not build, or a test program died before it could report.
            Ok(status) if !status.success() && reported.failed == 0 => {
                self.fail(&format!("`{}` failed ({status})", shown(command)));
            }
            Ok(_) if reported.passed + reported.failed == 0 => {
                self.fail(&format!("`{}` ran no test", shown(command)));
            }
            Ok(_) => {}
        }
    }
}

/// The counts in a line that closes a run: `3 passed, 0 failed`, before it `1 not applicable`, and the same as cargo's
/// own test programs say it, `test result: ok. 3 passed; 0 failed; 0 ignored; ...`.
pub fn counts(line: &str) -> Option<Counter> {
    let line = line.trim();
    if let Some(count) = line.strip_suffix(" not applicable") {
        return Some(Counter { not_applicable: count.parse().ok()?, ..Counter::default() });
    }
    let (passed, failed) = match line.strip_prefix("test result: ") {
        Some(rest) => {
            let mut counts = rest.split_once(". ")?.1.split("; ");
            (counts.next()?, counts.next()?)
        }
        None => line.split_once(", ")?,
    };
    Some(Counter {
        passed: passed.strip_suffix(" passed")?.parse().ok()?,
        failed: failed.strip_suffix(" failed")?.parse().ok()?,
        not_applicable: 0,
    })
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
        tally.run(&mut shell(
            "echo 'running 4 tests'
             echo 'test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out'
             echo 'test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out'
             exit 101",
        ));
        assert_eq!(tally.counter(), Counter { passed: 6, failed: 3, not_applicable: 0 });
    }

    #[test]
    fn a_client_is_counted_by_its_closing_line() {
        let mut tally = Tally::default();
        tally.run(&mut shell(
            "echo 'a check of 7 passed, 1 failed'; echo '2 not applicable'; echo '7 passed, 0 failed'",
        ));
        assert_eq!(tally.counter(), Counter { passed: 7, failed: 0, not_applicable: 2 });
    }

    #[test]
    fn a_program_that_dies_or_runs_nothing_is_a_failure() {
        for script in
            ["exit 101", "kill -9 $$", "true", "echo '0 passed, 0 failed'", "echo '1 not applicable'"]
        {
            let mut tally = Tally::default();
            tally.run(&mut shell(script));
            let Counter { passed, failed, .. } = tally.counter();
            assert_eq!((passed, failed), (0, 1), "{script}");
        }
    }

    #[test]
    fn a_death_after_a_good_report_is_still_a_failure() {
        let mut tally = Tally::default();
        tally.run(&mut shell("echo '3 passed, 0 failed'; kill -9 $$"));
        assert_eq!(tally.counter(), Counter { passed: 3, failed: 1, not_applicable: 0 });
    }

    #[test]
    fn a_check_counts_as_a_test() {
        let mut tally = Tally::default();
        tally.check("a check that holds", || Ok(()));
        tally.check("a check that does not", || Err("because".to_owned()));
        assert_eq!(tally.counter(), Counter { passed: 1, failed: 1, not_applicable: 0 });
    }
}
