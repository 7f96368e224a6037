//! Code memory behind a write switch of each thread: what can't be done with it, and what a fork leaves.

mod support;

use execmem_core::Limits;
use execmem_core::platform::Memory;
use execmem_core::platform::Pages;
use execmem_core::{Error, Policy, Protection};
use execmem_fake::Call;
use support::{Heap, PAGE_SIZES, System, write_block};

const CODE: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];
const SIZE: i64 = 5000;

#[test]
fn protection_can_be_confirmed_and_not_changed() {
    let system = System::new(Policy::Jit, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    assert_eq!(system.write(code, &CODE), Ok(CODE.len()));
    for wanted in [Protection::NONE, Protection::READ, Protection::RW, Protection::EXEC] {
        let result = system.runtime.set_protection(code as i64, 1, wanted);
        assert_eq!(result, Err(Error::Unsupported), "{wanted:?}");
    }
    assert_eq!(system.runtime.set_protection(code as i64, 1, Protection::RWX), Err(Error::Refused));
    assert_eq!(system.runtime.set_protection(code as i64, 8193, Protection::RX), Err(Error::NotOwned));
    // Confirming makes what was written executable, as changing would.
    assert_eq!(system.runtime.make_executable(code as i64, SIZE), Ok(()));
    assert_eq!(system.fake.executed(code, CODE.len()), CODE);
    assert_eq!(system.fake.count(Call::Protect), 0);
    system.fake.verify();
}

#[test]
fn memory_that_was_allocated_to_be_written_by_the_caller_is_plain() {
    let system = System::new(Policy::Jit, 4096);
    let data = system.runtime.alloc_rw(SIZE).unwrap();
    system.poke(data, &CODE);
    assert_eq!(system.runtime.make_executable(data as i64, SIZE), Ok(()));
    assert_eq!(system.fake.executed(data, CODE.len()), CODE);
    assert_eq!(system.runtime.make_writable(data as i64, SIZE), Ok(()));
    system.fake.verify();
}

/// Goes on in a forked child. What `then` maps is there before the runtime hears of the fork: as if another
/// library had been told first.
fn fork(system: &System, then: impl FnOnce()) {
    assert!(system.runtime.before_fork());
    system.fake.lose_jit_pages();
    then();
    // SAFETY: this thread called `before_fork`.
    unsafe { system.runtime.after_fork_in_child() };
}

#[test]
fn a_forked_child_keeps_the_place_and_no_access() {
    let system = System::new(Policy::Jit, 4096);
    // The second one lies behind the core's own records: nothing is behind it.
    let [first, code] = [SIZE; 2].map(|size| system.runtime.alloc_exec(size).unwrap());
    system.runtime.free_exec(first as i64, SIZE).unwrap();
    system.publish(code, &CODE);
    // A system that is asked about a hole answers with what comes next.
    system.fake.add_foreign(code + 8192..code + 16384, Protection::RX);
    fork(&system, || ());
    assert_eq!(system.runtime.protection_at(code as i64), Ok(Some(Protection::NONE)));
    assert_eq!(system.runtime.is_executable(code as i64), Ok(false));
    assert_eq!(system.write(code, &CODE), Err(Error::WrongProtection));
    assert_eq!(system.runtime.make_executable(code as i64, 1), Err(Error::Unsupported));
    assert_eq!(system.runtime.region_count(), 1);
    system.runtime.free_exec(code as i64, SIZE).unwrap();
    assert_eq!(system.mapped(), []);
    system.fake.verify();
}

#[test]
fn a_forked_child_forgets_a_place_that_somebody_else_took() {
    let system = System::new(Policy::Jit, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    let platform = system.fake.platform();
    fork(&system, || {
        let views = platform.map(8192, Memory::Private(Protection::RW), Some(code)).unwrap();
        assert_eq!(views.address, code);
    });
    assert_eq!(system.runtime.free_exec(code as i64, SIZE), Err(Error::NotOwned));
    assert_eq!((system.runtime.region_count(), system.runtime.requested_bytes()), (0, 0));
    assert_eq!(system.runtime.statistics().mapped_bytes, 0);
    assert_eq!(system.runtime.protection_at(code as i64), Ok(Some(Protection::RW)));
}

#[test]
fn a_child_of_a_child_can_free_the_place_too() {
    let system = System::new(Policy::Jit, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    fork(&system, || ());
    fork(&system, || ());
    assert_eq!(system.runtime.protection_at(code as i64), Ok(Some(Protection::NONE)));
    system.runtime.free_exec(code as i64, SIZE).unwrap();
    assert_eq!(system.mapped(), []);
    system.fake.verify();
}

/// A block too large to share a chunk with others.
const LARGE: usize = 100_000;

/// A published block of so many bytes that the heap gives for `CODE`.
fn block(heap: &Heap<'_>, size: usize) -> i64 {
    let address = heap.alloc(size as i64).unwrap() as i64;
    assert_eq!(write_block(heap, address, &CODE), Ok(CODE.len()));
    heap.publish(address, CODE.len() as i64).unwrap();
    address
}

/// What the statistics say of code heaps: blocks, bytes, chunks, their bytes, reservations.
fn heap_figures(system: &System) -> [i64; 5] {
    let all = system.runtime.statistics();
    [all.code_blocks, all.code_bytes, all.code_chunks, all.code_chunk_bytes, all.code_clusters]
}

#[test]
#[cfg_attr(miri, ignore = "the platform has four megabytes then")]
fn a_forked_childs_code_heap_starts_anew() {
    for &page_size in PAGE_SIZES {
        let system = System::new(Policy::Jit, page_size);
        let heap = system.runtime.code_heap();
        let blocks = [100, 3000, LARGE].map(|size| block(&heap, size));
        let other = system.runtime.new_code_heap(Limits::DEFAULT).unwrap();
        let others = block(&other, 100);
        let records = system.runtime.statistics().record_bytes;
        fork(&system, || ());
        // A child of the child: nothing is given up twice.
        fork(&system, || ());

        assert_eq!(heap_figures(&system), [0; 5]);
        for old in blocks.into_iter().chain([others]) {
            assert_eq!(heap.find(old), None);
            assert_eq!(system.runtime.is_executable(old), Ok(false));
            assert_eq!(system.runtime.protection_at(old), Ok(Some(Protection::NONE)));
            for heap in [&heap, &other] {
                assert_eq!(heap.free(old), Err(Error::NotOwned));
                assert_eq!(heap.publish(old, 1), Err(Error::NotOwned));
                // SAFETY: the constant is readable.
                assert_eq!(unsafe { heap.write(old, CODE.as_ptr(), 1, 0) }, Err(Error::NotOwned));
            }
            assert_eq!(system.runtime.set_protection(old, 1, Protection::READ), Err(Error::NotOwned));
        }
        // Never at an old address, where a stale pointer would find it.
        let fresh = [100, 3000, LARGE].map(|size| block(&heap, size));
        for address in fresh {
            assert!(!blocks.contains(&address) && address != others);
            assert_eq!(system.fake.executed(address as usize, CODE.len()), CODE);
            assert_eq!(system.runtime.is_executable(address), Ok(true));
        }
        assert_eq!(heap_figures(&system)[..2], [3, 3100 + LARGE as i64]);
        // The old records serve again; that of one heap is free, and without its memory.
        let free = records - system.runtime.statistics().record_bytes;
        assert!((0..200 << 10).contains(&free), "{free}");
        // More than there were: each gets a record of its own.
        let more: [i64; 3] = core::array::from_fn(|_| block(&heap, LARGE));
        for address in fresh.into_iter().chain(more) {
            heap.free(address).unwrap();
        }
        drop(other);
        assert_eq!(heap_figures(&system)[..2], [0, 0]);
        system.fake.verify();
    }
}

#[test]
fn a_forked_childs_code_heap_has_its_whole_limit_again() {
    let system = System::new(Policy::Jit, 4096);
    let limits = Limits { bytes: 4 * 4096, chunk_bytes: 2 * 4096, ..Limits::DEFAULT };
    let heap = system.runtime.new_code_heap(limits).unwrap();
    let fill = || (0..).take_while(|_| heap.alloc(4096).is_ok()).count();
    // Once more in a child of the child.
    for _ in 0..3 {
        assert_eq!(fill(), 4);
        fork(&system, || ());
    }
    assert_eq!(heap_figures(&system), [0; 5]);
    system.fake.verify();
}

#[test]
fn a_chunk_that_waited_to_be_unmapped_is_gone_too() {
    let system = System::new(Policy::Jit, 4096);
    let heap = system.runtime.new_code_heap(Limits::DEFAULT).unwrap();
    let large = block(&heap, LARGE);
    system.fake.fail(Call::Unmap, 0, Error::NoMemory);
    heap.free(large).unwrap();
    assert_eq!((heap_figures(&system)[0], heap_figures(&system)[2]), (0, 1));
    fork(&system, || ());
    assert_eq!(heap_figures(&system), [0; 5]);
    assert_eq!(system.runtime.is_executable(large), Ok(false));
    assert_ne!(block(&heap, LARGE), large);
    system.fake.verify();
}

#[test]
fn a_chunks_place_that_somebody_else_took_is_left_to_them() {
    let system = System::new(Policy::Jit, 4096);
    let heap = system.runtime.code_heap();
    let address = block(&heap, LARGE);
    let (platform, length) = (system.fake.platform(), LARGE.next_multiple_of(4096));
    fork(&system, || {
        let data = Memory::Private(Protection::RW);
        assert_eq!(platform.map(length, data, Some(address as usize)).unwrap().address, address as usize);
    });
    assert_eq!(heap_figures(&system), [0; 5]);
    assert_eq!(system.runtime.statistics().mapped_bytes, 0);
    assert_eq!((system.runtime.region_count(), system.runtime.requested_bytes()), (0, 0));
    assert_eq!(system.runtime.protection_at(address), Ok(Some(Protection::RW)));
    block(&heap, LARGE);
    assert_eq!(system.runtime.protection_at(address), Ok(Some(Protection::RW)));
    system.fake.verify();
}

#[test]
fn a_child_that_has_the_pages_goes_on_with_them() {
    let system = System::new(Policy::Jit, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    system.publish(code, &CODE);
    let heap = system.runtime.code_heap();
    let blocks = [100, LARGE].map(|size| block(&heap, size));
    let moment = system.moment();
    assert!(system.runtime.before_fork());
    // SAFETY: this thread called `before_fork`.
    unsafe { system.runtime.after_fork_in_child() };
    assert_eq!(moment.differences(&system.moment()).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(system.write(code, &CODE), Ok(CODE.len()));
    system.runtime.free_exec(code as i64, SIZE).unwrap();
    assert_eq!(blocks.map(|address| heap.free(address)), [Ok(()); 2]);
    system.fake.verify();
}

#[test]
#[cfg_attr(miri, ignore = "the platform has four megabytes then")]
fn a_heap_with_two_views_keeps_its_blocks_beside_jit_memory() {
    let system = System::new(Policy::Jit, 4096);
    // Where both are granted and nobody wishes, heaps prefer two views.
    system.fake.switch(|switches| {
        switches.refuse_dual = false;
        switches.forbid_writable_code = false;
    });
    system.runtime.set_policy(Policy::Auto).unwrap();
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    let heap = system.runtime.code_heap();
    let address = block(&heap, 100);
    assert_eq!((system.runtime.policy(), heap.policy()), (Ok(Policy::Jit), Ok(Policy::Dual)));
    let (figures, mapped) = (heap_figures(&system), system.runtime.statistics().mapped_bytes);
    assert!(system.runtime.before_fork());
    system.fake.lose_jit_pages();
    // SAFETY: this thread called `before_fork`.
    unsafe { system.runtime.after_fork_in_child() };
    assert_eq!((heap_figures(&system), system.runtime.statistics().mapped_bytes), (figures, mapped));
    assert_eq!(system.runtime.is_executable(code as i64), Ok(false));
    assert_eq!(system.runtime.is_executable(address), Ok(true));
    assert_eq!(system.fake.executed(address as usize, CODE.len()), CODE);
    heap.free(address).unwrap();
    system.fake.verify();
}

#[test]
fn the_statistics_say_why_a_policy_was_chosen() {
    let system = System::new(Policy::Jit, 4096);
    // Asking is no mistake here: the platform refuses.
    system.fake.switch(|switches| switches.forbid_writable_code = false);
    system.runtime.set_policy(Policy::Auto).unwrap();
    assert_eq!(system.runtime.statistics().policy_trials, [-1; 5]);
    system.runtime.alloc_exec(SIZE).unwrap();
    let trials = system.runtime.statistics().policy_trials;
    assert_eq!(trials[Policy::Rwx as usize], Error::Refused as i64);
    assert_eq!(trials[Policy::Jit as usize], 0);
    assert_eq!(trials[Policy::Dual as usize], -1);
    assert_eq!(trials[Policy::Toggle as usize], -1);
}
