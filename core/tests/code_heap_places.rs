//! Where chunks lie: whatever the system says of a place, there are others.

mod support;

use execmem_core::Limits;
use execmem_core::{Error, Policy};
use execmem_fake::Call;
use support::{System, code_block};

/// Every second block needs a chunk of its own.
const LIMITS: Limits = Limits { bytes: usize::MAX, chunk_bytes: 64 << 10, ..Limits::DEFAULT };
const SIZE: i64 = 40_000;
const REACH: i64 = 1 << 20;

/// Allocates several chunks' worth of blocks.
fn expect_service(system: &System) {
    let heap = system.runtime.new_code_heap(LIMITS).unwrap();
    for count in 1..=if cfg!(miri) { 2 } else { 6 } {
        let block = code_block(&heap, &[count; SIZE as usize]);
        assert_eq!(system.fake.executed(block as usize, 1), [count]);
    }
    heap.alloc(3 * SIZE).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "the platform has four megabytes then")]
fn a_block_next_to_the_end_of_addresses_leaves_room_for_all_others() {
    System::each(|system| {
        let (start, length) = system.fake.arena();
        let end = start + length;
        system.fake.refuse_places(end..usize::MAX, Error::NoMemory);
        let heap = system.runtime.code_heap();
        let near = heap.alloc_near(64, end as i64 - 64, REACH).unwrap();
        assert!(end - near <= REACH as usize);
        expect_service(&system);
        let blocks: Vec<i64> = (0..200).map(|_| heap.alloc(SIZE).unwrap() as i64).collect();
        blocks.into_iter().for_each(|block| heap.free(block).unwrap());
    });
}

#[test]
fn where_the_system_refuses_every_place_it_chooses_itself() {
    for error in [Error::NoMemory, Error::Refused, Error::InvalidArgument] {
        System::each(|system| {
            system.fake.refuse_places(0..usize::MAX, error);
            expect_service(&system);
        });
    }
}

#[test]
fn a_system_that_does_not_tell_what_is_mapped_has_places_all_the_same() {
    for error in [Error::Unsupported, Error::Io] {
        System::each(|system| {
            system.fake.fail_always(Call::Mappings, error);
            let heap = system.runtime.code_heap();
            heap.alloc(SIZE).unwrap();
            // Nothing fits behind the first chunk.
            let (start, length) = system.fake.arena();
            system.fake.refuse_places(start..start + length, Error::NoMemory);
            expect_service(&system);
            system.fake.clear_faults();
        });
    }
}

#[test]
fn a_shortage_is_told_after_a_few_calls() {
    System::each(|system| {
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        heap.alloc(SIZE).unwrap();
        system.fake.fail_always(Call::Map, Error::NoMemory);
        let calls = || system.fake.count(Call::Map) + system.fake.count(Call::Mappings);
        let before = calls();
        assert_eq!(heap.alloc(SIZE), Err(Error::NoMemory));
        assert!(calls() - before <= 16, "{} calls", calls() - before);
    });
}

#[test]
#[cfg_attr(miri, ignore = "the platform has four megabytes then")]
fn chunks_near_targets_far_from_all_others_belong_to_no_reservation() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.code_heap();
    let (start, length) = system.fake.arena();
    heap.alloc_near(64, (start + length / 2) as i64, REACH).unwrap();
    assert_eq!(system.runtime.statistics().code_clusters, 0);
    heap.alloc(64 << 10).unwrap();
    heap.alloc(1 << 20).unwrap();
    assert_eq!(system.runtime.statistics().code_clusters, 1);
}

#[test]
fn what_a_near_block_leaves_of_a_run_is_found_again() {
    let system = System::new(Policy::Dual, 4096);
    let limits = Limits { bytes: 128 << 10, chunk_bytes: 64 << 10, ..Limits::DEFAULT };
    let heap = system.runtime.new_code_heap(limits).unwrap();
    heap.alloc(64).unwrap();
    // Two chunks far from each other. The last plain block is bumped off the first one, which is full then.
    let (start, length) = system.fake.arena();
    let target = (start + length - (1 << 20)) as i64;
    heap.alloc_near(32_000, target, REACH).unwrap();
    heap.alloc(60_000).unwrap();
    heap.alloc_near(6_400, target, REACH).unwrap();
    // Too long for what is left in the second chunk, and the heap may not grow. The search ends in the first one.
    assert_eq!(heap.alloc(30_000), Err(Error::OverLimit));
    heap.alloc(20_000).unwrap();
}

#[test]
fn a_block_may_end_where_its_reach_does_though_its_last_granule_does_not() {
    System::each(|system| {
        let (start, length) = system.fake.arena();
        let target = (start + length / 2).next_multiple_of(1 << 16) as i64;
        let heap = system.runtime.code_heap();
        assert_eq!(heap.alloc_near(100, target, 113), Ok(target as usize));
        assert_eq!(heap.free(target), Ok(()));
        assert_eq!(heap.alloc_near(100, target, 100), Ok(target as usize));
    });
}
