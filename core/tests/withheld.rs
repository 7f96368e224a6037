//! Regions that a forked child does not get: `Advice::DontFork`.
//!
//! As in `fork.rs` a child is played by this process; the platform takes from it what it would not have.

mod support;

use execmem_core::{Advice, Error, Hardening, MapFlags, MapRequest, Policy, Protection};
use execmem_fake::{Call, Request};
use support::{POLICIES, System, copied, fork_as_child, fork_as_parent};

const SIZE: i64 = 5000;

fn withhold(system: &System, address: usize, size: i64) {
    assert_eq!(system.runtime.advise(address as i64, size, Advice::DontFork), Ok(()));
}

/// Code and data that other regions lie around, and anonymous memory, all with something in them.
fn regions(system: &System) -> [usize; 3] {
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    let data = system.runtime.alloc_rw(SIZE).unwrap();
    let request = MapRequest {
        path: None,
        protection: Protection::RW,
        flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
        offset: 0,
        length: SIZE,
    };
    let mapping = system.runtime.map_file(request).unwrap().0;
    [code, data, mapping].map(|address| {
        system.publish(address, b"secret");
        address
    })
}

#[test]
fn a_child_has_nothing_of_what_is_withheld_and_its_records_say_so() {
    System::each(|system| {
        let kept = system.runtime.alloc_exec(100).unwrap();
        let before = (system.mapped(), system.runtime.statistics());
        let all = regions(&system);
        all.into_iter().for_each(|address| withhold(&system, address, SIZE));
        fork_as_child(&system);
        for address in all.map(|address| address as i64) {
            assert_eq!(system.runtime.protection_at(address), Ok(None));
            assert_eq!(system.runtime.is_executable(address), Ok(false));
            assert_eq!(system.read(address as usize, 1), Err(Error::NotOwned));
            assert_eq!(system.runtime.free_exec(address, SIZE), Err(Error::NotOwned));
            assert_eq!(system.runtime.unmap(address, SIZE), Err(Error::NotOwned));
        }
        assert_eq!(system.mapped().len(), before.0.len());
        let now = system.runtime.statistics();
        assert_eq!((now.regions, now.requested_bytes), (before.1.regions, before.1.requested_bytes));
        assert_eq!((now.mapped_bytes, now.regions), (before.1.mapped_bytes, 1));
        // What comes to those places is like any other memory.
        let again = regions(&system);
        fork_as_child(&system);
        again.into_iter().for_each(|address| assert_eq!(system.read(address, 6), Ok(b"secret".to_vec())));
        assert_eq!(system.read(kept, 1), Ok(vec![0]));
    });
}

fn guard(system: &System) {
    system.fake.switch(|switches| switches.hardening = Hardening::GUARDS);
    system.runtime.set_hardening(Hardening::GUARDS).unwrap();
}

#[test]
fn guards_are_withheld_with_what_they_guard() {
    System::each(|system| {
        guard(&system);
        let kept = system.runtime.alloc_exec(100).unwrap();
        let bytes = || system.mapped().iter().map(|(_, length, _)| length).sum::<usize>();
        let before = bytes();
        let [code, data] = [(); 2].map(|()| system.runtime.alloc_exec(SIZE).unwrap());
        withhold(&system, code, SIZE);
        withhold(&system, data, SIZE);
        if system.policy != Policy::Jit {
            // Where pages don't gain EXEC again a view is made for them, which has guards, too.
            system.fake.switch(|switches| switches.refuse_exec_gain = true);
            let views = system.mapped().len();
            system.runtime.make_writable(data as i64, SIZE).unwrap();
            assert!(system.policy != Policy::Dual || system.mapped().len() > views + 1);
        }
        fork_as_child(&system);
        assert_eq!(bytes(), before);
        assert_eq!(system.read(kept, 1), Ok(vec![0]));
    });
}

#[test]
fn neither_a_fork_nor_a_write_after_it_copies_what_is_withheld() {
    let system = System::new(Policy::Dual, 4096);
    system.fake.switch(|switches| switches.refuse_exec_gain = true);
    let [code, data, _] = regions(&system);
    for address in [code, data] {
        withhold(&system, address, SIZE);
    }
    copied(&system);
    fork_as_parent(&system);
    assert_eq!(copied(&system), 0, "the data can be stored to at any time");
    system.publish(code, b"newer");
    system.runtime.make_writable(code as i64, SIZE).unwrap();
    system.runtime.make_executable(code as i64, SIZE).unwrap();
    assert_eq!(copied(&system), 0);
    // All that this has mapped is withheld, too: further views, and pages that were mapped anew.
    let before = system.mapped().len();
    let lost = system.fake.lose_withheld_pages();
    assert!(before > 4 && lost.len() >= 4, "{lost:x?}");
    assert_eq!(system.mapped().len(), 1, "the anonymous memory");
    // A child that plays on here would have no such records.
    std::mem::forget(system);
}

#[test]
fn memory_that_is_in_common_since_an_earlier_fork_is_withheld_after_its_copy() {
    let system = System::new(Policy::Dual, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    system.publish(code, &[1; 8]);
    fork_as_parent(&system);
    withhold(&system, code, SIZE);
    copied(&system);
    // The other process has it still.
    system.publish(code, &[2; 8]);
    assert_eq!(copied(&system), 8192);
    fork_as_child(&system);
    assert_eq!((system.mapped(), system.runtime.region_count()), (vec![], 0));
}

#[test]
fn withholding_happens_to_a_whole_region_or_not_at_all() {
    System::each(|system| {
        for address in regions(&system) {
            let (base, page) = (address as i64, system.page as i64);
            let parts = [(base, page), (base + page, 1), (base, SIZE - page)];
            for (start, size) in parts.into_iter().filter(|_| SIZE > page) {
                let part = system.runtime.advise(start, size, Advice::DontFork);
                assert_eq!(part, Err(Error::InvalidArgument));
            }
            assert_eq!(system.runtime.advise(base, 0, Advice::DontFork), Ok(()));
            assert_eq!(system.runtime.advise(base, SIZE + 2 * page, Advice::DontFork), Err(Error::NotOwned));
        }
        assert_eq!(system.fake.lose_withheld_pages(), []);
    });
}

#[test]
fn withholding_that_fails_for_a_view_is_taken_back() {
    for (policy, is_guarded) in POLICIES.into_iter().flat_map(|policy| [(policy, false), (policy, true)]) {
        for failing in 0..2 {
            let system = System::new(policy, 4096);
            if is_guarded {
                guard(&system);
            }
            let code = system.runtime.alloc_exec(SIZE).unwrap();
            let bytes = || system.mapped().iter().map(|(_, length, _)| length).sum::<usize>();
            let (views, before) = (if policy == Policy::Dual { 2 } else { 1 }, bytes());
            if failing >= views {
                continue;
            }
            system.publish(code, &[1; 8]);
            system.fake.fail(Call::Request, failing, Error::NoMemory);
            let failed = system.runtime.advise(code as i64, SIZE, Advice::DontFork);
            assert_eq!(failed, Err(Error::NoMemory));
            fork_as_child(&system);
            assert_eq!(bytes(), before);
            system.publish(code, &[2; 8]);
            assert_eq!(system.fake.executed(code, 8), [2; 8]);
        }
    }
}

#[test]
fn a_copy_that_can_not_be_withheld_fails_the_write_and_nothing_else() {
    let system = System::new(Policy::Dual, 4096);
    let code = system.runtime.alloc_exec(100).unwrap();
    system.publish(code, &[1; 8]);
    fork_as_parent(&system);
    withhold(&system, code, 100);
    let is_withheld =
        |request: &Request| request.request == execmem_core::platform::PageRequest::Advise(Advice::DontFork);
    system.fake.take_requests();
    // Two pages are brought in, and two views of the copy withheld.
    for nth in 0..4 {
        let moment = system.moment();
        system.fake.fail(Call::Request, nth, Error::NoMemory);
        assert_eq!(system.write(code, &[2; 8]), Err(Error::NoMemory), "{nth}");
        assert_eq!(moment.differences(&system.moment()).collect::<Vec<_>>(), [""; 0]);
    }
    assert_eq!(system.fake.take_requests().into_iter().filter(is_withheld).count(), 1);
    system.publish(code, &[2; 8]);
    fork_as_child(&system);
    assert_eq!(system.mapped(), []);
}

#[test]
fn what_was_sealed_is_withheld_if_it_was_before() {
    let system = System::new(Policy::Dual, 4096);
    let (first, second) = (system.runtime.alloc_exec(100).unwrap(), system.runtime.alloc_exec(100).unwrap());
    withhold(&system, first, 100);
    for code in [first, second] {
        system.runtime.seal(code as i64, 100).unwrap();
    }
    assert_eq!(system.runtime.advise(second as i64, 100, Advice::DontFork), Err(Error::Refused));
    fork_as_child(&system);
    assert_eq!(system.runtime.protection_at(first as i64), Ok(None));
    assert_eq!(system.runtime.protection_at(second as i64), Ok(Some(Protection::RX)));
}
