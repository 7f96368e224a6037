//! A forked child has its parent's functions, and memory of its own as soon as it writes.

mod support;

use execmem_core::Limits;
use execmem_core::{Error, Policy};
use execmem_fake::{Call, Event};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use support::{Heap, System, copied, fork_as_child as fork, write_block as write};

/// A heap whose chunks are small, so that blocks get into several.
fn small_heap(system: &System) -> Heap<'_> {
    system.runtime.new_code_heap(Limits { chunk_bytes: 128 << 10, ..Limits::DEFAULT }).unwrap()
}

/// Blocks that were written in full, one here, one there, and one that was not written at all.
fn blocks(heap: &Heap<'_>) -> Vec<(i64, usize, Option<u8>)> {
    let sizes = [100, 9000, 64, 20_000, 5000, 70_000, 3000];
    let mut blocks = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let address = heap.alloc(size as i64).unwrap() as i64;
        let byte = (number != 3).then_some(number as u8 + 1);
        if let Some(byte) = byte {
            write(heap, address, &vec![byte; size]).unwrap();
            heap.publish(address, size as i64).unwrap();
        }
        blocks.push((address, size, byte));
    }
    blocks
}

#[test]
fn a_forked_child_has_every_function_and_goes_on_with_the_heap() {
    let system = System::new(Policy::Dual, 4096);
    let heap = small_heap(&system);
    let blocks = blocks(&heap);
    fork(&system);
    for (address, size, byte) in &blocks {
        assert_eq!(heap.find(*address).map(|block| block.size), Some(*size));
        if let Some(byte) = byte {
            assert!(system.raw(*address as usize, *size).iter().all(|found| found == byte));
            assert_eq!(system.fake.executed(*address as usize, *size), vec![*byte; *size]);
        }
    }
    // In the same pages, in others, and in a chunk of its own.
    for (address, size, _) in blocks {
        write(&heap, address, &vec![99; size]).unwrap();
        heap.publish(address, size as i64).unwrap();
        assert_eq!(system.fake.executed(address as usize, size), vec![99; size]);
        heap.free(address).unwrap();
    }
    self::blocks(&heap);
    system.fake.verify();
}

#[test]
fn a_fork_copies_nothing_and_a_write_copies_what_was_ever_written_of_its_chunk() {
    let system = System::new(Policy::Dual, 4096);
    let heap = small_heap(&system);
    let addresses: Vec<i64> = (0..10).map(|_| heap.alloc(8000).unwrap() as i64).collect();
    let last = heap.alloc(70_000).unwrap() as i64;
    write(&heap, last, &[1; 70_000]).unwrap();
    for number in [2, 5, 8] {
        write(&heap, addresses[number], &[1; 8000]).unwrap();
    }
    copied(&system);
    fork(&system);
    assert_eq!(copied(&system), 0);
    // Blocks of 8,000 bytes touch three pages at most.
    write(&heap, addresses[5], &[2; 8000]).unwrap();
    let bytes = copied(&system);
    assert!((3 * 8000..=9 * 4096).contains(&bytes), "{bytes} bytes");
    write(&heap, addresses[2], &[2; 8000]).unwrap();
    assert_eq!(copied(&system), 0, "the chunk is this process's own now");
    fork(&system);
    heap.free(last).unwrap();
    heap.free(addresses[8]).unwrap();
    assert!(copied(&system) > 0, "traps are written too");
    system.fake.verify();
}

#[test]
fn a_write_view_that_was_handed_out_is_copied_at_the_fork() {
    let system = System::new(Policy::Dual, 4096);
    let heap = small_heap(&system);
    let address = heap.alloc(100).unwrap() as i64;
    let view = heap.write_view(address).unwrap();
    copied(&system);
    fork(&system);
    assert!(copied(&system) > 0);
    system.poke(view, &[7; 100]);
    heap.publish(address, 100).unwrap();
    assert_eq!(system.fake.executed(address as usize, 100), [7; 100]);
    write(&heap, address, &[8; 100]).unwrap();
    assert_eq!(copied(&system), 0);
    system.fake.verify();
}

#[test]
fn a_write_after_a_fork_that_finds_no_memory_fails_and_nothing_else_does() {
    for call in [Call::Map, Call::MoveOnto] {
        let system = System::new(Policy::Dual, 4096);
        let heap = small_heap(&system);
        let address = heap.alloc(1000).unwrap() as i64;
        write(&heap, address, &[1; 1000]).unwrap();
        heap.publish(address, 1000).unwrap();
        fork(&system);
        system.fake.fail_always(call, Error::NoMemory);
        assert_eq!(write(&heap, address, &[2; 1000]), Err(Error::NoMemory));
        assert_eq!(heap.write_view(address), Err(Error::NoMemory));
        assert_eq!(heap.patch(address, 0), Err(Error::NoMemory));
        assert_eq!(heap.free(address), Err(Error::NoMemory));
        assert_eq!(heap.publish(address, 1000), Ok(()));
        assert_eq!(system.runtime.is_executable(address), Ok(true));
        assert_eq!(system.fake.executed(address as usize, 1000), [1; 1000]);
        system.fake.clear_faults();
        assert_eq!(write(&heap, address, &[2; 1000]), Ok(1000));
        heap.publish(address, 1000).unwrap();
        assert_eq!(system.fake.executed(address as usize, 1000), [2; 1000]);
        system.fake.verify();
    }
}

#[test]
fn a_child_without_memory_for_what_can_not_wait_can_neither_run_nor_write_it() {
    let system = System::new(Policy::Dual, 4096);
    let heap = small_heap(&system);
    let address = heap.alloc(1000).unwrap() as i64;
    write(&heap, address, &[1; 1000]).unwrap();
    heap.publish(address, 1000).unwrap();
    heap.write_view(address).unwrap();
    system.fake.fail_always(Call::Map, Error::NoMemory);
    fork(&system);
    assert_eq!(system.runtime.is_executable(address), Ok(false));
    assert_eq!(write(&heap, address, &[2; 1000]), Err(Error::WrongProtection));
    assert_eq!(heap.write_view(address), Err(Error::WrongProtection));
    assert_eq!(heap.publish(address, 1000), Err(Error::WrongProtection));
    assert_eq!(heap.patch(address, 0), Err(Error::WrongProtection));
    system.fake.clear_faults();
    // Others are not allocated there, and it can be freed, and its chunk unmapped.
    let other = heap.alloc(1000).unwrap() as i64;
    write(&heap, other, &[3; 1000]).unwrap();
    heap.publish(other, 1000).unwrap();
    assert_eq!(system.fake.executed(other as usize, 1000), [3; 1000]);
    let chunks = system.runtime.statistics().code_chunks;
    heap.free(address).unwrap();
    assert_eq!(system.runtime.statistics().code_chunks, chunks - 1);
    system.fake.verify();
}

/// More than a block that shares a chunk.
const LARGE: usize = 128 << 10;

/// Goes on as a forked child while another thread, which is not in it, stands still inside of its first call like this,
/// and does `then` as the child. What the child would wait for never comes.
fn fork_during(
    system: &System,
    is_it: impl Fn(&Event) -> bool + Send + Sync + 'static,
    work: impl FnOnce() + Send,
    then: impl FnOnce(),
) {
    let (reached, done) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let (inside, go_on) = (reached.clone(), done.clone());
    let (is_first, child) = (AtomicBool::new(true), thread::current().id());
    let is_child = Arc::new(AtomicBool::new(false));
    let began = is_child.clone();
    system.fake.observe(move |event| {
        if thread::current().id() == child {
            assert!(
                event.call != Call::Wait || !is_child.load(Ordering::Relaxed),
                "a child waits for nobody"
            );
        } else if is_it(event) && is_first.swap(false, Ordering::Relaxed) {
            inside.wait();
            go_on.wait();
        }
    });
    thread::scope(|scope| {
        scope.spawn(work);
        reached.wait();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            fork(system);
            began.store(true, Ordering::Relaxed);
            then();
        }));
        done.wait();
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
    system.fake.stop_observing();
}

/// The heap may have two chunks: a small one, which is there, and a large one. A child can use all of it.
fn heap_for_two(system: &System) -> Heap<'_> {
    let limits = Limits { bytes: LARGE + (64 << 10), chunk_bytes: 64 << 10, ..Limits::DEFAULT };
    let heap = system.runtime.new_code_heap(limits).unwrap();
    heap.alloc(100).unwrap();
    heap
}

fn expect_all(heap: &Heap<'_>) {
    let large = heap.alloc(LARGE as i64).expect("room for a large block");
    assert_eq!(heap.find((large + LARGE - 1) as i64).map(|block| block.size), Some(LARGE));
    assert_eq!(heap.alloc(LARGE as i64), Err(Error::OverLimit));
    heap.alloc(100).unwrap();
}

#[test]
fn a_chunk_that_another_thread_was_mapping_is_not_the_childs() {
    let system = System::new(Policy::Dual, 4096);
    let heap = heap_for_two(&system);
    let chunks = system.runtime.statistics().code_chunks;
    let is_mapping = |event: &Event| event.call == Call::Map && event.length == LARGE;
    fork_during(
        &system,
        is_mapping,
        || _ = heap.alloc(LARGE as i64),
        || {
            assert_eq!(system.runtime.statistics().code_chunks, chunks);
            expect_all(&heap);
        },
    );
}

#[test]
fn a_chunk_that_another_thread_was_unmapping_is_not_the_childs() {
    let system = System::new(Policy::Dual, 4096);
    let heap = heap_for_two(&system);
    let chunks = system.runtime.statistics().code_chunks;
    let large = heap.alloc(LARGE as i64).unwrap() as i64;
    let is_unmapping = |event: &Event| event.call == Call::Unmap && event.length == LARGE;
    fork_during(
        &system,
        is_unmapping,
        || _ = heap.free(large),
        || {
            assert_eq!(heap.find(large), None);
            assert_eq!(system.runtime.statistics().code_chunks, chunks);
            expect_all(&heap);
        },
    );
}

#[test]
#[cfg_attr(miri, ignore = "a thread's stack is not in one place then, and its calls prefer different shards")]
fn a_chunk_that_another_thread_was_about_to_add_is_unmapped_in_the_child() {
    let system = System::new(Policy::Dual, 4096);
    // A third chunk holds a block in the shard that the other thread prefers.
    let limits = Limits { bytes: LARGE + (128 << 10), chunk_bytes: 64 << 10, ..Limits::DEFAULT };
    let heap = system.runtime.new_code_heap(limits).unwrap();
    heap.alloc(100).unwrap();
    let (writing, go_on) = (Arc::new(Barrier::new(2)), Barrier::new(2));
    let inside = writing.clone();
    let [is_written, has_waited] = [const { AtomicBool::new(false) }; 2];
    let is_armed = Arc::new(AtomicBool::new(false));
    let armed = is_armed.clone();
    // Whoever writes holds the shard's lock; the thread with the new chunk waits for that, and stands still there.
    let is_waiting = move |event: &Event| {
        let is_first =
            |flag: &AtomicBool| armed.load(Ordering::Relaxed) && !flag.swap(true, Ordering::Relaxed);
        match event.call {
            Call::Request if is_first(&is_written) => {
                inside.wait();
                go_on.wait();
            }
            Call::Wait if is_first(&has_waited) => {
                go_on.wait();
                return true;
            }
            _ => {}
        }
        false
    };
    let work = || {
        let block = heap.alloc(100).unwrap() as i64;
        is_armed.store(true, Ordering::Relaxed);
        thread::scope(|scope| {
            scope.spawn(|| write(&heap, block, &[1; 100]).unwrap());
            writing.wait();
            _ = heap.alloc(LARGE as i64);
        });
    };
    fork_during(&system, is_waiting, work, || {
        let chunks = system.runtime.statistics().code_chunks;
        expect_all(&heap);
        assert_eq!(system.runtime.statistics().code_chunks, chunks, "one went, one came");
    });
}
