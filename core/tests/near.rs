//! Memory within reach of an address, among mappings of others and while others map.

mod support;

use execmem_core::{Error, Limits, Policy, Protection};
use execmem_fake::Call;
use support::System;

const REACH: i64 = 1 << 18;

/// All that is not the platform's own memory belongs to somebody else, and a target in the middle of it.
fn walled(policy: Policy, page_size: usize) -> (System, usize) {
    let system = System::new(policy, page_size);
    let first = system.runtime.alloc_exec(1).unwrap();
    let (start, _) = system.fake.arena();
    let end = start + system.fake.arena().1;
    system.fake.add_foreign(0..start, Protection::NONE);
    system.fake.add_foreign(end..1 << 47, Protection::NONE);
    assert!((start..end).contains(&first));
    (system, start + (end - start) / 2)
}

fn each(test: impl Fn(System, usize)) {
    for policy in support::POLICIES {
        for &page_size in support::PAGE_SIZES {
            let (system, target) = walled(policy, page_size);
            test(system, target);
        }
    }
}

#[test]
fn the_place_at_the_target_is_taken_if_it_is_free() {
    each(|system, target| {
        let address = system.runtime.alloc_exec_near(100, target as i64, REACH).unwrap();
        assert_eq!(address, target);
        system.publish(address, &[1, 2, 3]);
        let next = system.runtime.alloc_exec_near(100, target as i64, REACH).unwrap();
        assert_eq!(next.abs_diff(target), system.page);
    });
}

#[test]
fn mappings_of_others_are_passed_over() {
    each(|system, target| {
        let half = REACH as usize / 2;
        system.fake.add_foreign(target - half..target + half, Protection::READ);
        let address = system.runtime.alloc_exec_near(100, target as i64, REACH).unwrap();
        assert!(address == target + half || address == target - half - system.page, "{address:#x}");
        assert!(address >= target - REACH as usize && address + 100 <= target + REACH as usize);
    });
}

#[test]
fn without_room_within_reach_there_is_no_memory_and_nothing_has_changed() {
    each(|system, target| {
        let all = REACH as usize + system.page;
        system.fake.add_foreign(target - all..target + all, Protection::READ);
        let before = system.moment();
        assert_eq!(system.runtime.alloc_exec_near(100, target as i64, REACH), Err(Error::NoMemory));
        assert_eq!(before.differences(&system.moment()).next(), None);
    });
}

#[test]
fn data_near_a_target_is_read_write_and_has_one_view() {
    each(|system, target| {
        let before = system.moment();
        let views = system.mapped().len();
        let near = |target| system.runtime.alloc_rw_near(100, target as i64, REACH);
        let data = near(target).unwrap();
        assert_eq!((data, system.mapped().len()), (target, views + 1));
        assert_eq!(system.runtime.protection_at(data as i64), Ok(Some(Protection::RW)));
        // SAFETY: the slice is readable.
        assert_eq!(unsafe { system.runtime.write(data as i64, [7; 100].as_ptr(), 100, 0) }, Ok(100));
        system.runtime.set_protection(data as i64, 100, Protection::READ).unwrap();
        assert_eq!(near(0), Err(Error::InvalidArgument));
        system.runtime.free_exec(data as i64, 100).unwrap();
        let all = REACH as usize + system.page;
        system.fake.add_foreign(target - all..target + all, Protection::READ);
        assert_eq!(near(target), Err(Error::NoMemory));
        assert_eq!(before.differences(&system.moment()).next(), None);
    });
}

#[test]
fn a_place_that_another_thread_took_is_given_up_for_the_next() {
    each(|system, target| {
        // Between the search and the mapping, somebody takes each of the first three places.
        let platform = system.fake.platform();
        let page = system.page;
        let losses = std::sync::atomic::AtomicUsize::new(3);
        system.fake.observe(move |event| {
            use std::sync::atomic::Ordering::Relaxed;
            let is_near = event.call == Call::Map && event.start != 0;
            if is_near && losses.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                platform.add_foreign(event.start..event.start + page, Protection::READ);
            }
        });
        let before = system.mapped().len();
        let address = system.runtime.alloc_exec_near(100, target as i64, REACH).unwrap();
        assert!(address.abs_diff(target) <= REACH as usize && address != target);
        let views = if system.policy == Policy::Dual { 2 } else { 1 };
        assert_eq!(system.mapped().len(), before + views);
        system.fake.stop_observing();
    });
}

/// Mapping calls of an operation.
fn maps(system: &System, operation: impl FnOnce()) -> usize {
    let before = system.fake.count(Call::Map);
    operation();
    system.fake.count(Call::Map) - before
}

#[test]
fn a_place_that_the_system_refuses_is_given_up_for_the_next() {
    for error in [Error::NoMemory, Error::Refused, Error::InvalidArgument] {
        each(|system, target| {
            let hidden = target - (64 << 10)..target + (64 << 10);
            system.fake.refuse_places(hidden.clone(), error);
            let before = system.mapped().len();
            let address = system.runtime.alloc_exec_near(100, target as i64, REACH).unwrap();
            assert!(address.abs_diff(target) <= REACH as usize && !hidden.contains(&address), "{address:#x}");
            let views = if system.policy == Policy::Dual { 2 } else { 1 };
            assert_eq!(system.mapped().len(), before + views);
        });
    }
}

#[test]
fn a_target_behind_the_end_of_addresses_is_reached_from_below() {
    for target in [(1 << 47) + 1, (1 << 47) + (1 << 40), (1 << 60) + 1, i64::MAX] {
        let system = System::new(Policy::Toggle, 4096);
        system.runtime.alloc_exec(1).unwrap();
        let (start, length) = system.fake.arena();
        system.fake.add_foreign(0..start, Protection::NONE);
        system.fake.refuse_places(start + length..usize::MAX, Error::NoMemory);
        let address = system.runtime.alloc_exec_near(100, target, target).unwrap();
        assert!((start..start + length).contains(&address));
        assert_eq!(
            system.runtime.alloc_exec_near(100, target, target - (1 << 47)),
            Err(Error::NoMemory),
            "{target:#x}"
        );
    }
}

#[test]
fn a_shortage_is_no_matter_of_places_and_told_at_once() {
    each(|system, target| {
        system.fake.fail_always(Call::Map, Error::NoMemory);
        let near = || _ = system.runtime.alloc_exec_near(100, target as i64, REACH).unwrap_err();
        assert!(maps(&system, near) <= 2);
    });
}

#[test]
fn nothing_is_placed_at_the_lowest_addresses_whatever_the_size_of_a_page() {
    for page_size in [4096, 64 << 10, 128 << 10, 1 << 20].into_iter().take(if cfg!(miri) { 3 } else { 4 }) {
        let system = System::new(Policy::Toggle, page_size);
        system.runtime.alloc_exec(1).unwrap();
        system.fake.observe(move |event| {
            let lowest = page_size.max(64 << 10);
            assert!(event.call != Call::Map || event.start >= lowest, "{page_size}: {event:?}");
        });
        assert_eq!(system.runtime.alloc_exec_near(100, 1, 2 << 20), Err(Error::NoMemory));
        system.fake.stop_observing();
    }
}

#[test]
fn memory_that_is_always_placed_out_of_reach_is_given_back() {
    each(|system, target| {
        system.fake.place_elsewhere(usize::MAX);
        let before = system.moment();
        assert_eq!(system.runtime.alloc_exec_near(100, target as i64, REACH), Err(Error::NoMemory));
        assert_eq!(before.differences(&system.moment()).next(), None);
    });
}

#[test]
fn a_reach_over_the_ends_of_the_address_space_is_no_overflow() {
    each(|system, target| {
        for (target, reach) in [(1, i64::MAX), (i64::MAX, i64::MAX), (target as i64, i64::MAX)] {
            let address = system.runtime.alloc_exec_near(100, target, reach).unwrap();
            system.runtime.free_exec(address as i64, 100).unwrap();
        }
        for (target, reach) in [(1, 1), (i64::MAX, 1), (i64::MAX, 1 << 20)] {
            assert_eq!(system.runtime.alloc_exec_near(100, target, reach), Err(Error::NoMemory));
        }
        for (target, reach) in [(0, 1), (-1, 1), (1, 0), (1, -1), (i64::MIN, i64::MIN)] {
            assert_eq!(system.runtime.alloc_exec_near(100, target, reach), Err(Error::InvalidArgument));
        }
    });
}

#[test]
fn the_bytes_at_the_very_distance_are_within_reach() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.new_code_heap(Limits::DEFAULT).unwrap();
    let free = system.runtime.alloc_exec(4096).unwrap() as i64;
    system.runtime.free_exec(free, 4096).unwrap();
    // From a page on: the distance is that of the last byte.
    assert_eq!(system.runtime.alloc_exec_near(4096, free, 4095), Ok(free as usize));
    assert_eq!(system.runtime.alloc_exec_near(4096, free + 4096, 4094), Err(Error::NoMemory));
    system.runtime.free_exec(free, 4096).unwrap();
    // A heap without any chunk there takes one for it, of which the block alone is within reach.
    let block = heap.alloc_near(64, free, 63).unwrap() as i64;
    assert_eq!(block, free);
    assert_eq!(heap.alloc_near(64, free, 63), Err(Error::NoMemory));
    assert_eq!(heap.alloc_near(64, free + 64, 63), Ok(free as usize + 64));
    system.fake.verify();
}

#[test]
fn a_system_that_does_not_tell_what_is_mapped_has_room_all_the_same() {
    each(|system, target| {
        let (runtime, page) = (system.runtime, system.page as i64);
        system.fake.fail_always(Call::Mappings, Error::NotFound);
        let near = |distance| runtime.alloc_exec_near(page, target as i64, distance);
        let mut all = Vec::new();
        for distance in [REACH, 1 << 40] {
            let address = near(distance).unwrap();
            assert!(address.abs_diff(target) <= distance as usize);
            assert!((address + system.page - 1).abs_diff(target) <= distance as usize);
            all.push(address);
        }
        // What is within a small reach is found to its last page.
        while let Ok(address) = near(16 * page) {
            all.push(address);
        }
        assert_eq!(near(16 * page), Err(Error::NoMemory));
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[1] - pair[0] == system.page), "a hole: {all:x?}");
        let one = all[all.len() / 2];
        runtime.free_exec(one as i64, page).unwrap();
        assert_eq!(near(16 * page), Ok(one));
        system.fake.clear_faults();
    });
}

#[test]
fn code_that_the_system_does_not_tell_of_is_not_executable() {
    each(|system, _| {
        for error in [Error::NotFound, Error::NoMemory, Error::Refused] {
            system.fake.fail_always(Call::Mappings, error);
            // SAFETY: nothing is called.
            assert_eq!(unsafe { system.runtime.call(1 << 46, &[]) }, Err(Error::NotExecutable));
            system.fake.clear_faults();
        }
    });
}
