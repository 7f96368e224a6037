//! The code heap beside its peers. x86-64 Linux.
//!
//! Each round is a process of its own, so that every first allocation is a first one; within a round the
//! allocators take turns, and the median of the rounds' ratios is reported.

mod allocators;
#[cfg(asmjit)]
mod asmjit;
mod functions;
#[cfg(feature = "peers")]
mod peers;
mod workload;

use allocators::{Flip, Mappings, Ours};
#[cfg(asmjit)]
use asmjit::Asmjit;
use execmem_benches::{is_quick, median};
#[cfg(feature = "peers")]
use peers::{Asmkit, Cranelift, Dynasm};
use std::process::Command;
use workload::{PHASES, blocks};

fn rounds() -> usize {
    if is_quick() { 3 } else { 9 }
}

/// What `make` gives.
const FUNCTION: [&str; 3] = [
    "allocate, write, publish, first call",
    "the same in memory that is used again",
    "memory / bytes of code",
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("round"), Some(what)) => {
            println!("{}", round(&what).iter().map(f64::to_string).collect::<Vec<_>>().join(" "));
        }
        _ => compare_all(),
    }
}

/// One allocator's figures, for the parent to read.
fn round(what: &str) -> Vec<f64> {
    match what {
        "workload of ours" => workload::run::<Ours>(blocks()).into(),
        #[cfg(asmjit)]
        "workload of asmjit" => workload::run::<Asmjit<false>>(blocks()).into(),
        #[cfg(asmjit)]
        "workload of asmjit that fills" => workload::run::<Asmjit<true>>(blocks()).into(),
        #[cfg(feature = "peers")]
        "workload of asmkit" => workload::run::<Asmkit>(blocks()).into(),
        // Linux allows 65,530 mappings in all.
        "workload of mmap" => workload::run::<Mappings>(blocks() / 4).into(),
        "functions of ours" => functions::make::<Ours>().into(),
        #[cfg(asmjit)]
        "functions of asmjit" => functions::make::<Asmjit<false>>().into(),
        #[cfg(feature = "peers")]
        "functions of asmkit" => functions::make::<Asmkit>().into(),
        #[cfg(feature = "peers")]
        "functions of cranelift-jit" => functions::make::<Cranelift>().into(),
        #[cfg(feature = "peers")]
        "functions of dynasmrt" => functions::make::<Dynasm>().into(),
        "functions of mmap" => functions::make::<Mappings>().into(),
        "functions of an mprotect pair" => functions::make::<Flip>().into(),
        "threads" => vec![functions::second_thread()],
        other => panic!("there is no {other}"),
    }
}

fn measure(what: &str) -> Vec<f64> {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program)
        .args(["round", what])
        .args(is_quick().then_some("--quick"))
        .output()
        .expect("a child");
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

/// Runs all rounds of one kind and prints a table for each peer. Ours, for what else is to be told of them.
fn compare(kind: &str, figures: &[&str], peers: &[&str]) -> Vec<Vec<f64>> {
    let rounds: Vec<(Vec<f64>, Vec<Vec<f64>>)> = (0..rounds())
        .map(|_| {
            let theirs = peers.iter().map(|peer| measure(&format!("{kind} of {peer}"))).collect();
            (measure(&format!("{kind} of ours")), theirs)
        })
        .collect();
    for (index, peer) in peers.iter().enumerate() {
        println!("\n{:<48} {:>10} {:>10} {:>8}", format!("beside {peer}"), "ours", "theirs", "ratio");
        for (figure, name) in figures.iter().enumerate() {
            let ours = median(rounds.iter().map(|round| round.0[figure]));
            let theirs = median(rounds.iter().map(|round| round.1[index][figure]));
            let ratio = median(rounds.iter().map(|round| round.0[figure] / round.1[index][figure]));
            println!("{name:<48} {ours:>10.2} {theirs:>10.2} {ratio:>8.3}");
        }
    }
    rounds.into_iter().map(|round| round.0).collect()
}

fn compare_all() {
    if cfg!(all(feature = "peers", not(asmjit))) {
        println!(
            "asmjit is not installed: its rows are left out; install libasmjit-dev or set ASMJIT_PREFIX\n"
        );
    }
    let groups: [(bool, &[&str]); 2] = [
        (cfg!(asmjit), &["asmjit", "asmjit that fills"]),
        (cfg!(feature = "peers"), &["asmkit", "cranelift-jit", "dynasmrt"]),
    ];
    let is_there = |name: &&str| !groups.iter().any(|(is_there, names)| !is_there && names.contains(name));
    let beside = |names: &[&'static str]| -> Vec<_> { names.iter().copied().filter(is_there).collect() };
    println!("nanoseconds of processor time for each operation");
    let ours = compare("workload", &PHASES, &beside(&["asmjit", "asmjit that fills", "mmap", "asmkit"]));
    println!(
        "\nfragmented / cold allocation, ours: {:.2}",
        median(ours.iter().map(|times| times[4] / times[0]))
    );
    let peers = beside(&["asmjit", "an mprotect pair", "mmap", "asmkit", "cranelift-jit", "dynasmrt"]);
    compare("functions", &FUNCTION, &peers);
    let ratio = median((0..rounds()).map(|_| measure("threads")[0]));
    println!("\nallocate and free, two threads / one: {ratio:.2}");
}
