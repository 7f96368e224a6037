//! The code heap's rules, one by one, on a platform that enforces them.

mod support;

use execmem_core::icache::TRAP;
use execmem_core::{Block, Limits};
use execmem_core::{Error, Policy, Runtime};
use execmem_fake::{Call, Fake};
use support::{Heap, System, code_block as code};

const CHUNK: usize = 64 << 10;
const LIMITS: Limits = Limits { bytes: usize::MAX, chunk_bytes: CHUNK, ..Limits::DEFAULT };
/// More than any block that shares a chunk.
const LARGE: i64 = (64 << 10) + 1;

fn heap(system: &System) -> Heap<'_> {
    system.runtime.new_code_heap(LIMITS).unwrap()
}

fn alloc(heap: &Heap<'_>, size: usize) -> i64 {
    heap.alloc(size as i64).unwrap() as i64
}

fn traps(length: usize) -> Vec<u8> {
    TRAP.iter().copied().cycle().take(length).collect()
}

#[test]
fn what_is_published_is_what_every_core_executes() {
    System::each(|system| {
        let heap = heap(&system);
        let address = code(&heap, &[7; 300]);
        assert_eq!(system.fake.executed(address as usize, 300), [7; 300]);
        assert_eq!(system.fake.executed_elsewhere(address as usize, 300), [7; 300]);
        assert!(system.runtime.is_executable(address).unwrap());
        assert_eq!(system.runtime.protection_at(address).unwrap(), Some(system.code()));
    });
}

#[test]
fn freed_code_is_traps_at_once() {
    System::each(|system| {
        let heap = heap(&system);
        let keeps_chunk = code(&heap, &[5; 100]);
        let address = code(&heap, &[7; 300]);
        let whole = 300usize.next_multiple_of(64);
        heap.free(address).unwrap();
        assert_eq!(system.fake.executed(address as usize, whole), traps(whole));
        assert_eq!(system.raw(address as usize, whole), traps(whole));
        assert_eq!(system.fake.executed(keeps_chunk as usize, 100), [5; 100]);
        // A block that nothing was written to holds no code.
        let flushes = system.fake.count(Call::FlushIcache);
        heap.free(alloc(&heap, 300)).unwrap();
        assert_eq!(system.fake.count(Call::FlushIcache), flushes);
    });
}

#[test]
fn what_was_written_directly_is_traps_after_freeing_too() {
    let system = System::new(Policy::Dual, 4096);
    let heap = heap(&system);
    let _keeps_chunk = alloc(&heap, 1);
    let address = alloc(&heap, 100);
    let view = heap.write_view(address).unwrap();
    system.poke(view, &[7; 100]);
    heap.publish(address, 100).unwrap();
    assert_eq!(system.fake.executed(address as usize, 100), [7; 100]);
    heap.free(address).unwrap();
    assert_eq!(system.fake.executed(address as usize, 128), traps(128));
}

#[test]
fn a_write_view_exists_under_policy_dual_only() {
    System::each(|system| {
        let heap = heap(&system);
        let address = alloc(&heap, 100);
        match system.policy {
            Policy::Dual => {
                let view = heap.write_view(address).unwrap();
                assert_eq!(heap.write_view(address + 99), Ok(view + 99));
            }
            _ => assert_eq!(heap.write_view(address), Err(Error::Unsupported)),
        }
        assert_eq!(heap.write_view(address + 100), Err(Error::NotOwned));
    });
}

#[test]
fn only_the_start_of_a_live_block_can_be_freed_and_only_once() {
    System::each(|system| {
        let heap = heap(&system);
        let other_heap = system.runtime.new_code_heap(LIMITS).unwrap();
        let (a, b) = (code(&heap, &[1; 200]), code(&heap, &[2; 200]));
        let large = alloc(&heap, LARGE as usize);
        let foreign = alloc(&other_heap, 64);
        let region = system.runtime.alloc_exec(64).unwrap() as i64;
        let before = system.moment();
        for bad in [a + 1, a + 64, a + 199, large + 1, large + 4096, foreign, region, 0x1000] {
            assert_eq!(heap.free(bad), Err(Error::NotOwned), "{bad:#x}");
        }
        for bad in [0, -1, i64::MIN] {
            assert_eq!(heap.free(bad), Err(Error::InvalidArgument));
        }
        if system.policy == Policy::Dual {
            let view = heap.write_view(b).unwrap() as i64;
            assert_eq!(heap.free(view), Err(Error::NotOwned));
        }
        assert_eq!(system.moment(), before);
        for block in [a, large] {
            heap.free(block).unwrap();
            let before = system.moment();
            assert_eq!(heap.free(block), Err(Error::NotOwned));
            assert_eq!(system.moment(), before);
        }
        assert_eq!(system.fake.executed(b as usize, 200), [2; 200]);
    });
}

#[test]
fn every_byte_of_a_live_block_leads_to_it_and_no_other_byte_does() {
    System::each(|system| {
        let heap = heap(&system);
        for size in [1, 63, 64, 65, 4096, 5000, 65536, 65537, 200_000] {
            let address = alloc(&heap, size);
            let block = Block { address: address as usize, size };
            for inside in [0, size / 3, size / 2, size - 1] {
                assert_eq!(heap.find(address + inside as i64), Some(block));
                assert!(system.runtime.is_executable(address + inside as i64).unwrap());
            }
            assert_eq!(heap.find(address + size as i64), None);
            assert!(!system.runtime.is_executable(address + size as i64).unwrap());
            heap.free(address).unwrap();
            assert_eq!(heap.find(address), None);
            assert!(!system.runtime.is_executable(address).unwrap());
        }
        assert_eq!(heap.find(0), None);
        assert_eq!(heap.find(-1), None);
        assert_eq!(heap.find(i64::MAX), None);
    });
}

#[test]
fn a_write_stays_inside_its_block() {
    System::each(|system| {
        let heap = heap(&system);
        let (a, b) = (code(&heap, &[1; 100]), code(&heap, &[2; 100]));
        let before = system.moment();
        // SAFETY: the array is readable; what is refused isn't read.
        let write =
            |address, length, offset| unsafe { heap.write(address, [9; 200].as_ptr(), length, offset) };
        assert_eq!(write(a, 101, 0), Err(Error::NotOwned));
        assert_eq!(write(a, 1, 100), Err(Error::NotOwned));
        assert_eq!(write(a, 100, 1), Err(Error::NotOwned));
        assert_eq!(write(a, 1, b - a), Err(Error::NotOwned));
        assert_eq!(write(a, 1, -1), Err(Error::InvalidArgument));
        assert_eq!(write(a, -1, 0), Err(Error::InvalidArgument));
        assert_eq!(write(a, 1, i64::MAX), Err(Error::InvalidArgument));
        assert_eq!(write(a, 0, 101), Err(Error::NotOwned));
        assert_eq!(write(a, 0, 100), Ok(0));
        assert_eq!(write(0, 1, 0), Err(Error::InvalidArgument));
        // SAFETY: nothing is read from NULL.
        assert_eq!(unsafe { heap.write(a, core::ptr::null(), 1, 0) }, Err(Error::InvalidArgument));
        assert_eq!(heap.publish(a, 101), Err(Error::NotOwned));
        assert_eq!(heap.publish(a + 99, 2), Err(Error::NotOwned));
        assert_eq!(heap.publish(a, -1), Err(Error::InvalidArgument));
        // An empty range does nothing, anywhere in a block and at its end.
        assert_eq!([0, 50, 100].map(|offset| heap.publish(a + offset, 0)), [Ok(()); 3]);
        assert_eq!(heap.publish(a + 101, 0), Err(Error::NotOwned));
        assert_eq!(heap.publish(0, 0), Err(Error::InvalidArgument));
        assert_eq!(system.moment(), before);
        assert_eq!(write(a, 50, 50), Ok(50));
    });
}

#[test]
fn a_long_write_arrives_whole() {
    System::each(|system| {
        let heap = heap(&system);
        let bytes: Vec<u8> =
            (0..if cfg!(miri) { 10_000 } else { 200_000u32 }).map(|index| ((index * 7) >> 3) as u8).collect();
        let address = code(&heap, &bytes);
        assert_eq!(system.fake.executed(address as usize, bytes.len()), bytes);
    });
}

#[test]
fn a_patch_replaces_one_word_on_every_core() {
    System::each(|system| {
        let heap = heap(&system);
        let address = code(&heap, &[1; 100]);
        let patched = heap.patch(address + 8, u64::from_ne_bytes([9; 8]));
        if system.policy == Policy::Toggle {
            assert_eq!(patched, Err(Error::Unsupported));
            return;
        }
        patched.unwrap();
        let mut expected = [1; 24];
        expected[8..16].fill(9);
        assert_eq!(system.fake.executed_elsewhere(address as usize, 24), expected);
        let before = system.moment();
        assert_eq!(heap.patch(address + 4, 0), Err(Error::InvalidArgument));
        assert_eq!(heap.patch(address + 96, 0), Err(Error::NotOwned));
        assert_eq!(heap.patch(address + 104, 0), Err(Error::NotOwned));
        assert_eq!(system.moment(), before);
    });
}

#[test]
fn no_page_operation_reaches_a_heaps_pages() {
    System::each(|system| {
        let heap = heap(&system);
        let address = code(&heap, &[1; 100]);
        let before = system.moment();
        let runtime = &system.runtime;
        let page = address & !(system.page as i64 - 1);
        assert_eq!(runtime.free_exec(page, CHUNK as i64), Err(Error::NotOwned));
        assert_eq!(runtime.unmap(page, CHUNK as i64), Err(Error::NotOwned));
        assert_eq!(runtime.make_writable(address, 1), Err(Error::NotOwned));
        assert_eq!(runtime.lock(address, 1), Err(Error::NotOwned));
        assert_eq!(runtime.advise(address, 1, execmem_core::Advice::DontNeed), Err(Error::NotOwned));
        assert_eq!(runtime.flush_icache(address, 1), Err(Error::NotOwned));
        assert_eq!(system.write(address as usize, &[9]), Err(Error::NotOwned));
        assert_eq!(system.read(address as usize, 1), Err(Error::NotOwned));
        assert_eq!(system.moment(), before);
    });
}

#[test]
fn the_heap_prefers_two_views_where_the_choice_is_its_own() {
    let fake = Fake::new();
    let runtime = Runtime::new(fake.platform());
    runtime.alloc_exec(1).unwrap();
    assert_eq!(runtime.policy(), Ok(Policy::Rwx));
    assert_eq!(runtime.statistics().policy_trials[Policy::Dual as usize], -1);
    assert_eq!(runtime.code_heap().policy(), Ok(Policy::Dual));
    assert_eq!(runtime.statistics().policy_trials[Policy::Dual as usize], 0);

    let fake = Fake::new();
    fake.switch(|switches| (switches.refuse_dual, switches.refuse_writable_code) = (true, true));
    let runtime = Runtime::new(fake.platform());
    assert_eq!(runtime.code_heap().policy(), Ok(Policy::Toggle));

    let fake = Fake::new();
    let runtime = Runtime::new(fake.platform());
    runtime.set_policy(Policy::Rwx).unwrap();
    assert_eq!(runtime.code_heap().policy(), Ok(Policy::Rwx));
}

#[test]
fn under_policy_toggle_no_two_blocks_share_a_page() {
    let system = System::new(Policy::Toggle, 4096);
    let heap = heap(&system);
    let (a, b) = (code(&heap, &[1; 10]), code(&heap, &[2; 10]));
    assert_ne!(a / 4096, b / 4096);
}

#[test]
fn empty_chunks_go_back_to_the_system_and_one_is_kept() {
    System::each(|system| {
        let heap = heap(&system);
        let blocks: Vec<i64> = (0..12).map(|_| alloc(&heap, 40_000)).collect();
        let large = alloc(&heap, 300_000);
        let full = system.runtime.statistics();
        assert!(full.code_chunks >= 8 && full.code_blocks == 13 && full.code_bytes == 12 * 40_000 + 300_000);
        assert_eq!(full.code_clusters, 1);
        heap.free(large).unwrap();
        blocks.iter().for_each(|block| heap.free(*block).unwrap());
        let empty = system.runtime.statistics();
        // Each shard keeps one. Under Miri a thread's calls prefer different ones, as its stack is not in one place.
        assert!((1..=if cfg!(miri) { 8 } else { 1 }).contains(&empty.code_chunks), "{}", empty.code_chunks);
        assert_eq!((empty.code_blocks, empty.code_bytes), (0, 0));
        let maps = system.fake.count(Call::Map);
        for _ in 0..10 {
            heap.free(alloc(&heap, 40_000)).unwrap();
        }
        assert!(
            cfg!(miri) || system.fake.count(Call::Map) == maps,
            "a block that comes and goes costs no system call"
        );
    });
}

#[test]
fn a_heap_that_is_dropped_takes_its_blocks_along() {
    System::each(|system| {
        let before = system.mapped();
        let heap = heap(&system);
        let blocks = [code(&heap, &[1; 100]), alloc(&heap, 50_000), alloc(&heap, LARGE as usize)];
        drop(heap);
        assert_eq!(system.mapped(), before);
        let again = system.runtime.new_code_heap(LIMITS).unwrap();
        for block in blocks {
            assert_eq!(again.find(block), None);
            assert_eq!(again.free(block), Err(Error::NotOwned));
        }
        assert_eq!(alloc(&again, 100) % 64, 0);
    });
}

#[test]
fn a_heap_takes_a_64th_of_a_small_machine_at_a_time() {
    System::each(|system| {
        system.fake.set_physical_memory(64 << 20);
        system.runtime.code_heap().alloc(100).unwrap();
        assert_eq!(system.runtime.statistics().code_chunk_bytes, 1 << 20);
    });
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    System::each(|system| {
        let heap = heap(&system);
        let before = system.moment();
        for size in [0, -1, i64::MIN] {
            assert_eq!(heap.alloc(size), Err(Error::InvalidArgument));
        }
        assert_eq!(heap.alloc(1 << 40), Err(Error::OverLimit));
        assert_eq!(heap.alloc(i64::MAX), Err(Error::OverLimit));
        assert_eq!(heap.alloc_near(1, 0, 1), Err(Error::InvalidArgument));
        assert_eq!(system.moment(), before);
    });
}

#[test]
fn a_heap_at_its_limit_says_so_and_goes_on_when_there_is_room() {
    System::each(|system| {
        let limits = Limits { bytes: 4 * CHUNK, chunk_bytes: CHUNK, ..Limits::DEFAULT };
        let heap = system.runtime.new_code_heap(limits).unwrap();
        let size = if cfg!(miri) { 20_000 } else { 3000 };
        let mut blocks = Vec::new();
        let refusal = loop {
            match heap.alloc(size as i64) {
                Ok(block) => blocks.push(block as i64),
                Err(error) => break error,
            }
        };
        assert_eq!(refusal, Error::OverLimit);
        assert!(system.runtime.statistics().code_chunk_bytes <= 4 * CHUNK as i64);
        assert_eq!(heap.alloc(LARGE), Err(Error::OverLimit));
        for round in 0..3 {
            let victim = blocks.swap_remove(round * 7 % blocks.len());
            heap.free(victim).unwrap();
            blocks.push(alloc(&heap, size));
        }
        // An empty chunk that is kept makes room for a block that needs a chunk of its own.
        blocks.drain(..).for_each(|block| heap.free(block).unwrap());
        let large = alloc(&heap, 4 * CHUNK - 100);
        heap.free(large).unwrap();
        heap.set_limit(CHUNK);
        assert_eq!(heap.alloc(2 * CHUNK as i64), Err(Error::OverLimit));
    });
}

#[test]
fn a_block_near_a_target_lies_within_reach() {
    System::each(|system| {
        let heap = heap(&system);
        let target = code(&heap, &[1; 100]);
        for _ in 0..if cfg!(miri) { 3 } else { 50 } {
            let near = heap.alloc_near(700, target, 1 << 20).unwrap() as i64;
            assert!(near >= target - (1 << 20) && near + 700 <= target + (1 << 20));
        }
        // Within a part of a chunk, between other blocks.
        let tight = heap.alloc_near(64, target, 400 * system.page as i64).unwrap() as i64;
        assert!((tight - target).abs() <= 400 * system.page as i64);
        assert_eq!(heap.alloc_near(64, target, 10), Err(Error::NoMemory));
        assert!(heap.alloc_near(LARGE, target, 1 << 21).is_ok());
    });
}
