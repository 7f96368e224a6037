//! Code becomes huge: which, how much of it, and what is said of it afterwards.

mod support;

use execmem_core::{Error, Limits, Policy, Protection};
use execmem_fake::Call;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use support::{Heap, System, code_block, fork_as_child, fork_as_parent, write_block};

const PAGE: usize = 4096;
/// A huge page: sixteen pages.
const HUGE: usize = 64 << 10;
const LIMITS: Limits = Limits { chunk_bytes: 4 * HUGE, ..Limits::DEFAULT };
const ALL: i64 = i64::MAX;
const POLICIES: [Policy; 2] = [Policy::Dual, Policy::Rwx];

/// A system with huge pages that has its first chunk, behind which there are free places at multiples of a huge page.
fn system(policy: Policy) -> System {
    let system = System::new(policy, PAGE);
    system.fake.switch(|switches| switches.huge_page = Some(HUGE));
    // Nothing can be mapped outside of the arena, though nothing is there.
    let (start, length) = system.fake.arena();
    system.fake.add_foreign(4096..start, Protection::NONE);
    system.fake.add_foreign(start + length..1 << 48, Protection::NONE);
    assert_eq!(system.runtime.code_heap().alloc(4 * HUGE as i64 + 1).map(drop), Ok(()));
    system
}

/// Fills so many pages of the heap.
fn fill(heap: &Heap<'_>, pages: usize) -> Vec<i64> {
    (0..pages).map(|_| code_block(heap, &[0xc3; PAGE])).collect()
}

/// How many huge pages there are, by all that is said of them.
#[track_caller]
fn huge(system: &System) -> usize {
    let bytes = system.fake.huge_bytes();
    assert_eq!(system.runtime.statistics().huge_code_bytes, bytes as i64);
    assert_eq!(system.runtime.promote(0), Ok(bytes));
    system.runtime.dump();
    let head = system.fake.take_text().lines().next().unwrap().to_owned();
    let expected = format!(", huge code: {bytes}");
    assert_eq!(head.ends_with(&expected), bytes > 0, "{head}");
    bytes / HUGE
}

#[test]
fn what_is_full_becomes_huge_up_to_the_budget_and_what_is_less_than_seven_eighths_full_does_not() {
    for policy in POLICIES {
        let system = system(policy);
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        fill(&heap, 2 * 16 + 13);
        assert_eq!(huge(&system), 0);
        assert_eq!(system.runtime.promote(HUGE as i64 - 1), Ok(0));
        assert_eq!(system.runtime.promote(2 * HUGE as i64 - 1), Ok(HUGE));
        assert_eq!(huge(&system), 1);
        assert_eq!(system.runtime.promote(ALL), Ok(2 * HUGE));
        let asked = system.fake.count(Call::MakeHuge);
        assert_eq!((huge(&system), asked), (2, 2));
        fill(&heap, 1);
        assert_eq!(system.runtime.promote(ALL), Ok(3 * HUGE));
        assert_eq!((huge(&system), system.fake.count(Call::MakeHuge)), (3, 3));
        system.fake.verify();
    }
}

#[test]
fn what_is_unmapped_is_huge_no_more() {
    for policy in POLICIES {
        let system = system(policy);
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        let alone = code_block(&heap, &[0xc3; 6 * HUGE]);
        fill(&heap, 64);
        assert_eq!(system.runtime.promote(ALL), Ok(10 * HUGE));
        system.fake.fail(Call::Unmap, 0, Error::NoMemory);
        heap.free(alone).unwrap();
        assert_eq!(huge(&system), 10, "it is mapped still");
        fill(&heap, 1);
        assert_eq!(huge(&system), 4, "the next chunk brings the other one's end");
        drop(heap);
        assert_eq!(huge(&system), 0);
        // The records that served huge chunks serve others.
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        fill(&heap, 65);
        code_block(&heap, &[0xc3; 6 * HUGE]);
        assert_eq!(huge(&system), 0);
        system.fake.verify();
    }
}

#[test]
fn a_copy_after_a_fork_is_not_huge_until_it_is_made_so() {
    for fork in [fork_as_child, fork_as_parent] {
        let system = system(Policy::Dual);
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        let blocks = fill(&heap, 64);
        assert_eq!(system.runtime.promote(ALL), Ok(4 * HUGE));
        fork(&system);
        assert_eq!(huge(&system), 4);
        write_block(&heap, blocks[0], &[1]).unwrap();
        assert_eq!(huge(&system), 0);
        assert_eq!(system.runtime.promote(ALL), Ok(4 * HUGE));
        assert_eq!(huge(&system), 4);
        system.fake.verify();
    }
}

#[test]
fn a_copy_at_a_fork_is_the_childs_and_what_lost_its_access_is_not_huge() {
    for (is_child, without_memory) in [(false, false), (true, false), (true, true)] {
        let system = system(Policy::Dual);
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        let blocks = fill(&heap, 64);
        heap.write_view(blocks[0]).unwrap();
        assert_eq!(system.runtime.promote(ALL), Ok(4 * HUGE));
        if without_memory {
            system.fake.fail_always(Call::Map, Error::NoMemory);
        }
        if is_child {
            fork_as_child(&system)
        } else {
            fork_as_parent(&system)
        };
        system.fake.clear_faults();
        assert_eq!(huge(&system), if is_child { 0 } else { 4 });
        let again = if without_memory { 0 } else { 4 * HUGE };
        assert_eq!(system.runtime.promote(ALL), Ok(again));
        system.fake.verify();
    }
}

#[test]
fn private_pages_that_two_processes_have_are_counted_anew() {
    for fork in [fork_as_child, fork_as_parent] {
        let system = system(Policy::Rwx);
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        fill(&heap, 64);
        assert_eq!(system.runtime.promote(ALL), Ok(4 * HUGE));
        fork(&system);
        assert_eq!(system.runtime.promote(0), Ok(0));
        assert_eq!(system.runtime.promote(ALL), Ok(4 * HUGE));
        assert_eq!(system.fake.count(Call::MakeHuge), 8);
    }
}

#[test]
fn other_memory_that_comes_while_pages_are_made_huge_is_not_huge() {
    let system: &'static System = Box::leak(Box::new(system(Policy::Dual)));
    let heap = system.runtime.code_heap();
    // A chunk of the default heap: the fake's huge pages are smaller than that by far.
    let blocks = fill(&heap, 16);
    fork_as_parent(system);
    let block = blocks[0];
    let is_first = AtomicBool::new(true);
    system.fake.observe(move |event| {
        if event.call == Call::MakeHuge && is_first.swap(false, Ordering::Relaxed) {
            write_block(&system.runtime.code_heap(), block, &[1]).unwrap();
        }
    });
    assert_eq!(system.runtime.promote(ALL), Ok(0));
    system.fake.stop_observing();
    assert_eq!(system.runtime.promote(ALL), Ok(HUGE));
    assert_eq!(huge(system), 1);
    system.fake.verify();
}

#[test]
fn a_chunk_stays_mapped_while_it_is_made_huge() {
    let system: &'static System = Box::leak(Box::new(system(Policy::Dual)));
    let heap = system.runtime.code_heap();
    let alone = code_block(&heap, &[0xc3; 6 * HUGE]);
    let freeing = Arc::new(Mutex::new(None));
    let started = freeing.clone();
    system.fake.observe(move |event| {
        if event.call == Call::MakeHuge && started.lock().unwrap().is_none() {
            let waits = system.fake.count(Call::Wait);
            let free = move || system.runtime.code_heap().free(alone);
            *started.lock().unwrap() = Some(thread::spawn(free));
            // A free that does not wait ends, and then the pages are not there any more: the fake says so.
            let is_over = || started.lock().unwrap().as_ref().is_none_or(thread::JoinHandle::is_finished);
            while system.fake.count(Call::Wait) == waits && !is_over() {
                thread::yield_now();
            }
        }
    });
    assert!(system.runtime.promote(ALL).is_ok());
    system.fake.stop_observing();
    let free = freeing.lock().unwrap().take().expect("the free was started");
    assert_eq!(free.join().unwrap(), Ok(()));
    assert_eq!(huge(system), 0);
    system.fake.verify();
}

#[test]
fn what_cannot_be_huge_now_is_passed_over_and_an_attempt_counts() {
    let system = system(Policy::Dual);
    let heap = system.runtime.new_code_heap(LIMITS).unwrap();
    let alone = code_block(&heap, &[0xc3; 4 * HUGE]);
    fill(&heap, 64);
    system.fake.fail_always(Call::MakeHuge, Error::NoMemory);
    assert_eq!(system.runtime.promote(ALL), Err(Error::NoMemory));
    assert_eq!((huge(&system), system.fake.count(Call::MakeHuge)), (0, 8));
    assert_eq!(system.runtime.promote(3 * HUGE as i64), Err(Error::NoMemory));
    assert_eq!(system.fake.count(Call::MakeHuge), 8 + 3);
    system.fake.clear_faults();
    system.fake.fail(Call::MakeHuge, 1, Error::NoMemory);
    assert_eq!(system.runtime.promote(2 * HUGE as i64), Ok(HUGE), "what was made is no failure");
    // An attempt at one chunk uses the budget up; the next call begins with the other.
    let tried = Arc::new(Mutex::new(Vec::new()));
    let trying = tried.clone();
    system.fake.observe(move |event| {
        if event.call == Call::MakeHuge {
            trying.lock().unwrap().push(event.start);
        }
    });
    for _ in 0..2 {
        system.fake.fail(Call::MakeHuge, 0, Error::Unsupported);
        assert_eq!(system.runtime.promote(HUGE as i64), Err(Error::Unsupported));
        let before = huge(&system);
        assert_eq!(system.runtime.promote(HUGE as i64), Ok((before + 1) * HUGE));
        let tried = std::mem::take(&mut *tried.lock().unwrap());
        let is_alone = |start: &usize| (alone as usize..alone as usize + 4 * HUGE).contains(start);
        assert_ne!(is_alone(&tried[0]), is_alone(&tried[1]), "{tried:x?}");
    }
    system.fake.stop_observing();
    system.fake.fail(Call::MakeHuge, 0, Error::Unsupported);
    assert_eq!(system.runtime.promote(ALL), Ok(7 * HUGE));
    system.fake.fail(Call::Resident, 0, Error::Refused);
    assert_eq!(system.runtime.promote(ALL), Err(Error::Refused));
    assert_eq!(system.runtime.promote(ALL), Ok(8 * HUGE));
    heap.free(alone).unwrap();
    assert_eq!(huge(&system), 4);
    system.fake.verify();
}

#[test]
fn a_heap_that_wants_it_makes_what_has_filled_up_huge_when_it_grows() {
    for policy in POLICIES {
        let system = system(policy);
        let plain = system.runtime.new_code_heap(LIMITS).unwrap();
        let heap = system.runtime.new_code_heap(Limits { huge_pages: true, ..LIMITS }).unwrap();
        fill(&plain, 64);
        fill(&heap, 64);
        assert_eq!(huge(&system), 0);
        system.fake.fail(Call::MakeHuge, 1, Error::Unsupported);
        fill(&heap, 1);
        assert_eq!(huge(&system), 3, "an allocation doesn't fail for it");
        fill(&plain, 1);
        assert_eq!(huge(&system), 3);
        fill(&heap, 64);
        assert_eq!(huge(&system), 8);
        heap.set_huge_pages(false);
        fill(&heap, 64);
        assert_eq!(huge(&system), 8);
        system.fake.verify();
    }
}

#[test]
fn where_it_cannot_be_it_is_unsupported_and_a_budget_below_zero_is_none() {
    for policy in support::POLICIES {
        let system = System::new(policy, PAGE);
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        fill(&heap, 1);
        assert_eq!(system.runtime.promote(-1), Err(Error::InvalidArgument));
        assert_eq!(system.runtime.promote(0), Err(Error::Unsupported));
        assert_eq!(system.runtime.promote(ALL), Err(Error::Unsupported));
    }
    let system = system(Policy::Toggle);
    let heap = system.runtime.new_code_heap(LIMITS).unwrap();
    fill(&heap, 64);
    assert_eq!(system.runtime.promote(ALL), Err(Error::Unsupported));
    assert_eq!(system.fake.count(Call::MakeHuge), 0);
}
