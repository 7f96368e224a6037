//! Blocks near an address, beside blocks anywhere: the same heap, and the same requests but for that.

use execmem_benches::{Random, Role, Unit, children, now, row};
use execmem_os_linux::*;
use std::hint::black_box;

const REQUESTS: usize = 20_000;
/// What a direct branch of x86-64 reaches.
const REACH: i64 = i32::MAX as i64 - 4096;

pub fn run() {
    for (share, name) in [
        ("1", "allocate and free 256 bytes, 1 in 100 near another block"),
        ("10", "allocate and free 256 bytes, 1 in 10 near another block"),
        ("100", "allocate and free 256 bytes, all near other blocks"),
        ("program", "allocate and free 256 bytes, all near the program's own code"),
    ] {
        for blocks in [1_000, 100_000] {
            let count = blocks.to_string();
            let process = |share| vec!["heap", "near", share, &count];
            let samples = children(execmem_benches::rounds(9, 3), &[process(share), process("0")]);
            let [ours, anywhere] = [&samples[0][0][..], &samples[1][0]];
            let subjects = [(Role::Ours, "execmem", ours), (Role::Own, "anywhere", anywhere)];
            row("Near", name, Unit::Nanoseconds, &subjects).at(blocks, "blocks").print();
        }
    }
}

/// Nanoseconds to allocate and free one block, among so many others.
pub fn measure(share: &str, blocks: usize) -> f64 {
    let mut random = Random::new(2);
    // SAFETY: the contract takes any size.
    let mut allocate = || unsafe { rt_code_alloc(8 + random.below(1024) as i64) };
    let blocks: Vec<i64> = (0..blocks).map(|_| allocate()).collect();
    let target: Box<dyn Fn(usize) -> Option<i64>> = match share {
        "program" => Box::new(|_| Some(measure as *const () as i64)),
        "0" => Box::new(|_| None),
        share => {
            let every = 100 / share.parse::<usize>().expect("a percentage");
            let mut random = Random::new(3);
            let targets: Vec<i64> = (0..REQUESTS).map(|_| *random.choose(&blocks)).collect();
            Box::new(move |request| (request % every == 0).then(|| targets[request]))
        }
    };
    let mut made = Vec::with_capacity(REQUESTS);
    let mut pass = || {
        let start = now();
        made.extend((0..REQUESTS).map(|request| {
            // SAFETY: takes numbers.
            let block = match target(request) {
                Some(target) => unsafe { rt_code_alloc_near(256, target, REACH) },
                None => unsafe { rt_code_alloc(256) },
            };
            assert!(block > 0);
            block
        }));
        // SAFETY: nobody runs the code.
        made.drain(..).for_each(|block| assert_eq!(unsafe { rt_code_free(block) }, 1));
        (now() - start) / REQUESTS as f64
    };
    // The first pass maps chunks.
    black_box(pass());
    pass()
}
