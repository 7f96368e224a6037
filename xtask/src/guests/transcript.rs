//! What a guest says, read line by line. `tests/guests/src/init.rs` says it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use execmem_tests_counter::Counter;

use crate::tally::counts;

/// So many lines are shown again of a guest that did not come to its end.
const LAST_LINES: usize = 20;

/// A program that should run: its name, and what it must print if it counts nothing.
pub type Expected<'a> = (&'a str, Option<&'a str>);

/// What was read so far.
#[derive(Default)]
pub struct Transcript<'a> {
    expected: Vec<Expected<'a>>,
    /// The kernel's release, the page size and the number of processors.
    pub system: String,
    /// The programs that have ended, with what they counted.
    pub programs: Vec<(String, Counter)>,
    /// How long each of them took.
    pub times: Vec<Duration>,
    /// What went wrong that no program has counted.
    pub failures: Vec<String>,
    last: VecDeque<String>,
    open: Option<String>,
    begun: Option<Instant>,
    counted: Counter,
    /// Whether the open program has printed what it must.
    has_said: bool,
    is_done: bool,
}

impl<'a> Transcript<'a> {
    /// Of a guest that should run these programs, in this order.
    pub fn of(expected: Vec<Expected<'a>>) -> Self {
        Self { expected, ..Self::default() }
    }

    /// Reads the next line.
    pub fn read(&mut self, line: &str) {
        let line = line.trim();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
        let Some(told) = line.strip_prefix("guest: ") else {
            self.counted += counts(line).unwrap_or_default();
            self.has_said |= self.words_of(self.open.as_deref()).is_some_and(|words| line.contains(words));
            return;
        };
        match told.split_once(' ') {
            Some(("system", system)) => self.system = system.to_owned(),
            Some(("begin", name)) => {
                self.open = Some(name.to_owned());
                self.counted = Counter::default();
                self.has_said = false;
                self.begun = Some(Instant::now());
            }
            Some(("end", rest)) => self.end(rest),
            _ => self.is_done |= told == "done",
        }
    }

    /// What a program must print.
    fn words_of(&self, name: Option<&str>) -> Option<&'a str> {
        self.expected.iter().find(|(known, _)| Some(*known) == name)?.1
    }

    fn end(&mut self, rest: &str) {
        let (name, status) = rest.split_once(' ').unwrap_or((rest, "without a status"));
        if self.open.take().as_deref() != Some(name) {
            self.failures.push(format!("{name} ended without having begun"));
        }
        let mut counted = std::mem::take(&mut self.counted);
        counted.passed += u64::from(self.has_said);
        let is_success = status == "exit status: 0";
        if is_success != counted.is_success() && counted.failed == 0 {
            self.failures.push(format!("{name} reported {counted}, but ended with {status}"));
        }
        self.programs.push((name.to_owned(), counted));
        self.times.push(self.begun.map(|begun| begun.elapsed()).unwrap_or_default());
    }

    /// Nothing more will be said: what was counted, and all that has failed beside that.
    pub fn close(mut self) -> (Counter, Vec<String>) {
        if let Some(name) = self.open.take() {
            self.failures.push(format!("the guest ended while {name} ran"));
        }
        if !self.is_done {
            let said: Vec<String> = self.last.into();
            self.failures.push(format!("it did not come to its end, and said last:\n{}", said.join("\n")));
        }
        let expected = self.expected.iter().map(|(name, _)| *name);
        if self.programs.iter().map(|(name, _)| name.as_str()).ne(expected.clone()) {
            let expected: Vec<&str> = expected.collect();
            self.failures.push(format!("not these programs ran: {}", expected.join(", ")));
        }
        let mut sum = self.counted;
        self.programs.iter().for_each(|(_, counted)| sum += *counted);
        (sum, self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(said: &str) -> Transcript<'static> {
        let mut transcript = Transcript::of(vec![("a", None), ("b", Some("forty-two"))]);
        said.lines().for_each(|line| transcript.read(line));
        transcript
    }

    const GOOD: &str = "guest: system 6.12.1 16384 2\r\nguest: begin a\r\ntest x ... ok\r\n3 not applicable\r\n\
                        7 passed, 0 failed\r\nguest: end a exit status: 0\r\nguest: begin b\r\nit is forty-two\r\n\
                        guest: end b exit status: 0\r\nguest: done\r\n";

    #[test]
    fn the_counts_of_each_program_are_its_own() {
        let transcript = read(GOOD);
        assert_eq!(transcript.system, "6.12.1 16384 2");
        let a = Counter { passed: 7, failed: 0, not_applicable: 3 };
        let b = Counter { passed: 1, ..Counter::default() };
        assert_eq!(transcript.programs, [("a".to_owned(), a), ("b".to_owned(), b)]);
        let sum = Counter { passed: 8, ..a };
        assert_eq!(transcript.close(), (sum, vec![]));
    }

    #[test]
    fn the_last_lines_of_a_guest_that_panics_are_told() {
        let said =
            "guest: system 1 2 3\nguest: begin a\nKernel panic - not syncing: VFS\n---[ end Kernel panic";
        let (_, failures) = read(said).close();
        assert!(failures.iter().any(|failure| failure.contains("not syncing: VFS")), "{failures:?}");
    }

    #[test]
    fn what_failed_and_was_counted_is_told_once() {
        let failing = GOOD.replace("7 passed, 0 failed", "6 passed, 1 failed");
        let (sum, failures) = read(&failing.replace("a exit status: 0", "a exit status: 1")).close();
        assert_eq!((sum.failed, failures), (1, vec![]));
    }

    #[test]
    fn nothing_that_is_missing_goes_unnoticed() {
        for (what, said) in [
            ("a program that died", GOOD.replace("b exit status: 0", "b signal: 11 (SIGSEGV)")),
            ("one that counted nothing", GOOD.replace("7 passed, 0 failed\r\n", "")),
            ("one that did not say what it must", GOOD.replace("forty-two", "41")),
            ("one that failed and counted no failure", GOOD.replace("a exit status: 0", "a exit status: 1")),
            ("a guest that did not end", GOOD.replace("guest: done\r\n", "")),
            ("one that ended in a program", GOOD[..GOOD.find("guest: end b").unwrap()].to_owned()),
            ("one that left a program out", GOOD.replace("guest: end b exit status: 0\r\n", "")),
            ("one that said nothing", String::new()),
        ] {
            assert_ne!(read(&said).close().1, Vec::<String>::new(), "{what}");
        }
    }
}
