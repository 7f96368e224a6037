//! Comparing two ways of doing the same, on a machine that is shared and noisy.
//!
//! The usual harnesses measure one function after the other, so that a neighbour who wakes up between
//! the two looks like a difference. Here the two take turns in short rounds, each round gives one ratio, and
//! the median of the ratios is reported.

#[cfg(asmjit)]
pub mod asmjit;

use std::time::Instant;

/// Whether fewer rounds are wanted (`--quick`): enough to see that all works, too few to be quoted.
pub fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// Rounds of one comparison: an odd number, so that the median is one of them.
fn rounds() -> usize {
    if is_quick() { 31 } else { 301 }
}

/// What a comparison found.
pub struct Comparison {
    /// Median nanoseconds of one call of ours.
    pub ours: f64,
    /// Median nanoseconds of one call of the other.
    pub other: f64,
    /// Median of each round's ours / other.
    pub ratio: f64,
}

/// Lets `ours` and `other` take turns; each round calls each of them `calls` times.
pub fn compare(calls: usize, mut ours: impl FnMut(), mut other: impl FnMut()) -> Comparison {
    let count = rounds();
    let mut rounds = Vec::with_capacity(count);
    for round in 0..count {
        // Who goes first alternates too: the first finds caches as the other left them.
        let (a, b);
        if round % 2 == 0 {
            a = time(calls, &mut ours);
            b = time(calls, &mut other);
        } else {
            b = time(calls, &mut other);
            a = time(calls, &mut ours);
        }
        rounds.push((a, b));
    }
    Comparison {
        ours: median(rounds.iter().map(|round| round.0)),
        other: median(rounds.iter().map(|round| round.1)),
        ratio: median(rounds.iter().map(|round| round.0 / round.1)),
    }
}

/// Median nanoseconds of one call.
pub fn measure(calls: usize, mut work: impl FnMut()) -> f64 {
    median((0..rounds()).map(|_| time(calls, &mut work)))
}

fn time(calls: usize, work: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..calls {
        work();
    }
    start.elapsed().as_nanos() as f64 / calls as f64
}

/// The value in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints a comparison with the figure that the project wants to reach.
pub fn report(what: &str, against: &str, found: &Comparison, wanted: &str) {
    println!(
        "{what:<52} {:>10.1} ns   {against:<28} {:>12.1} ns   ratio {:>6.3}   wanted {wanted}",
        found.ours, found.other, found.ratio
    );
}
