//! Sequences of operations of regions and of the code heap, under each policy, with calls of the system that fail and
//! forks between them, beside a list of what there should be.
//!
//! A system serves for all inputs of a run, since its memory lives for ever; each input frees what it made. So a failure
//! may need the inputs before it: it is then in where things lie.
#![no_main]

mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use world::World;

static OPERATIONS: AtomicU64 = AtomicU64::new(0);

extern "C" fn tell() {
    eprintln!("stat::operations: {}", OPERATIONS.load(Ordering::Relaxed));
}

/// The bytes of an input, as choices.
pub struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    /// A number below an end; 0 behind the last byte.
    pub fn below(&mut self, end: usize) -> usize {
        let mut number = 0;
        let mut reach = 1;
        while reach < end {
            let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
            (number, self.0, reach) = (number << 8 | usize::from(*byte), rest, reach << 8);
        }
        number % end
    }
}

libfuzzer_sys::fuzz_target!(init: {
    // SAFETY: the function takes nothing.
    unsafe { libc::atexit(tell) };
}, |input: &[u8]| {
    let mut choices = Choices(input);
    let mut world = World::of(choices.below(4));
    while !choices.0.is_empty() {
        world.step(&mut choices);
        OPERATIONS.fetch_add(1, Ordering::Relaxed);
    }
    world.finish();
});
