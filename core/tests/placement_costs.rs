//! What it takes to place one more: as much as at the beginning, however many there are. Looks at mappings are counted,
//! and calls of the system; time would depend on the machine.

mod support;

use execmem_core::{Limits, Policy, Protection};
use execmem_fake::{Call, Fake};
use support::System;

const MANY: usize = if cfg!(miri) { 40 } else { 1000 };
const REACH: i64 = 1 << 30;

/// How many mappings some work looks at, and how often it maps something.
fn effort(system: &System, work: impl FnOnce()) -> usize {
    let count = || system.fake.mappings_shown() + system.fake.count(Call::Map);
    let before = count();
    work();
    count() - before
}

fn middle(system: &System) -> usize {
    let (start, length) = system.fake.arena();
    (start + length / 2).next_multiple_of(system.page)
}

#[test]
fn a_near_region_takes_as_much_among_a_thousand_as_among_ten() {
    System::each(|system| {
        let target = middle(&system) as i64;
        let allocate = |count: usize| {
            for _ in 0..count {
                system.runtime.alloc_exec_near(100, target, REACH).unwrap();
            }
        };
        allocate(10);
        let among_ten = effort(&system, || allocate(5));
        allocate(MANY);
        assert_eq!(effort(&system, || allocate(5)), among_ten);
    });
}

#[test]
fn a_large_block_near_a_target_takes_as_much_among_a_hundred_as_among_ten() {
    System::each(|system| {
        let (target, heap) = (middle(&system) as i64, system.runtime.code_heap());
        let allocate = |count: usize| {
            for _ in 0..count {
                heap.alloc_near(70_000, target, REACH).unwrap();
            }
        };
        allocate(10);
        let among_ten = effort(&system, || allocate(5));
        allocate(if cfg!(miri) { 10 } else { 100 });
        assert_eq!(effort(&system, || allocate(5)), among_ten);
    });
}

#[test]
fn a_near_region_looks_once_at_what_it_does_not_fit_between() {
    let system = System::new(Policy::Toggle, 4096);
    let target = middle(&system);
    for page in (target..).step_by(2 * system.page).take(MANY) {
        system.fake.add_foreign(page..page + system.page, Protection::READ);
    }
    // What lies below is not free either.
    system.fake.add_foreign(system.fake.arena().0..target, Protection::READ);
    let looked = effort(&system, || {
        for _ in 0..20 {
            system.runtime.alloc_exec_near(2 * system.page as i64, target as i64, REACH).unwrap();
        }
    });
    assert!(looked <= MANY + 100, "{looked} for 20 regions");
}

#[test]
#[cfg_attr(miri, ignore = "the platform has more memory than Miri")]
fn a_chunk_takes_as_much_among_two_hundred_as_among_ten_where_addresses_are_in_pieces() {
    const LENGTH: usize = 64 << 10;
    // What the system chooses itself is out of reach of the chunks.
    const FAR: usize = (2 << 30) + (128 << 20);
    let system = System::on(Fake::with_arena(4096, FAR + (128 << 20)), Policy::Toggle);
    let (start, length) = system.fake.arena();
    let far = (start + FAR).next_multiple_of(LENGTH);
    system.fake.add_foreign(start..far, Protection::NONE);
    let heap = system.runtime.new_code_heap(Limits { chunk_bytes: LENGTH, ..Limits::DEFAULT }).unwrap();
    let allocate = |count: usize| {
        for _ in 0..count {
            heap.alloc(LENGTH as i64 - 64).unwrap();
        }
    };
    allocate(1);
    system.fake.remove_foreign(start);
    system.fake.add_foreign(start + (16 << 20)..far, Protection::NONE);
    // Between two of these there is room for a chunk, but not at a multiple of its length.
    for place in (far + LENGTH..start + length).step_by(2 * LENGTH) {
        system.fake.add_foreign(place - 4096..place + 4096, Protection::NONE);
    }
    allocate(10);
    let among_ten = effort(&system, || allocate(5));
    allocate(200);
    let among_many = effort(&system, || allocate(5));
    assert_eq!(system.runtime.statistics().code_clusters, 1);
    assert!(among_many <= among_ten && among_ten <= 5 * 4, "{among_many}, and {among_ten} among ten");
}
