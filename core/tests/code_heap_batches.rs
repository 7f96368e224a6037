//! Batches: all of one is published, or nothing is, whatever else happens meanwhile.

mod support;

use execmem_core::{Error, Policy};
use execmem_fake::Call;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use support::{POLICIES, System, code_block, write_block};

const SIZE: i64 = 100;

fn ranges(blocks: &[i64]) -> impl Iterator<Item = (i64, i64)> + Clone {
    blocks.iter().map(|block| (*block, SIZE))
}

/// Calls back once, in the middle of the next flush.
fn in_next_flush(system: &System, then: impl FnOnce() + Send + 'static) {
    let then = Mutex::new(Some(then));
    system.fake.observe(move |event| {
        if event.call == Call::FlushIcache
            && let Some(then) = { then.lock().unwrap().take() }
        {
            then();
        }
    });
}

/// A block with this code that is under another lock than `block`: while that one is held, another thread
/// allocates.
fn block_in_another_shard(system: &Arc<System>, block: i64, byte: u8) -> i64 {
    let (there, here) = (system.clone(), mpsc::channel());
    in_next_flush(system, move || {
        let allocated = thread::spawn(move || there.runtime.code_heap().alloc(SIZE).unwrap() as i64);
        here.0.send(allocated.join().unwrap()).unwrap();
    });
    let heap = system.runtime.code_heap();
    heap.publish(block, SIZE).unwrap();
    system.fake.stop_observing();
    let allocated = here.1.recv().unwrap();
    write_block(&heap, allocated, &[byte; SIZE as usize]).unwrap();
    allocated
}

#[test]
fn a_block_that_is_freed_meanwhile_is_published_first_or_fails_all() {
    for policy in POLICIES {
        let system = Arc::new(System::new(policy, 4096));
        let heap = system.runtime.code_heap();
        let first = code_block(&heap, &[1; SIZE as usize]);
        let second = block_in_another_shard(&system, first, 2);
        write_block(&heap, first, &[3; SIZE as usize]).unwrap();
        // The first flush finds another thread that frees the other block, and gives it time to do so.
        let there = system.clone();
        let freeing = Arc::new(Mutex::new(None));
        let thread = freeing.clone();
        in_next_flush(&system, move || {
            let (done, is_done) = mpsc::channel();
            let free = move || {
                there.runtime.code_heap().free(second).unwrap();
                let _ = done.send(());
            };
            *thread.lock().unwrap() = Some(thread::spawn(free));
            let _ = is_done.recv_timeout(Duration::from_millis(50));
        });
        assert_eq!(heap.publish_all(ranges(&[first, second])), Ok(()), "{policy:?}");
        freeing.lock().unwrap().take().expect("a thread").join().unwrap();
        system.fake.stop_observing();
        assert_eq!(heap.find(second), None);
        assert_eq!(system.fake.executed_elsewhere(first as usize, SIZE as usize), [3; SIZE as usize]);
    }
}

#[test]
fn a_block_whose_pages_cannot_be_made_executable_fails_the_batch_before_anything_is_published() {
    let system = System::new(Policy::Toggle, 4096);
    let heap = system.runtime.code_heap();
    let blocks = [code_block(&heap, &[1; SIZE as usize]), code_block(&heap, &[2; SIZE as usize])];
    // Twice: the flip back of the second block fails, and leaves its pages read-write.
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    assert_eq!(write_block(&heap, blocks[1], &[3; SIZE as usize]), Err(Error::NoMemory));
    let before = system.fake.count(Call::FlushIcache);
    system.fake.fail(Call::Protect, 0, Error::NoMemory);
    assert_eq!(heap.publish_all(ranges(&blocks)), Err(Error::NoMemory));
    assert_eq!(system.fake.count(Call::FlushIcache), before);
    heap.publish_all(ranges(&blocks)).unwrap();
    assert_eq!(system.fake.executed_elsewhere(blocks[1] as usize, SIZE as usize), [3; SIZE as usize]);
}

#[test]
fn other_cores_are_told_of_a_batch_if_they_ran_any_of_it_before() {
    for ran in 0..3 {
        System::each(|system| {
            let heap = system.runtime.code_heap();
            let blocks: Vec<i64> = (0..3).map(|_| heap.alloc(SIZE).unwrap() as i64).collect();
            write_block(&heap, blocks[ran], &[7; SIZE as usize]).unwrap();
            heap.publish(blocks[ran], SIZE).unwrap();
            for block in &blocks {
                write_block(&heap, *block, &[9; SIZE as usize]).unwrap();
            }
            heap.publish_all(ranges(&blocks)).unwrap();
            for block in &blocks {
                assert_eq!(
                    system.fake.executed_elsewhere(*block as usize, SIZE as usize),
                    [9; SIZE as usize]
                );
            }
            assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
        });
    }
}

#[test]
fn batches_of_the_same_blocks_in_any_order_and_frees_wait_for_each_other_and_end() {
    const THREADS: usize = 4;
    let rounds = if cfg!(miri) { 1 } else { 300 };
    let system = System::new(Policy::Dual, 4096);
    let blocks = Mutex::new(Vec::new());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Threads allocate from different shards.
        for _ in 0..THREADS {
            scope.spawn(|| {
                let heap = system.runtime.code_heap();
                (0..if cfg!(miri) { 3 } else { 8 })
                    .for_each(|byte| blocks.lock().unwrap().push(code_block(&heap, &[byte; SIZE as usize])));
            });
        }
    });
    let blocks = blocks.into_inner().unwrap();
    thread::scope(|scope| {
        let publishers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mut mine = blocks.clone();
                mine.rotate_left(thread * 3);
                if thread % 2 == 1 {
                    mine.reverse();
                }
                let heap = system.runtime.code_heap();
                scope.spawn(move || {
                    (0..rounds).for_each(|_| heap.publish_all(ranges(&mine)).unwrap());
                })
            })
            .collect();
        scope.spawn(|| {
            let heap = system.runtime.code_heap();
            while !stop.load(Ordering::Relaxed) {
                heap.free(code_block(&heap, &[1; SIZE as usize])).unwrap();
            }
        });
        publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
        stop.store(true, Ordering::Relaxed);
    });
}
