//! The code heap and the ends of this system's addresses.

use crate::service::expect_function;
use crate::{Needs, Test};
use execmem_conformance::memory::statistics;
use execmem_conformance::symbols::*;
use execmem_tests_linux::children::Outcome;

pub const TESTS: &[Test] = &[
    Test {
        name: "places: a block next to the end of user space leaves room for all others",
        needs: Needs::Kernel,
        run: end_of_addresses,
    },
    Test {
        name: "places: each of 40 targets that are 8 GiB apart gets a block near it",
        needs: Needs::Kernel,
        run: far_targets,
    },
];

const MIB: i64 = 1 << 20;

fn end_of_addresses() -> Outcome {
    let mut near = 0;
    // Whatever the processor's addresses end with: x86-64 and aarch64 have one of these.
    for bits in 39..=48 {
        let target = (1 << bits) - 0x1040;
        let block = rt_code_alloc_near(64, target, MIB);
        if block > 0 {
            assert!(block.abs_diff(target) <= MIB as u64);
            expect_function(block, 1);
            near += 1;
        }
        // Each has pages of its own.
        for value in 0..4 {
            expect_function(rt_code_alloc(100_000), value);
        }
    }
    assert!(near > 0);
    Outcome::Passed
}

fn far_targets() -> Outcome {
    let first: i64 = 1 << 40;
    for index in 0..40 {
        let target = first + (index << 33);
        let block = rt_code_alloc_near(64, target, 128 * MIB);
        expect_function(block, index as u8);
        assert!(block.abs_diff(target) <= 128 << 20);
        expect_function(rt_code_alloc(100_000), 7);
    }
    let figures = statistics().expect("figures");
    assert_eq!((figures.code_blocks, figures.code_clusters), (80, 1));
    Outcome::Passed
}
