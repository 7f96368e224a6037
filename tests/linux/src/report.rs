//! Counting and telling, in the form that `cargo test` users know.

use crate::children::{self, Outcome};
use std::process::ExitCode;

/// The counts of a run, and which tests were asked for.
pub struct Report {
    passed: usize,
    failed: Vec<String>,
    not_applicable: usize,
    left_out: usize,
    filters: Vec<String>,
}

impl Report {
    /// Tests whose name contains one of the program's arguments are run; all of them without arguments.
    pub fn from_arguments() -> Self {
        let filters = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
        Self { passed: 0, failed: Vec::new(), not_applicable: 0, left_out: 0, filters }
    }

    /// Whether all tests are wanted.
    pub fn is_complete(&self) -> bool {
        self.filters.is_empty()
    }

    /// How many tests passed, failed, or could not apply.
    pub fn total(&self) -> usize {
        self.passed + self.failed.len() + self.not_applicable
    }

    /// Runs a test in a child, and tells. `may_not_apply` says whether the test may find that it doesn't
    /// apply here; where it may not, that is a failure.
    pub fn run(&mut self, name: &str, may_not_apply: bool, test: impl FnOnce() -> Outcome) {
        if !self.is_complete() && !self.filters.iter().any(|filter| name.contains(filter.as_str())) {
            self.left_out += 1;
            return;
        }
        let outcome = match children::run(test) {
            Outcome::NotApplicable(reason) if !may_not_apply => {
                Outcome::Failed(format!("it must apply on this system, but: {reason}"))
            }
            outcome => outcome,
        };
        println!("test {name} ... {outcome}");
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::NotApplicable(_) => self.not_applicable += 1,
            Outcome::Failed(_) => self.failed.push(name.to_owned()),
        }
    }

    /// Tells that a whole group of tests can't be tried on this system.
    pub fn leave_out(&mut self, group: &str, reason: &str) {
        println!("test {group}: all of it ... does not apply: {reason}");
    }

    /// States something about the run itself.
    pub fn state(&mut self, name: &str, holds: bool) {
        if !holds {
            println!("test {name} ... FAILED");
            self.failed.push(name.to_owned());
        }
    }

    /// The closing lines. A run in which nothing passed is no success, unless a filter left all out.
    pub fn close(self) -> ExitCode {
        for name in &self.failed {
            println!("failed: {name}");
        }
        let is_success = self.failed.is_empty() && (self.passed > 0 || !self.is_complete());
        println!(
            "\ntest result: {}. {} passed; {} failed; {} not applicable; {} filtered out\n",
            if is_success { "ok" } else { "FAILED" },
            self.passed,
            self.failed.len(),
            self.not_applicable,
            self.left_out,
        );
        if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
