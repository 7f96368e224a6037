//! A storm of forks: two threads fork in a row while eight others do everything that the library can do, to things of
//! their own and to the same ones, under each policy. Each child looks at everything, changes some of it, and frees it;
//! the parent sees nothing of that. At the end nothing is left.
//!
//! `EXECMEM_STORM_FORKS` is how many forks there are under each policy; `cargo xtask test stress` makes 100,000 in all.

mod calls;
mod child;
mod everything;
mod footprint;
mod storm;
mod things;
mod values;

use calls::did;
use everything::Shared;
use execmem_conformance::symbols::*;
use execmem_core::Limits;
use execmem_core::abi::*;
use execmem_os_linux::runtime;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::files::{self, Folder};
use execmem_tests_linux::programs;
use execmem_tests_linux::report::Report;
use execmem_tests_linux::system::slowness;
use footprint::Footprint;
use std::ffi::CStr;
use std::process::ExitCode;
use storm::Storm;
use things::{OWNERS, World};

/// Forks of a short storm, which is there to measure what a process has anyway.
const FEW: u64 = 20;

fn main() -> ExitCode {
    if programs::is_asked_for() {
        return ExitCode::SUCCESS;
    }
    let _folder = Folder::make();
    let mut report = Report::from_arguments();
    for (name, policy) in [
        ("forks in a row under eight threads of every operation (rwx)", RT_POLICY_RWX),
        ("forks in a row under eight threads of every operation (dual)", RT_POLICY_DUAL),
        ("forks in a row under eight threads of every operation (toggle)", RT_POLICY_TOGGLE),
        ("forks in a row under eight threads of every operation (auto)", RT_POLICY_AUTO),
    ] {
        report.run(name, false, || weather(policy));
    }
    report.close()
}

fn forks() -> u64 {
    let natively = match std::env::var("EXECMEM_STORM_FORKS") {
        Ok(number) => number.parse().expect("EXECMEM_STORM_FORKS is a number"),
        Err(_) => 200,
    };
    natively / u64::from(slowness())
}

fn weather(policy: i32) -> Outcome {
    // The storm has a watchdog of its own.
    // SAFETY: takes back the alarm that would end this process.
    unsafe { libc::alarm(0) };
    std::panic::set_hook(Box::new(|panic| println!("    {panic}")));
    files::silence();
    calls::board();
    things::contents(0, 1);
    assert!(rt_exec_memory_set_policy(policy));
    let paths: Vec<&CStr> = (0..OWNERS).map(|_| files::file(&everything::FILE)).collect();
    let mut earlier = None;
    for (forks, with_values) in [(FEW, false), (forks(), true)] {
        if storm(forks, with_values, &paths) > 0 {
            return Outcome::Failed("something is wrong, as told above".to_owned());
        }
        earlier = earlier.or_else(|| Some(Footprint::measure()));
    }
    let mut wrong = Footprint::measure().leaks(&earlier.expect("the short storm"));
    wrong.extend(calls::forgotten().into_iter().map(|call| format!("nothing called {call}")));
    if wrong.is_empty() { Outcome::Passed } else { Outcome::Failed(wrong.join("\n    ")) }
}

/// How many things were wrong.
fn storm(forks: u64, with_values: bool, paths: &[&'static CStr]) -> u64 {
    let made = Shared::make(paths.to_vec());
    let shared = match made {
        Ok(shared) => shared,
        Err(wrong) => return storm::tell(wrong),
    };
    let heaps =
        (0..OWNERS).map(|_| runtime().new_code_heap(Limits { chunk_bytes: 256 << 10, ..Limits::DEFAULT }));
    let heaps = heaps.collect::<Result<_, _>>().expect("heaps");
    let world = World { policy: did!(rt_exec_memory_policy()), heaps };
    let failures = Storm { world: &world, shared: &shared, forks, with_values }.run();
    if failures > 0 {
        return failures;
    }
    shared.free().map_or_else(storm::tell, |()| 0)
}
