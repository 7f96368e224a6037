//! Several threads in one heap. What a test can't catch: a lookup that goes wrong once in a billion; the proof
//! is at `Chunk::find`.

mod support;

use execmem_core::Limits;
use execmem_core::Policy;
use execmem_core::platform::Memory;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use support::System;

const ROUNDS: usize = if cfg!(miri) { 10 } else { 30_000 };

#[test]
fn a_lookup_finds_what_stays_and_never_half_of_what_changes() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system
        .runtime
        .new_code_heap(Limits { bytes: 8 << 20, chunk_bytes: 64 << 10, ..Limits::DEFAULT })
        .unwrap();
    // Blocks that stay, between places where others come and go. A block's size tells its address's line.
    let stays: Vec<(i64, usize)> = (0..40)
        .map(|index| {
            let size = 100 + index * 13;
            let _hole = heap.alloc(700).unwrap();
            (heap.alloc(size as i64).unwrap() as i64, size)
        })
        .collect();
    let running = AtomicUsize::new(4);
    let found = AtomicUsize::new(0);
    thread::scope(|scope| {
        for thread in 0..4usize {
            let (heap, running) = (&heap, &running);
            scope.spawn(move || {
                let mut live = Vec::new();
                for round in 0..ROUNDS {
                    // Every size that these threads use is odd and above 1000; those that stay are below.
                    let size = 1001 + 2 * ((round * 7 + thread * 131) % 900);
                    if let Ok(block) = heap.alloc(size as i64) {
                        live.push(block as i64);
                    }
                    if live.len() > 50 {
                        heap.free(live.swap_remove(round * 31 % 50)).unwrap();
                    }
                }
                live.into_iter().for_each(|block| heap.free(block).unwrap());
                running.fetch_sub(1, Ordering::Release);
            });
        }
        scope.spawn(|| {
            let low = stays.iter().map(|(address, _)| *address).min().unwrap();
            let mut step = 0usize;
            // Once at least, also where the others are done before this thread's first turn.
            loop {
                let (address, size) = stays[step % stays.len()];
                let block = heap.find(address + (step % size) as i64).expect("it stays");
                assert_eq!((block.address as i64, block.size), (address, size));
                let at = low + (step * 97 % (1 << 20)) as i64;
                if let Some(block) = heap.find(at) {
                    let offset = at as usize - block.address;
                    assert!(offset < block.size, "{block:?} doesn't hold {at:#x}");
                    assert_eq!(block.address % 64, 0);
                    let stayed = stays
                        .iter()
                        .any(|(address, size)| (block.address as i64, block.size) == (*address, *size));
                    let changing = block.size > 1000 && block.size % 2 == 1;
                    assert!(stayed || changing || block.size == 700, "{block:?} never was");
                    found.fetch_add(1, Ordering::Relaxed);
                }
                step += 1;
                if running.load(Ordering::Acquire) == 0 {
                    break;
                }
            }
        });
    });
    assert!(cfg!(miri) || found.load(Ordering::Relaxed) > 0);
}

#[test]
fn blocks_of_different_threads_never_overlap() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system
        .runtime
        .new_code_heap(Limits { bytes: 4 << 20, chunk_bytes: 128 << 10, ..Limits::DEFAULT })
        .unwrap();
    let rounds = ROUNDS / 10;
    thread::scope(|scope| {
        for thread in 1..=4u8 {
            let (heap, system) = (&heap, &system);
            scope.spawn(move || {
                let mut live: Vec<(i64, usize)> = Vec::new();
                for round in 0..rounds {
                    let size = 1 + (round * 37 + thread as usize * 501) % 1500;
                    if let Ok(block) = heap.alloc(size as i64) {
                        let bytes = vec![thread; size];
                        // SAFETY: the vector is readable.
                        unsafe { heap.write(block as i64, bytes.as_ptr(), size as i64, 0) }.unwrap();
                        heap.publish(block as i64, size as i64).unwrap();
                        live.push((block as i64, size));
                    }
                    if live.len() > 40 {
                        let (block, size) = live.swap_remove(round % 40);
                        assert_eq!(system.fake.executed_elsewhere(block as usize, size), vec![thread; size]);
                        heap.free(block).unwrap();
                    }
                }
                live.into_iter().for_each(|(block, _)| heap.free(block).unwrap());
            });
        }
    });
    assert_eq!(system.runtime.statistics().code_blocks, 0);
}

#[test]
fn threads_that_wait_for_a_shard_to_grow_share_what_it_got() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system
        .runtime
        .new_code_heap(Limits { bytes: 8 << 20, chunk_bytes: 64 << 10, ..Limits::DEFAULT })
        .unwrap();
    // Whoever grows the heap is slow: all others find nothing meanwhile, and wait.
    system.fake.observe(|_| thread::sleep(std::time::Duration::from_millis(2)));
    thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| heap.alloc(100).unwrap());
        }
    });
    system.fake.stop_observing();
    let chunks = system.runtime.statistics().code_chunks;
    assert!((1..=8).contains(&chunks), "{chunks} chunks for eight shards");
}

#[test]
fn of_many_threads_that_free_one_block_exactly_one_does() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.code_heap();
    for _ in 0..ROUNDS / 100 + 1 {
        let block = heap.alloc(300).unwrap() as i64;
        let go = AtomicBool::new(false);
        let freed = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !go.load(Ordering::Acquire) {
                        std::hint::spin_loop();
                    }
                    if system.runtime.code_heap().free(block).is_ok() {
                        freed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            go.store(true, Ordering::Release);
        });
        assert_eq!(freed.load(Ordering::Relaxed), 1);
    }
}

#[test]
fn a_fork_waits_for_the_heap_and_the_heap_for_the_fork() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.code_heap();
    let other = system.runtime.new_code_heap(Limits::DEFAULT).unwrap();
    let kept = heap.alloc(100).unwrap() as i64;
    assert!(system.runtime.before_fork());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            heap.alloc(100).unwrap();
            other.alloc(100).unwrap();
            done.store(true, Ordering::Release);
        });
        thread::sleep(std::time::Duration::from_millis(20));
        assert!(!done.load(Ordering::Acquire), "an allocation went on during the fork");
        assert!(heap.find(kept).is_some(), "lookups go on");
        // SAFETY: `before_fork` was called above, by this thread.
        unsafe { system.runtime.after_fork_in_parent() };
    });
    assert!(done.load(Ordering::Acquire));
}

#[test]
fn who_finds_no_room_while_a_chunk_is_on_its_way_waits_for_it() {
    const LENGTH: usize = 64 << 10;
    let system = System::new(Policy::Dual, 4096);
    // There may be one chunk.
    let heap = system
        .runtime
        .new_code_heap(Limits { bytes: LENGTH, chunk_bytes: LENGTH, ..Limits::DEFAULT })
        .unwrap();
    let (mapping, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let barriers = (mapping.clone(), go_on.clone());
    let is_first = AtomicBool::new(true);
    system.fake.observe(move |event| {
        let is_chunk = event.memory == Some(Memory::Dual) && event.length == LENGTH;
        if is_chunk && is_first.swap(false, Ordering::Relaxed) {
            barriers.0.wait();
            barriers.1.wait();
        }
    });
    let results = thread::scope(|scope| {
        let first = scope.spawn(|| heap.alloc(100));
        mapping.wait();
        let second = scope.spawn(|| heap.alloc(100));
        while system.fake.threads_that_waited() == 0 && !second.is_finished() {
            thread::yield_now();
        }
        go_on.wait();
        [first, second].map(|thread| thread.join().unwrap().map(|_| ()))
    });
    system.fake.stop_observing();
    assert_eq!(results, [Ok(()); 2]);
    assert_eq!(system.runtime.statistics().code_chunks, 1);
}
