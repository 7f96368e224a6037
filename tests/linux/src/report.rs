//! Running and telling, in the form that `cargo test` users know.

use crate::children::{self, Outcome};
use execmem_tests_counter::Counter;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;

/// The counts of a run, and which tests were asked for.
pub struct Report {
    counter: Counter,
    failed: Vec<String>,
    left_out: usize,
    filters: Vec<String>,
    /// Parts of names, and how many tests each has left out.
    skipped: Vec<(String, usize)>,
}

impl Report {
    /// Tests whose name contains one of the program's arguments are run; all of them without arguments. Those whose name
    /// contains what is said by `--skip=` are not.
    pub fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let skipped = arguments.iter().filter_map(|argument| argument.strip_prefix("--skip="));
        let skipped = skipped.map(|part| (part.to_owned(), 0)).collect();
        let filters = arguments.into_iter().filter(|argument| !argument.starts_with('-')).collect();
        Self { counter: Counter::default(), failed: Vec::new(), left_out: 0, filters, skipped }
    }

    /// Whether all tests are wanted.
    pub fn is_complete(&self) -> bool {
        self.filters.is_empty() && self.skipped.is_empty()
    }

    fn is_wanted(&mut self, name: &str) -> bool {
        let is_asked_for = self.filters.is_empty() || self.filters.iter().any(|part| name.contains(part));
        let mut is_skipped = false;
        for (part, count) in &mut self.skipped {
            if name.contains(part.as_str()) {
                is_skipped = true;
                *count += 1;
            }
        }
        is_asked_for && !is_skipped
    }

    /// How many tests passed, failed, or could not apply.
    pub fn total(&self) -> usize {
        self.counter.total() as usize
    }

    /// Runs a test in a child, and tells. `may_not_apply` says whether the test may find that it doesn't
    /// apply here; where it may not, that is a failure.
    pub fn run(&mut self, name: &str, may_not_apply: bool, test: impl FnOnce() -> Outcome) {
        self.run_unless(name, |_| may_not_apply, test);
    }

    /// As `run`. `is_excused` says for which reasons the test may find that it doesn't apply.
    pub fn run_unless(
        &mut self,
        name: &str,
        is_excused: impl Fn(&str) -> bool,
        test: impl FnOnce() -> Outcome,
    ) {
        if !self.is_wanted(name) {
            self.left_out += 1;
            return;
        }
        let outcome = match children::run(test) {
            Outcome::NotApplicable(reason) if !is_excused(&reason) => {
                Outcome::Failed(format!("it must apply on this system, but: {reason}"))
            }
            outcome => outcome,
        };
        println!("test {name} ... {outcome}");
        match outcome {
            Outcome::Passed => self.counter.passed += 1,
            Outcome::NotApplicable(_) => self.counter.not_applicable += 1,
            Outcome::Failed(_) => self.fail(name),
        }
    }

    fn fail(&mut self, name: &str) {
        self.counter.failed += 1;
        self.failed.push(name.to_owned());
    }

    /// Tells that a whole group of tests can't be tried on this system.
    pub fn leave_out(&mut self, group: &str, reason: &str) {
        println!("test {group}: all of it ... does not apply: {reason}");
    }

    /// States something about the run itself.
    pub fn state(&mut self, name: &str, holds: bool) {
        if !holds {
            println!("test {name} ... FAILED");
            self.fail(name);
        }
    }

    /// The closing lines. A run in which nothing passed is no success, unless a filter left all out.
    pub fn close(self) -> ExitCode {
        for name in &self.failed {
            println!("failed: {name}");
        }
        for (part, count) in &self.skipped {
            println!("--skip={part} left out {count}");
        }
        if self.left_out > 0 {
            println!("{} filtered out", self.left_out);
        }
        println!("{}", self.counter);
        let is_success = self.counter.is_success() || self.failed.is_empty() && !self.is_complete();
        if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// What is written to stderr meanwhile, which is no more than fits into a pipe. No descriptor need be free then.
pub fn dumped_by(write: impl FnOnce()) -> String {
    const STDERR: RawFd = 2;
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    // SAFETY: descriptors of this process, which has one thread; stderr is put back.
    unsafe {
        let kept = libc::dup(STDERR);
        assert_eq!(libc::dup2(writer.as_raw_fd(), STDERR), STDERR);
        write();
        assert_eq!(libc::dup2(kept, STDERR), STDERR);
        libc::close(kept);
    }
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("what is written is text");
    text
}
