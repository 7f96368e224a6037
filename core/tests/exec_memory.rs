//! Allocating, writing, publishing, protecting and freeing, under each policy, with small and large pages.

mod support;

use execmem_core::MapRequest;
use execmem_core::{Error, MapFlags, Policy, Protection};
use execmem_fake::Call;
use support::System;

const CODE: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];
const OTHER: [u8; 6] = [0xb8, 43, 0, 0, 0, 0xc3];

#[test]
fn code_that_was_written_and_flushed_is_what_every_core_executes() {
    System::each(|system| {
        let address = system.runtime.alloc_exec(100).unwrap();
        assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(system.code())));
        system.publish(address, &CODE);
        assert_eq!(system.read(address, CODE.len()), Ok(CODE.to_vec()));
        assert_eq!(system.fake.executed(address, CODE.len()), CODE);
        assert_eq!(system.fake.executed_elsewhere(address, CODE.len()), CODE);
        system.publish(address, &OTHER);
        assert_eq!(system.fake.executed(address, OTHER.len()), OTHER);
        assert_eq!(system.fake.executed_elsewhere(address, OTHER.len()), OTHER);
        system.runtime.free_exec(address as i64, 100).unwrap();
        assert_eq!(system.mapped(), []);
    });
}

#[test]
fn a_write_that_is_not_flushed_is_not_executed() {
    // Proves that the platform can see a flush that is missing.
    System::each(|system| {
        let address = system.runtime.alloc_exec(100).unwrap();
        system.publish(address, &CODE);
        system.write(address, &OTHER).unwrap();
        assert_eq!(system.fake.executed(address, CODE.len()), CODE);
    });
}

#[test]
fn data_that_was_made_executable_needs_no_flush() {
    System::each(|system| {
        let address = system.runtime.alloc_rw(100).unwrap();
        assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(Protection::RW)));
        for code in [CODE, OTHER] {
            system.write(address, &code).unwrap();
            system.runtime.make_executable(address as i64, 100).unwrap();
            assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(Protection::RX)));
            assert_eq!(system.read(address, code.len()), Ok(code.to_vec()));
            assert_eq!(system.fake.executed(address, code.len()), code);
            assert_eq!(system.fake.executed_elsewhere(address, code.len()), code);
            assert_eq!(system.write(address, &code), Err(Error::WrongProtection));
            system.runtime.make_writable(address as i64, 100).unwrap();
        }
        system.runtime.free_exec(address as i64, 100).unwrap();
        assert_eq!(system.mapped(), []);
    });
}

#[test]
fn a_write_or_read_never_reaches_the_region_next_door() {
    System::each(|system| {
        let page = system.page as i64;
        let anonymous = MapRequest {
            path: None,
            protection: Protection::RW,
            flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
            offset: 0,
            length: page,
        };
        let regions: Vec<usize> = (0..8).map(|_| system.runtime.map_file(anonymous).unwrap().0).collect();
        let has_neighbour = |region: &&usize| regions.contains(&(**region + system.page));
        let neighbours = *regions.iter().find(has_neighbour).unwrap();
        let address = neighbours as i64;
        let next = neighbours + system.page;
        system.write(next, b"next door").unwrap();
        let runtime = &system.runtime;
        for offset in [page, page + 1, page - 1] {
            let mut bytes = [0; 4];
            // SAFETY: four bytes to read from and to write to.
            unsafe {
                assert_eq!(runtime.write(address, bytes.as_ptr(), 4, offset), Err(Error::NotOwned));
                assert_eq!(runtime.read_into(address, offset, bytes.as_mut_ptr(), 4), Err(Error::NotOwned));
            }
            assert_eq!(runtime.read_bytes(address, offset, 4), Err(Error::NotOwned));
        }
        assert_eq!(system.text(runtime.read_string(address, page, 0).unwrap()), "");
        assert_eq!(system.text(runtime.read_string(address, page, 4).unwrap()), "");
        assert_eq!(runtime.read_string(address, page + 1, 4), Err(Error::NotOwned));
        assert_eq!(system.read(next, 9), Ok(b"next door".to_vec()));
    });
}

#[test]
fn other_cores_are_only_interrupted_for_code_that_may_have_run() {
    System::each(|system| {
        let address = system.runtime.alloc_exec(100).unwrap();
        system.publish(address, &CODE);
        assert_eq!(system.fake.count(Call::SynchronizeCores), 0, "nothing was code before");
        system.publish(address, &OTHER);
        assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
        let data = system.runtime.alloc_rw(100).unwrap();
        system.runtime.make_executable(data as i64, 100).unwrap();
        assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
    });
}

#[test]
fn a_range_changes_exactly_the_pages_that_it_touches() {
    System::each(|system| {
        let page = system.page;
        let address = system.runtime.alloc_rw(4 * page as i64).unwrap();
        let base = address as i64;
        system.runtime.set_protection(base + page as i64 - 1, 2, Protection::READ).unwrap();
        system.runtime.set_protection(base + 3 * page as i64, 1, Protection::NONE).unwrap();
        let expected = [Protection::READ, Protection::READ, Protection::RW, Protection::NONE];
        for (at, protection) in expected.into_iter().enumerate() {
            let first = address + at * page;
            assert_eq!(system.fake.protection(first), Some(protection));
            assert_eq!(system.runtime.protection_at(first as i64), Ok(Some(protection)));
            assert_eq!(system.runtime.protection_at((first + page - 1) as i64), Ok(Some(protection)));
        }
        let behind = system.runtime.set_protection(base + 4 * page as i64 - 1, 2, Protection::READ);
        assert_eq!(behind, Err(Error::NotOwned));
    });
}

#[test]
fn after_a_write_by_flip_no_page_is_writable() {
    let system = System::new(Policy::Toggle, 4096);
    let address = system.runtime.alloc_exec(20_000).unwrap();
    for at in [0, 4090, 12_000] {
        system.write(address + at, &[1; 5000]).unwrap();
        assert!(system.mapped().iter().all(|(_, _, protection)| *protection == Protection::RX));
    }
}

#[test]
fn sealed_code_runs_and_nothing_of_it_changes_any_more() {
    System::each(|system| {
        let (address, size) = (system.runtime.alloc_exec(100).unwrap(), 100);
        system.publish(address, &CODE);
        let address = address as i64;
        if system.policy == Policy::Jit {
            return assert_eq!(system.runtime.seal(address, size), Err(Error::Unsupported));
        }
        if system.code() == Protection::RWX {
            assert_eq!(system.runtime.seal(address, size), Err(Error::WrongProtection));
            system.runtime.make_executable(address, size).unwrap();
        }
        assert_eq!(system.runtime.seal(address, 101), Err(Error::WrongSize));
        assert_eq!(system.runtime.seal(address + 1, size), Err(Error::NotOwned));
        for _ in 0..2 {
            system.runtime.seal(address, size).unwrap();
        }
        // A view by which it could be written is gone.
        assert_eq!(system.mapped().len(), 1);
        assert_eq!(system.write(address as usize, &OTHER), Err(Error::Refused));
        assert_eq!(system.runtime.free_exec(address, size), Err(Error::Refused));
        for other in [Protection::RW, Protection::NONE] {
            assert_eq!(system.runtime.set_protection(address, size, other), Err(Error::Refused));
        }
        assert_eq!(system.runtime.protection_at(address), Ok(Some(Protection::RX)));
        assert_eq!(system.read(address as usize, CODE.len()), Ok(CODE.to_vec()));
        assert_eq!(system.fake.executed(address as usize, CODE.len()), CODE);
        assert_eq!(system.runtime.region_count(), 1);
    });
}

#[test]
fn what_is_sealed_stays_so_through_a_view_that_could_not_go_and_through_forks() {
    let system = System::new(Policy::Dual, 4096);
    let (address, size) = (system.runtime.alloc_exec(100).unwrap(), 100);
    system.publish(address, &CODE);
    let seal = || system.runtime.seal(address as i64, size);
    system.fake.fail(Call::Unmap, 0, Error::NoMemory);
    assert_eq!(seal(), Err(Error::NoMemory));
    assert_eq!(system.write(address, &OTHER), Err(Error::Refused));
    support::fork_as_child(&system);
    assert_eq!(system.write(address, &OTHER), Err(Error::Refused));
    assert_eq!(seal(), Ok(()));
    assert_eq!(system.mapped().len(), 1);
    support::fork_as_child(&system);
    assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(Protection::RX)));
    assert_eq!(system.fake.executed(address, CODE.len()), CODE);
}
