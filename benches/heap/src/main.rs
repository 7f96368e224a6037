//! `cargo run --release`: the code heap beside its peers.
//!
//! Each round is a process of its own, so that every first allocation is a first one; within a round the
//! allocators take turns, and the median of the rounds' ratios is reported.

mod allocators;
mod workload;

use allocators::{Asmjit, Mappings, Ours};
use std::process::Command;
use workload::{BLOCKS, PHASES, Times};

const ROUNDS: usize = 9;

fn main() {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("round"), Some(what)) => round(&what),
        _ => compare_all(),
    }
}

/// One allocator's times, for the parent to read.
fn round(what: &str) {
    let times = match what {
        "ours" => workload::run::<Ours>(BLOCKS),
        "asmjit" => workload::run::<Asmjit>(BLOCKS),
        #[cfg(feature = "peers")]
        "asmkit" => workload::run::<allocators::Asmkit>(BLOCKS),
        // Linux allows 65,530 mappings in all.
        "mmap" => workload::run::<Mappings>(BLOCKS / 4),
        other => panic!("no allocator is called {other}"),
    };
    println!("{}", times.map(|time| time.to_string()).join(" "));
}

fn measure(what: &str) -> Times {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["round", what]).output().expect("a child");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("numbers");
    let times: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    times.try_into().expect("a time for each phase")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare_all() {
    let peers: &[&str] = match cfg!(feature = "peers") {
        true => &["asmjit", "asmkit", "mmap"],
        false => &["asmjit", "mmap"],
    };
    let rounds: Vec<(Times, Vec<Times>)> = (0..ROUNDS)
        .map(|_| (measure("ours"), peers.iter().map(|peer| measure(peer)).collect()))
        .collect();
    for (index, peer) in peers.iter().enumerate() {
        println!("\n{:<48} {:>10} {:>10} {:>8}", format!("beside {peer}"), "ours ns", "theirs ns", "ratio");
        for (phase, name) in PHASES.iter().enumerate() {
            let ours = median(rounds.iter().map(|round| round.0[phase]).collect());
            let theirs = median(rounds.iter().map(|round| round.1[index][phase]).collect());
            let ratio = median(rounds.iter().map(|round| round.0[phase] / round.1[index][phase]).collect());
            println!("{name:<48} {ours:>10.1} {theirs:>10.1} {ratio:>8.3}");
        }
    }
    let own = median(rounds.iter().map(|round| round.0[4] / round.0[0]).collect());
    println!("\nfragmented / cold allocation, ours: {own:.2}");
}
