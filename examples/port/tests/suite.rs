//! The conformance suite on the worked platform: a harness to start from. One process runs all rules, in their order.

use execmem_conformance::world::FOREIGN_RESULT;
use execmem_conformance::{RULE_COUNT, SECTIONS, Stop, World};
use execmem_core::abi::RT_POLICY_AUTO;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;

/// Links the platform whose symbols the suite calls.
use execmem_example_port as _;

const NO_FILES: &str = "the system has no files";
const NO_SECOND_VIEW: &str = "the system shows no memory twice";
const NO_WITNESS: &str = "nobody but the platform itself can be asked";

/// Why a rule may not apply. For any other reason it must.
const LACKS: [&str; 5] = [
    NO_FILES,
    NO_SECOND_VIEW,
    NO_WITNESS,
    "the policy in force does not grant it",
    "instructions start at any address on x86-64",
];

/// 64 bytes that the library has not mapped.
static FOREIGN_DATA: [AtomicU64; 8] = [const { AtomicU64::new(0x0101_0101_0101_0101) }; 8];

extern "C" fn foreign_code() -> i64 {
    FOREIGN_RESULT
}

fn world() -> World {
    World {
        wished_policy: RT_POLICY_AUTO,
        file: Err(NO_FILES),
        file_with_odd_name: Err(NO_FILES),
        descriptors: Err(NO_FILES),
        shrink_file: Err(NO_FILES),
        shared_writes: Err(NO_FILES),
        missing_file: Err(NO_FILES),
        directory: Err(NO_FILES),
        fifo: Err(NO_FILES),
        mappings_gain_exec: Ok(()),
        foreign_code,
        foreign_data: (&raw const FOREIGN_DATA).addr() as i64,
        tells_foreign: true,
        unmapped: 1 << 44, // Linux maps from the top of 2^47 down.
        has_writable_code: Err(NO_WITNESS),
        two_views: Err(NO_SECOND_VIEW),
        shows_stale_code: Err(NO_SECOND_VIEW),
    }
}

fn main() -> ExitCode {
    let world = world();
    let (mut passed, mut failed, mut lacking) = (0, 0, 0);
    for section in SECTIONS {
        for rule in section.rules {
            // If a rule ends the process, its name stands there.
            print!("test {}: {} ... ", section.title, rule.name);
            io::stdout().flush().expect("stdout");
            match (rule.run)(&world) {
                Ok(()) => {
                    println!("ok");
                    passed += 1;
                }
                Err(Stop::NotApplicable(reason)) if LACKS.contains(&reason) => {
                    println!("does not apply: {reason}");
                    lacking += 1;
                }
                Err(Stop::NotApplicable(reason)) => {
                    println!("FAILED: it must apply, but {reason}");
                    failed += 1;
                }
                Err(Stop::Failed(failure)) => {
                    println!("FAILED: {failure}");
                    failed += 1;
                }
            }
        }
    }
    let is_success = passed + lacking == RULE_COUNT;
    let verdict = if is_success { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; {lacking} not applicable\n");
    if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
