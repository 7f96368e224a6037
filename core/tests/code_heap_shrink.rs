//! Blocks that turn out longer than their code: the tail goes back.

mod support;

use execmem_core::icache::TRAP;
use execmem_core::{Block, Limits};
use execmem_core::{Error, Policy};
use execmem_fake::Call;
use std::thread;
use support::{Heap, System, code_block, fork_as_child, write_block};

const ONE_CHUNK: Limits = Limits { bytes: 256 << 10, chunk_bytes: 256 << 10, ..Limits::DEFAULT };

/// What blocks are aligned to.
fn granule(system: &System) -> usize {
    if system.policy == Policy::Toggle { system.page } else { 64 }
}

fn block_at(heap: &Heap<'_>, address: i64) -> Option<(i64, usize)> {
    heap.find(address).map(|block| (block.address as i64, block.size))
}

#[test]
fn what_is_allocated_for_the_worst_case_and_shrunk_lies_packed_in_one_chunk() {
    System::each(|system| {
        let granule = granule(&system);
        let heap = system.runtime.new_code_heap(ONE_CHUNK).unwrap();
        let count = if cfg!(miri) { 10 } else { (200 << 10) / granule / 2 };
        let (worst, size) = (64 * granule.min(1024) as i64, granule as i64 + 36);
        let blocks = (0..count).map(|index| {
            let block = heap.alloc(worst).unwrap() as i64;
            write_block(&heap, block, &vec![index as u8; size as usize]).unwrap();
            heap.publish(block, size).unwrap();
            heap.shrink(block, size).unwrap();
            block
        });
        let blocks: Vec<i64> = blocks.collect();
        for (index, block) in blocks.iter().enumerate() {
            assert_eq!(*block, blocks[0] + (index * 2 * granule) as i64);
            assert_eq!(block_at(&heap, block + size - 1), Some((*block, size as usize)));
            let code = system.fake.executed_elsewhere(*block as usize, size as usize);
            assert!(code.iter().all(|byte| *byte == index as u8));
        }
        let statistics = system.runtime.statistics();
        assert_eq!((statistics.code_chunks, statistics.code_bytes), (1, count as i64 * size));
        system.fake.verify();
    });
}

#[test]
fn a_tail_holds_traps_belongs_to_nobody_and_serves_others() {
    System::each(|system| {
        let granule = granule(&system);
        let heap = system.runtime.new_code_heap(ONE_CHUNK).unwrap();
        let size = 4 * granule;
        // A neighbour keeps the tail from the bump.
        let block = code_block(&heap, &vec![7; size]);
        let neighbour = code_block(&heap, &[8; 100]);
        heap.shrink(block, granule as i64 - 5).unwrap();
        let tail = block + granule as i64;
        for nobodys in [tail - 5, tail, tail + 3 * granule as i64 - 1] {
            assert_eq!(heap.find(nobodys), None);
            assert_eq!(system.runtime.is_executable(nobodys), Ok(false));
        }
        assert_eq!(heap.find(block), Some(Block { address: block as usize, size: granule - 5 }));
        assert!(system.raw(tail as usize, 3 * granule).chunks(4).all(|word| word == TRAP));
        assert_eq!(system.fake.executed(block as usize, granule - 5), vec![7; granule - 5]);
        // Once nothing else is free, it is what the next block gets; other cores forget what they fetched there.
        let rest = |size: usize| core::iter::from_fn(|| heap.alloc(size as i64).ok()).collect::<Vec<usize>>();
        let found = rest(3 * granule);
        assert!(found.contains(&(tail as usize)), "{tail:#x} is not among {found:x?}");
        write_block(&heap, tail, &vec![9; 3 * granule]).unwrap();
        heap.publish(tail, 3 * granule as i64).unwrap();
        assert_eq!(system.fake.executed_elsewhere(tail as usize, 3 * granule), vec![9; 3 * granule]);
        assert_eq!(system.fake.executed_elsewhere(block as usize, granule - 5), vec![7; granule - 5]);
        assert_eq!(system.fake.executed_elsewhere(neighbour as usize, 100), [8; 100]);
        // What is left can be shrunk again, written, and freed.
        heap.shrink(block, 1).unwrap();
        heap.shrink(block, 1).unwrap();
        assert_eq!(write_block(&heap, block, &[1, 2]), Err(Error::NotOwned));
        write_block(&heap, block, &[1]).unwrap();
        heap.free(block).unwrap();
        system.fake.verify();
    });
}

#[test]
fn a_block_never_grows_and_only_its_start_shrinks_it() {
    System::each(|system| {
        let heap = system.runtime.code_heap();
        let block = code_block(&heap, &[7; 300]);
        let freed = heap.alloc(300).unwrap() as i64;
        heap.free(freed).unwrap();
        let region = system.runtime.alloc_exec(5000).unwrap() as i64;
        let other = system.runtime.new_code_heap(Limits::DEFAULT).unwrap();
        let moment = system.moment();
        for size in [301, i64::MAX - block, i64::MAX, 0, -1, i64::MIN] {
            assert_eq!(heap.shrink(block, size), Err(Error::InvalidArgument));
        }
        for (address, size) in [(block + 64, 1), (freed, 1), (region, 1), (block + 64, 301)] {
            assert_eq!(heap.shrink(address, size), Err(Error::NotOwned), "{address:#x} {size}");
        }
        assert_eq!(heap.shrink(0, 1), Err(Error::InvalidArgument));
        assert_eq!(other.shrink(block, 100), Err(Error::NotOwned));
        assert_eq!(heap.shrink(block, 300), Ok(()));
        assert_eq!(system.moment(), moment);
        assert_eq!(system.raw(block as usize, 300), [7; 300]);
    });
}

#[test]
fn a_large_block_keeps_its_pages() {
    System::each(|system| {
        let heap = system.runtime.code_heap();
        let block = heap.alloc(200_000).unwrap() as i64;
        write_block(&heap, block, &vec![7; 200_000]).unwrap();
        let before = system.runtime.statistics();
        for size in [100_000, 70_000, 10] {
            heap.shrink(block, size).unwrap();
            assert_eq!(block_at(&heap, block + size - 1), Some((block, size as usize)));
            assert_eq!(heap.find(block + size), None);
        }
        let after = system.runtime.statistics();
        assert_eq!((before.code_bytes, after.code_bytes), (200_000, 10));
        assert_eq!(before.code_chunk_bytes, after.code_chunk_bytes);
        heap.free(block).unwrap();
        assert_eq!(system.runtime.statistics().code_chunks, 0);
    });
}

#[test]
#[cfg_attr(miri, ignore = "a thread's stack is not in one place, so that its calls prefer different shards")]
fn a_lookup_meanwhile_finds_the_old_end_or_the_new_one() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.new_code_heap(ONE_CHUNK).unwrap();
    let block = heap.alloc(1000).unwrap() as i64;
    heap.free(block).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..30_000 {
                assert_eq!(heap.alloc(1000), Ok(block as usize));
                heap.shrink(block, 100).unwrap();
                assert_eq!(heap.alloc(700), Ok(block as usize + 128));
                heap.free(block + 128).unwrap();
                heap.free(block).unwrap();
            }
        });
        let mut found = 0;
        while !writer.is_finished() {
            for (at, sizes) in
                [(50, [(block, 1000), (block, 100)]), (800, [(block, 1000), (block + 128, 700)])]
            {
                let holder = block_at(&heap, block + at);
                assert!(holder.is_none_or(|holder| sizes.contains(&holder)), "{at}: {holder:?}");
                found += usize::from(holder.is_some());
            }
        }
        assert!(found > 0);
    });
}

#[test]
fn a_child_shrinks_its_own_copy_and_needs_none_for_what_was_never_written() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.code_heap();
    let fresh = heap.alloc(1000).unwrap() as i64;
    let block = code_block(&heap, &[7; 1000]);
    fork_as_child(&system);
    system.fake.fail_always(Call::Map, Error::NoMemory);
    assert_eq!(heap.shrink(block, 100), Err(Error::NoMemory));
    assert_eq!(heap.find(block + 999), Some(Block { address: block as usize, size: 1000 }));
    assert_eq!(system.fake.executed(block as usize, 1000), [7; 1000]);
    assert_eq!(heap.shrink(fresh, 100), Ok(()));
    assert_eq!(heap.shrink(block, 980), Ok(()), "no whole line goes back");
    system.fake.clear_faults();
    heap.shrink(block, 100).unwrap();
    assert_eq!(system.fake.executed(block as usize, 100), [7; 100]);
    assert!(system.raw(block as usize + 128, 896).chunks(4).all(|word| word == TRAP));
    system.fake.verify();
}
