//! Several threads at once. Small enough for Miri, which also finds data races.

mod support;

use execmem_core::MapRequest;
use execmem_core::{Error, MapFlags, Policy, Protection};
use execmem_fake::Call;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use support::{POOL, System};

const ROUNDS: usize = if cfg!(miri) { 8 } else { 400 };

#[test]
fn a_copy_is_never_torn_from_under_by_a_free() {
    // Freed memory is filled with poison: a copy that goes on after the unmap would see it, and Miri a race.
    for policy in support::POLICIES {
        let system = System::new(policy, 4096);
        for _ in 0..ROUNDS / 4 + 1 {
            let address = system.runtime.alloc_rw(4096).unwrap();
            system.write(address, &[7; 4096]).unwrap();
            let start = Barrier::new(3);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        start.wait();
                        match system.read(address, 4096) {
                            Ok(bytes) => assert!(bytes == [7; 4096]),
                            Err(error) => assert_eq!(error, Error::NotOwned),
                        }
                    });
                }
                start.wait();
                system.runtime.free_exec(address as i64, 4096).unwrap();
            });
        }
    }
}

#[test]
fn a_free_waits_for_the_flush_that_is_under_way() {
    let system = System::new(Policy::Rwx, 4096);
    let address = system.runtime.alloc_exec(100).unwrap() as i64;
    let (is_inside, may_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (inside, go) = (is_inside.clone(), may_go.clone());
    system.fake.observe(move |event| {
        if event.call == Call::FlushIcache {
            inside.store(true, SeqCst);
            while !go.load(SeqCst) {
                thread::yield_now();
            }
        }
    });
    let unmaps = system.fake.count(Call::Unmap);
    thread::scope(|scope| {
        scope.spawn(|| system.runtime.flush_icache(address, 100).unwrap());
        while !is_inside.load(SeqCst) {
            thread::yield_now();
        }
        scope.spawn(|| system.runtime.free_exec(address, 100).unwrap());
        // Time enough for a free that doesn't wait. One that does is never early, however slow the machine.
        for _ in 0..if cfg!(miri) { 50 } else { 5000 } {
            thread::yield_now();
        }
        let is_early = system.fake.count(Call::Unmap) != unmaps;
        may_go.store(true, SeqCst);
        assert!(!is_early);
    });
    system.fake.stop_observing();
    assert_eq!(system.mapped(), []);
}

#[test]
fn of_two_frees_exactly_one_succeeds() {
    let system = System::new(Policy::Dual, 4096);
    for _ in 0..ROUNDS {
        let address = system.runtime.alloc_exec(1).unwrap() as i64;
        let start = Barrier::new(2);
        let frees = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    frees.fetch_add(usize::from(system.runtime.free_exec(address, 1).is_ok()), SeqCst);
                });
            }
        });
        assert_eq!(frees.into_inner(), 1);
    }
    assert_eq!(system.mapped(), []);
}

#[test]
fn regions_of_different_threads_do_not_disturb_each_other() {
    for policy in support::POLICIES {
        let system = System::new(policy, 4096);
        thread::scope(|scope| {
            for thread in 1..4u8 {
                let system = &system;
                scope.spawn(move || {
                    for round in 0..ROUNDS / 4 + 1 {
                        let size = 1 + 4096 * (round % 3);
                        let address = system.runtime.alloc_exec(size as i64).unwrap();
                        system.publish(address, &vec![thread; size]);
                        assert!(system.read(address, size).unwrap() == vec![thread; size]);
                        assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(system.code())));
                        system.runtime.free_exec(address as i64, size as i64).unwrap();
                    }
                });
            }
        });
        assert_eq!(system.mapped(), []);
        assert_eq!(system.runtime.statistics().mapped_bytes, 0);
    }
}

#[test]
fn lookups_answer_while_a_writer_is_in_the_middle_of_its_work() {
    // The writer stops inside of a system call until the lookups are done: one that waited would hang.
    for call in [Call::Protect, Call::Unmap, Call::FlushIcache] {
        let system = System::new(Policy::Rwx, 4096);
        let other = system.runtime.alloc_exec(1).unwrap() as i64;
        let address = system.runtime.alloc_rw(4096).unwrap() as i64;
        let (is_inside, may_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (inside, go) = (is_inside.clone(), may_go.clone());
        system.fake.observe(move |event| {
            if event.call == call {
                inside.store(true, SeqCst);
                while !go.load(SeqCst) {
                    thread::yield_now();
                }
            }
        });
        thread::scope(|scope| {
            scope.spawn(|| match call {
                Call::Unmap => system.runtime.free_exec(address, 4096).unwrap(),
                _ => system.runtime.make_executable(address, 4096).unwrap(),
            });
            while !is_inside.load(SeqCst) {
                thread::yield_now();
            }
            assert_eq!(system.runtime.is_executable(other), Ok(true));
            assert!(system.runtime.protection_at(address).is_ok());
            assert_eq!(system.runtime.region_count(), 2);
            may_go.store(true, SeqCst);
        });
        system.fake.stop_observing();
    }
}

#[test]
fn lookups_are_right_while_the_nodes_that_they_are_in_are_used_for_other_places() {
    // Mappings of more than a gigabyte get places of their own, for which nodes come and go. Readers ask about
    // pages that live throughout, and about one of the pages that went lately, whose node is the next to go
    // and to hold somebody else's page at the same index. Whether a reader is in it at that moment is up to
    // the scheduler, and natively takes more luck than a test has; the page map's own tests bring it about by
    // hand, without a second thread. Miri looks for races here, and stops readers anywhere.
    let system = System::new(Policy::Rwx, 4096);
    system.fake.add_sparse_file(c"large", (1 << 30) + 4096);
    let flags = MapFlags::PRIVATE;
    let map = |protection| {
        let path = Some(c"large");
        let request = MapRequest { path, protection, flags, offset: 0, length: 0 };
        system.runtime.map_file(request).unwrap().0 as i64
    };
    const SIZE: i64 = (1 << 30) + 4096;
    let known = |address| system.runtime.protection_at(address).unwrap();
    let near = system.runtime.alloc_exec(4096).unwrap() as i64;
    let far = map(Protection::READ) + SIZE - 1;
    let (is_done, gone) = (AtomicBool::new(false), AtomicUsize::new(1 << 40));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(SeqCst) {
                    assert_eq!(known(gone.load(SeqCst) as i64), None);
                    assert_eq!(known(far), Some(Protection::READ));
                    assert_eq!(known(near), Some(Protection::RWX));
                }
            });
        }
        let mut lately = std::collections::VecDeque::new();
        for round in 0..if cfg!(miri) { 12 } else { 4_000 } {
            let address = map([Protection::RW, Protection::NONE][round % 2]);
            system.runtime.unmap(address, SIZE).unwrap();
            lately.push_back(address + SIZE - 1);
            if lately.len() == 4 {
                gone.store(lately.pop_front().unwrap() as usize, SeqCst);
            }
        }
        is_done.store(true, SeqCst);
    });
}

/// Those that live to the end of the process.
static SYSTEMS: Mutex<Vec<&'static System>> = Mutex::new(Vec::new());

#[test]
fn no_system_call_is_made_under_the_registrys_lock() {
    // From inside of each call, another region is used, which takes the lock: a test that hangs here has
    // found a call under it. Maps for the registry's own records are the exception.
    for policy in support::POLICIES {
        let system: &'static System = Box::leak(Box::new(System::new(policy, 4096)));
        SYSTEMS.lock().unwrap().push(system);
        system.fake.add_file(c"file", b"text");
        let other = system.runtime.alloc_rw(1).unwrap() as i64;
        let is_nested = AtomicBool::new(false);
        let seen = Arc::new(AtomicUsize::new(0));
        let counter = seen.clone();
        system.fake.observe(move |event| {
            let is_pool = event.call == Call::Map && event.length.is_multiple_of(POOL);
            if !is_pool && !is_nested.swap(true, SeqCst) {
                counter.fetch_add(1, SeqCst);
                system.runtime.lock(other, 1).unwrap();
                is_nested.store(false, SeqCst);
            }
        });
        let code = system.runtime.alloc_exec(5000).unwrap();
        system.publish(code, &[1; 5000]);
        system.publish(code, &[2; 5000]);
        let near = system.runtime.alloc_exec_near(1, code as i64, 1 << 30).unwrap();
        // Code memory behind a write switch has its protection for good.
        let data = system.runtime.alloc_rw(1).unwrap();
        let changing = if policy == Policy::Jit { data } else { code } as i64;
        system.runtime.make_writable(changing, 1).unwrap();
        system.runtime.make_executable(changing, 1).unwrap();
        system.runtime.set_protection(changing, 1, Protection::EXEC).unwrap();
        system.runtime.free_exec(data as i64, 1).unwrap();
        system.runtime.free_exec(code as i64, 5000).unwrap();
        system.runtime.free_exec(near as i64, 1).unwrap();
        system.runtime.dump();
        assert!(system.runtime.protection_at(1 << 40).is_ok());
        assert!(seen.load(SeqCst) > 10);
        system.fake.stop_observing();
        system.fake.verify();
    }
}
