//! Memory of the code heap that is used again: which, and what other cores have to be told.

mod support;

use execmem_core::Limits;
use execmem_core::{Error, Policy};
use execmem_fake::Call;
use std::sync::{Arc, Barrier};
use support::{Heap, System, code_block as code, write_block as write};

const LIMITS: Limits = Limits { bytes: usize::MAX, chunk_bytes: 64 << 10, ..Limits::DEFAULT };

fn heap(system: &System) -> Heap<'_> {
    system.runtime.new_code_heap(LIMITS).unwrap()
}

#[test]
fn an_address_that_ran_before_is_published_to_the_other_cores_too() {
    System::each(|system| {
        // Room for one block, so that the second gets the first one's place.
        let limits = Limits { bytes: system.page, chunk_bytes: system.page, ..Limits::DEFAULT };
        let heap = system.runtime.new_code_heap(limits).unwrap();
        let size = system.page;
        let first = code(&heap, &vec![1; size]);
        assert_eq!(system.fake.count(Call::SynchronizeCores), 0, "nothing ran there before");
        heap.free(first).unwrap();
        let second = code(&heap, &vec![2; size]);
        assert_eq!(second, first);
        assert_eq!(system.fake.executed_elsewhere(second as usize, size), vec![2; size]);
        assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
    });
}

#[test]
fn a_batch_costs_one_cross_core_step() {
    System::each(|system| {
        let heap = heap(&system);
        let blocks: Vec<i64> = (1..6).map(|byte| code(&heap, &[byte; 100])).collect();
        for block in &blocks {
            write(&heap, *block, &[9; 100]).unwrap();
        }
        heap.publish_all(blocks.iter().map(|block| (*block, 100))).unwrap();
        assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
        for block in &blocks {
            assert_eq!(system.fake.executed_elsewhere(*block as usize, 100), [9; 100]);
        }
        // One range that isn't inside a block: nothing of the batch is published.
        write(&heap, blocks[0], &[8; 100]).unwrap();
        let flushes = system.fake.count(Call::FlushIcache);
        let bad = [(blocks[0], 100), (blocks[1], 101)];
        assert_eq!(heap.publish_all(bad.into_iter()), Err(Error::NotOwned));
        assert_eq!(system.fake.count(Call::FlushIcache), flushes);
    });
}

#[test]
fn blocks_that_never_ran_are_used_before_those_that_did() {
    let system = System::new(Policy::Dual, 4096);
    let heap = heap(&system);
    let blocks: Vec<i64> = (0..64).map(|_| heap.alloc(256).unwrap() as i64).collect();
    for block in blocks.iter().step_by(2) {
        heap.free(*block).unwrap();
    }
    for _ in 0..if cfg!(miri) { 4 } else { 30 } {
        let address = code(&heap, &[1; 256]);
        heap.free(address).unwrap();
    }
    assert_eq!(system.fake.count(Call::SynchronizeCores), 0);
}

/// How often other cores are told when functions come and go in a heap without room for more than 256.
fn steps_of_a_busy_heap(system: &System, functions: usize) -> usize {
    let limits = Limits { bytes: 64 << 10, chunk_bytes: 64 << 10, ..Limits::DEFAULT };
    let heap = system.runtime.new_code_heap(limits).unwrap();
    let mut live: Vec<i64> = (0..200).map(|_| code(&heap, &[1; 256])).collect();
    for turn in 0..functions {
        let victim = &mut live[turn * 7 % 200];
        heap.free(*victim).unwrap();
        *victim = code(&heap, &[turn as u8; 256]);
        assert_eq!(system.fake.executed_elsewhere(*victim as usize, 256), [turn as u8; 256]);
    }
    system.fake.count(Call::SynchronizeCores)
}

#[test]
#[cfg_attr(miri, ignore = "it takes hundreds of publications to go round")]
fn a_busy_heap_tells_other_cores_once_each_time_it_has_gone_round() {
    let system = System::new(Policy::Dual, 4096);
    let functions = 2000;
    let steps = steps_of_a_busy_heap(&system, functions);
    // 56 places are free: after so many functions all of them were code.
    assert!((functions / 64..=functions / 48).contains(&steps), "{steps} steps");
}

#[test]
#[cfg_attr(miri, ignore = "it takes hundreds of publications to go round")]
fn where_no_other_core_runs_nobody_is_told() {
    let system = System::new(Policy::Dual, 4096);
    system.fake.switch(|switches| switches.is_alone = true);
    assert_eq!(steps_of_a_busy_heap(&system, 500), 0);
}

#[test]
#[cfg_attr(miri, ignore = "a thread's stack is not in one place then, and its calls prefer different shards")]
fn what_was_allocated_last_and_goes_first_leaves_its_place_to_the_next() {
    let system = System::new(Policy::Dual, 4096);
    let heap = heap(&system);
    let first = heap.alloc(100).unwrap();
    // Not published: no core can have it.
    let places: Vec<usize> = (0..3)
        .map(|_| {
            let address = heap.alloc(1000).unwrap();
            heap.free(address as i64).unwrap();
            address
        })
        .collect();
    assert_eq!(places, [first + 128; 3]);
    // A core may have fetched this one: its place has to wait.
    let published = code(&heap, &[1; 1000]);
    heap.free(published).unwrap();
    assert_ne!(heap.alloc(1000).unwrap() as i64, published);
}

#[test]
#[cfg_attr(miri, ignore = "a thread's stack is not in one place then, and its calls prefer different shards")]
fn memory_that_is_there_is_used_before_more_of_it() {
    let system = System::new(Policy::Dual, 4096);
    system.fake.switch(|switches| switches.is_alone = true);
    let heap = system.runtime.new_code_heap(Limits { chunk_bytes: 4 << 20, ..LIMITS }).unwrap();
    let stays = heap.alloc(64).unwrap();
    for _ in 0..10 {
        let blocks: Vec<i64> = (0..1500).map(|_| heap.alloc(64).unwrap() as i64).collect();
        let highest = blocks.iter().max().copied().unwrap() as usize;
        assert!(highest - stays <= 2 * 1500 * 64, "{} bytes behind the first", highest - stays);
        blocks.into_iter().for_each(|block| heap.free(block).unwrap());
    }
}

#[test]
fn what_is_freed_while_other_cores_are_told_has_to_be_told_anew() {
    let system = System::new(Policy::Dual, 4096);
    let limits = Limits { bytes: 64 << 10, chunk_bytes: 64 << 10, ..Limits::DEFAULT };
    let heap = system.runtime.new_code_heap(limits).unwrap();
    let [first, second, third, _] = [1, 2, 3, 4].map(|byte| code(&heap, &[byte; 16 << 10]));
    heap.free(first).unwrap();
    let (told, freed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    std::thread::scope(|scope| {
        let barriers = (told.clone(), freed.clone());
        system.fake.observe(move |event| {
            if event.call == Call::SynchronizeCores {
                barriers.0.wait();
                barriers.1.wait();
            }
        });
        scope.spawn(|| {
            told.wait();
            heap.free(second).unwrap();
            heap.free(third).unwrap();
            // Now their memory is free, not only marked.
            assert_eq!(heap.alloc(64).unwrap() as i64, second);
            freed.wait();
        });
        assert_eq!(code(&heap, &[5; 16 << 10]), first);
    });
    system.fake.stop_observing();
    assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
    assert_eq!(code(&heap, &[6; 16 << 10]), second + 64);
    assert_eq!(system.fake.count(Call::SynchronizeCores), 2);
}

#[test]
#[cfg_attr(miri, ignore = "the platform has four megabytes then")]
fn a_chunk_gets_a_record_of_its_own_length_whichever_went_before() {
    let system = System::new(Policy::Dual, 4096);
    let limits = Limits { chunk_bytes: 4 << 20, ..Limits::DEFAULT };
    let records = || system.runtime.statistics().record_bytes;
    let each_once = |longest_first: bool| {
        let heap = system.runtime.new_code_heap(limits).unwrap();
        let short = system.runtime.new_code_heap(LIMITS).unwrap();
        let allocations: [&dyn Fn() -> usize; 3] =
            [&|| heap.alloc(100).unwrap(), &|| short.alloc(100).unwrap(), &|| heap.alloc(1 << 20).unwrap()];
        let places = if longest_first { [0, 1, 2] } else { [2, 1, 0] };
        for place in places {
            let address = allocations[place]() as i64;
            assert!(heap.find(address).is_some());
        }
    };
    // All heaps of each round are gone at its end.
    each_once(true);
    let before = records();
    for round in 0..6 {
        each_once(round % 2 == 0);
        assert_eq!(records(), before, "round {round}");
    }
    assert_eq!(system.runtime.statistics().code_chunks, 0);
}

#[test]
#[cfg_attr(miri, ignore = "a heap of eighty megabytes")]
fn records_of_chunks_that_are_gone_give_their_memory_back() {
    let system = System::new(Policy::Rwx, 4096);
    let limits = Limits { chunk_bytes: 4 << 20, ..Limits::DEFAULT };
    let records = || system.runtime.statistics().record_bytes;
    // A chunk's tables: its other pages are shared with records beside it.
    let tables = 176 << 10;
    const SLAB: i64 = 64 << 10;
    let mut rounds = Vec::new();
    for keeps_all in [false, true, false] {
        let heap = system.runtime.new_code_heap(limits).unwrap();
        let before = records();
        let blocks: Vec<i64> = (0..20 * 64).map(|_| code(&heap, &[7; 64 << 10])).collect();
        let full = records();
        assert!(full - before >= if rounds.is_empty() { 20 * tables } else { 0 });
        assert!(blocks.iter().all(|block| heap.find(*block + 5).unwrap().address as i64 == *block));
        if keeps_all {
            system.fake.fail_always(Call::Request, Error::InvalidArgument);
        }
        drop(heap);
        assert_eq!(system.runtime.statistics().code_chunks, 0);
        assert_eq!(system.fake.clear_faults() > 0, keeps_all);
        assert!(blocks.iter().all(|block| system.runtime.find_block(*block).is_none()));
        // One chunk's tables, a thirtieth of the others', and begun slabs: of regions, of the page map, of chunks.
        let left = records() - before;
        assert!(!rounds.is_empty() || left <= tables + 20 * tables / 30 + 4 * SLAB, "{left} bytes");
        rounds.push((full, full - records()));
    }
    assert_eq!(rounds.iter().map(|(full, _)| full).max(), rounds.iter().map(|(full, _)| full).min());
    // Of twenty one keeps them.
    assert!(rounds[0].1 >= 19 * tables && rounds[1].1 == 0 && rounds[2].1 == rounds[0].1, "{rounds:?}");
    system.fake.verify();
}
