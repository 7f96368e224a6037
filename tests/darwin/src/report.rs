//! Running everything, and telling.

use crate::files_for_rules::Folder;
use crate::scenarios::{self, Machine};
use crate::suite::{self, Outcome, Setting};
use execmem_tests_counter::Counter;
use std::path::Path;
use std::process::ExitCode;

/// The counts of a run.
pub struct Report<'a> {
    word: &'a str,
    counter: Counter,
}

impl<'a> Report<'a> {
    /// Nothing was run yet. Only tests whose names contain the word will be.
    pub fn new(word: &'a str) -> Self {
        Self { word, counter: Counter::default() }
    }

    fn tell(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Outcome::Passed => {
                println!("test {name} ... ok");
                self.counter.passed += 1;
            }
            Outcome::NotApplicable(reason) => {
                println!("test {name} ... not applicable: {reason}");
                self.counter.not_applicable += 1;
            }
            Outcome::Failed(reason) => {
                println!("test {name} ... FAILED\n{reason}");
                self.counter.failed += 1;
            }
        }
    }

    /// Runs every scenario on every machine.
    pub fn run_scenarios(&mut self, library: &Path) {
        for (machine_name, rules) in scenarios::machines() {
            let machine = Machine { file: library.to_owned(), rules };
            for scenario in scenarios::all().filter(|scenario| (scenario.applies)(rules)) {
                let name = format!("{machine_name}: {}", scenario.name);
                if name.contains(self.word) {
                    let outcome = scenarios::run(scenario, &machine);
                    self.tell(&name, outcome.map_or_else(Outcome::Failed, |()| Outcome::Passed));
                }
            }
        }
    }

    /// Runs every rule of the suite in every setting.
    pub fn run_suite(&mut self, file: &Path) {
        let names = match suite::rule_names(file) {
            Ok(names) => names,
            Err(reason) => return self.tell("the suite loads", Outcome::Failed(reason)),
        };
        let _folder = Folder::make();
        for setting in suite::settings() {
            for (index, rule) in names.iter().enumerate() {
                self.run_rule(file, &setting, index, rule);
            }
        }
    }

    fn run_rule(&mut self, file: &Path, setting: &Setting, index: usize, rule: &str) {
        let name = format!("{}: {rule}", setting.name);
        if name.contains(self.word) {
            self.tell(&name, suite::run(file, setting, index));
        }
    }

    /// The closing lines. A run in which nothing passed is no success.
    pub fn close(self) -> ExitCode {
        println!("{}", self.counter);
        if self.counter.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
