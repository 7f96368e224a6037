//! `darwin LIBRARY SUITE [WORD]`: runs the scenarios and the conformance suite on every machine of this
//! processor, each in a process of its own; with a word, those whose names contain it.

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("the model of Darwin runs on Linux");
    ExitCode::FAILURE
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (library, suite, word) = match &arguments[..] {
        [library, suite] => (library, suite, ""),
        [library, suite, word] => (library, suite, word.as_str()),
        _ => {
            eprintln!("usage: darwin LIBRARY SUITE [WORD]");
            return ExitCode::FAILURE;
        }
    };
    let mut report = execmem_tests_darwin::report::Report::new(word);
    report.run_scenarios(library.as_ref());
    report.run_suite(suite.as_ref());
    report.close()
}
