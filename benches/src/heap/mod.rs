//! The code heap beside its peers, in one thread.

mod functions;
mod growth;
mod near;
mod workload;

use crate::allocators::{compare, with_allocator};
use execmem_benches::rounds;

pub fn run() {
    const PEERS: [&str; 3] = ["asmjit", "asmjit that fills", "asmkit"];
    let table = format!("The code heap: {},000 functions of 8 to 1,031 bytes", workload::blocks() / 1000);
    let rows = compare(&table, &["heap", "workload"], &workload::PHASES, &PEERS, &[], rounds(9, 3));
    rows.iter().for_each(|row| row.print());

    let all = ["asmjit", "asmkit", "cranelift-jit", "dynasmrt"];
    let by_hand = ["mmap and mprotect", "a pair of mprotect"];
    let rows =
        compare("Functions", &["heap", "functions"], &functions::FIGURES, &all, &by_hand, rounds(15, 3));
    rows.iter().for_each(|row| row.print());

    for count in growth::COUNTS {
        let (table, words) = ("How the heap grows", ["heap", "growth", &count.to_string()]);
        let rows = compare(table, &words, &growth::FIGURES, &["asmjit", "asmkit"], &[], rounds(9, 3));
        rows.into_iter().for_each(|row| row.at(count, "blocks").print());
    }
    near::run();
}

/// One allocator's figures.
pub fn child(words: &[&str]) -> Vec<f64> {
    match *words {
        ["near", share, blocks] => vec![near::measure(share, blocks.parse().expect("a number"))],
        [name, "workload"] => with_allocator!(name, workload::run(workload::blocks())),
        [name, "functions"] => with_allocator!(name, functions::make()),
        [name, "growth", count] => {
            let count = count.parse().expect("a number");
            with_allocator!(name, growth::run(count))
        }
        _ => panic!("there is no {words:?}"),
    }
}
