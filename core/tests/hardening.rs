//! What a program asks for besides: pages without access around regions and chunks.

mod support;

use execmem_core::{Error, Hardening, Policy, Protection};
use execmem_fake::Call;
use support::{System, code_block, fork_as_child};

const CODE: [u8; 64] = [0xc3; 64];

/// A system that can be hardened, and is.
fn harden(system: &System, wish: Hardening) {
    system.fake.switch(|system| system.hardening = Hardening::all());
    system.runtime.set_hardening(wish).unwrap();
}

/// Every stretch of mapped pages begins and ends with a page without access, and so does each view in it.
fn check_guards(system: &System) {
    let areas = system.mapped();
    let access = |(start, length, protection): &(usize, usize, Protection)| {
        (*protection != Protection::NONE).then_some((*start, start + length))
    };
    let is_guard = |page: usize| {
        areas.iter().any(|(start, length, protection)| {
            *protection == Protection::NONE && (*start..start + length).contains(&page)
        })
    };
    for (start, end) in areas.iter().filter_map(access) {
        assert!(is_guard(start - 1) && is_guard(end), "{start:#x} to {end:#x} among {areas:x?}");
    }
}

#[test]
fn each_view_of_a_region_and_of_a_chunk_lies_between_pages_without_access() {
    System::each(|system| {
        harden(&system, Hardening::GUARDS);
        let (page, runtime) = (system.page as i64, &system.runtime);
        let code = runtime.alloc_exec(page + 1).unwrap();
        let near = runtime.alloc_exec_near(page, code as i64, 1 << 24).unwrap();
        let data = runtime.alloc_rw(page).unwrap();
        let near_data = runtime.alloc_rw_near(page, code as i64, 1 << 24).unwrap();
        let heap = runtime.code_heap();
        let block = code_block(&heap, &CODE);
        check_guards(&system);
        // What stands beside the guards is not ours to ask.
        assert_eq!(runtime.make_writable(code as i64 - 1, 1), Err(Error::NotOwned));
        assert_eq!(runtime.make_writable(code as i64 + 2 * page, 1), Err(Error::NotOwned));
        for (address, size) in [(code, page + 1), (near, page), (data, page), (near_data, page)] {
            let bytes = [7; 16];
            system.publish(address, &bytes);
            assert_eq!(system.read(address, 16), Ok(bytes.to_vec()));
            runtime.free_exec(address as i64, size).unwrap();
        }
        heap.free(block).unwrap();
        check_guards(&system);
        let is_guard = |(_, _, protection): &&(_, _, _)| *protection == Protection::NONE;
        let areas = system.fake.areas();
        let guards = areas.iter().filter(is_guard).map(|(_, length, _)| *length as i64).sum::<i64>();
        let views = if system.policy == Policy::Dual { 2 } else { 1 };
        assert_eq!(guards, views * 2 * page, "those of one chunk");
    });
}

#[test]
fn copies_after_a_fork_come_between_the_guards() {
    System::each(|system| {
        harden(&system, Hardening::GUARDS);
        let region = system.runtime.alloc_exec(100).unwrap();
        system.publish(region, &CODE);
        let data = system.runtime.alloc_rw(100).unwrap();
        let heap = system.runtime.code_heap();
        let block = code_block(&heap, &CODE);
        if system.policy == Policy::Jit {
            return;
        }
        let before = system.mapped();
        fork_as_child(&system);
        system.publish(region, &CODE);
        support::write_block(&heap, block, &CODE).unwrap();
        assert_eq!(system.write(data, &CODE), Ok(64));
        check_guards(&system);
        let places = |areas: &[(usize, usize, Protection)]| {
            areas.iter().map(|(start, length, _)| (*start, *length)).collect::<Vec<_>>()
        };
        assert_eq!(places(&system.mapped()), places(&before));
        system.runtime.free_exec(region as i64, 100).unwrap();
        system.runtime.free_exec(data as i64, 100).unwrap();
    });
}

#[test]
fn a_view_that_is_kept_to_regain_exec_lies_between_guards_too() {
    let system = System::new(Policy::Dual, 4096);
    harden(&system, Hardening::GUARDS);
    let region = system.runtime.alloc_exec(5000).unwrap();
    system.runtime.make_writable(region as i64, 5000).unwrap();
    check_guards(&system);
    system.runtime.make_executable(region as i64, 5000).unwrap();
    check_guards(&system);
    for call in [Call::Map, Call::MapAgain] {
        let region = system.runtime.alloc_exec(5000).unwrap();
        let before = system.moment();
        system.fake.fail(call, 0, Error::NoMemory);
        assert_eq!(system.runtime.make_writable(region as i64, 5000), Err(Error::NoMemory));
        assert_eq!(system.moment().regions, before.regions, "after a {call:?} that failed");
        system.runtime.free_exec(region as i64, 5000).unwrap();
    }
    system.runtime.free_exec(region as i64, 5000).unwrap();
    assert_eq!(system.mapped(), []);
}

#[test]
fn hardening_is_a_wish_until_the_first_region_is_mapped() {
    System::each(|system| {
        let runtime = &system.runtime;
        assert_eq!(runtime.set_hardening(Hardening::GUARDS), Err(Error::Unsupported));
        assert_eq!(runtime.hardening(), Hardening::empty());
        system.fake.switch(|system| system.hardening = Hardening::GUARDS);
        assert_eq!(runtime.set_hardening(Hardening::all()), Err(Error::Unsupported));
        assert_eq!(runtime.hardening(), Hardening::empty());
        runtime.set_hardening(Hardening::GUARDS).unwrap();
        runtime.set_hardening(Hardening::empty()).unwrap();
        runtime.set_hardening(Hardening::GUARDS).unwrap();
        // Of arguments that are wrong nothing is decided.
        assert_eq!(runtime.alloc_exec(0), Err(Error::InvalidArgument));
        runtime.set_hardening(Hardening::empty()).unwrap();
        let region = runtime.alloc_exec(1).unwrap();
        assert_eq!(runtime.set_hardening(Hardening::GUARDS), Err(Error::Refused));
        runtime.set_hardening(Hardening::empty()).unwrap();
        runtime.free_exec(region as i64, 1).unwrap();
        assert_eq!(runtime.set_hardening(Hardening::GUARDS), Err(Error::Refused));
        assert_eq!(runtime.statistics().hardening, 0);
    });
}
