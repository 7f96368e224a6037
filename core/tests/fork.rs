//! What the records say and what memory shows after a fork, whatever other threads were doing.
//!
//! A child is played by this process: its other threads, which a real child doesn't have, stand still meanwhile.
//! That no write reaches the other process is for real forks to show (`tests/linux`).

mod support;

use execmem_core::{Error, Policy, Protection};
use execmem_fake::Call;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use support::{System, copied, fork_as_child, fork_as_parent};

const CODE: [u8; 4] = [1, 2, 3, 4];
const OTHER: [u8; 4] = [5, 6, 7, 8];
const SIZE: i64 = 5000;

/// Does `work` in another thread, which stands still inside of the first `call` until `then` is done.
fn during(system: &System, call: Call, work: impl FnOnce() + Send, then: impl FnOnce()) {
    let (reached, done) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let is_first = AtomicBool::new(true);
    let (inside, go_on) = (reached.clone(), done.clone());
    system.fake.observe(move |event| {
        if event.call == call && is_first.swap(false, SeqCst) {
            inside.wait();
            go_on.wait();
        }
    });
    thread::scope(|scope| {
        scope.spawn(work);
        reached.wait();
        let outcome = catch_unwind(AssertUnwindSafe(then));
        done.wait();
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
    system.fake.stop_observing();
}

#[test]
fn the_first_write_after_a_fork_copies_a_region_and_no_later_one_does() {
    for fork in [fork_as_child, fork_as_parent] {
        let system = System::new(Policy::Dual, 4096);
        let code = system.runtime.alloc_exec(SIZE).unwrap();
        system.publish(code, &CODE);
        copied(&system);
        fork(&system);
        assert_eq!(system.read(code, CODE.len()), Ok(CODE.to_vec()));
        system.runtime.flush_icache(code as i64, SIZE).unwrap();
        system.runtime.make_executable(code as i64, SIZE).unwrap();
        assert_eq!(copied(&system), 0);
        system.publish(code, &OTHER);
        assert_eq!(copied(&system), 8192);
        assert_eq!(system.fake.executed(code, OTHER.len()), OTHER);
        system.publish(code, &CODE);
        system.runtime.make_writable(code as i64, 1).unwrap();
        assert_eq!(copied(&system), 0);
        assert_eq!(system.read(code, CODE.len()), Ok(CODE.to_vec()));
        system.runtime.free_exec(code as i64, SIZE).unwrap();
        assert_eq!(system.mapped(), []);
        system.fake.verify();
    }
}

#[test]
fn making_pages_writable_is_a_write_too() {
    let system = System::new(Policy::Dual, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    system.publish(code, &CODE);
    fork_as_child(&system);
    copied(&system);
    system.runtime.make_writable(code as i64, SIZE).unwrap();
    assert_eq!(copied(&system), 8192);
    system.poke(code, &OTHER);
    system.runtime.make_executable(code as i64, SIZE).unwrap();
    assert_eq!(system.fake.executed(code, OTHER.len()), OTHER);
    system.fake.verify();
}

#[test]
fn memory_that_callers_can_store_to_is_copied_at_the_fork() {
    // Before the fork a private copy is made; a child moves it to memory of its own.
    for (fork, pages) in [(fork_as_child as fn(&System), 2), (fork_as_parent, 1)] {
        let system = System::new(Policy::Dual, 4096);
        let data = system.runtime.alloc_rw(100).unwrap();
        system.poke(data, &OTHER);
        copied(&system);
        fork(&system);
        assert_eq!(copied(&system), pages * 4096);
        assert_eq!(system.raw(data, OTHER.len()), OTHER);
        system.poke(data, &CODE);
        system.write(data + 50, &CODE).unwrap();
        system.runtime.make_executable(data as i64, 100).unwrap();
        assert_eq!(copied(&system), 0);
        assert_eq!(system.fake.executed(data, CODE.len()), CODE);
        system.runtime.free_exec(data as i64, 100).unwrap();
        assert_eq!(system.mapped(), []);
        system.fake.verify();
    }
}

#[test]
fn a_copy_that_finds_no_memory_fails_the_write_and_nothing_else() {
    for call in [Call::Map, Call::MoveOnto, Call::Request] {
        let system = System::new(Policy::Dual, 4096);
        let code = system.runtime.alloc_exec(SIZE).unwrap();
        system.publish(code, &CODE);
        fork_as_child(&system);
        let moment = system.moment();
        system.fake.fail_always(call, Error::NoMemory);
        assert_eq!(system.write(code, &OTHER), Err(Error::NoMemory));
        assert_eq!(system.runtime.make_writable(code as i64, 1), Err(Error::NoMemory));
        assert_eq!(system.runtime.is_executable(code as i64), Ok(true));
        system.fake.clear_faults();
        assert_eq!(moment.differences(&system.moment()).collect::<Vec<_>>(), [""; 0]);
        system.publish(code, &OTHER);
        assert_eq!(system.fake.executed(code, OTHER.len()), OTHER);
        system.fake.verify();
    }
}

#[test]
fn a_child_without_memory_for_what_can_not_wait_has_nothing_that_it_could_run() {
    let system = System::new(Policy::Dual, 4096);
    let data = system.runtime.alloc_rw(100).unwrap();
    system.write(data, &OTHER).unwrap();
    system.fake.fail_always(Call::Map, Error::NoMemory);
    fork_as_child(&system);
    assert!(system.mapped().iter().all(|(_, _, protection)| *protection == Protection::NONE));
    assert_eq!(system.write(data, &OTHER), Err(Error::WrongProtection));
    // Access to memory that the parent can change must not come back.
    system.fake.clear_faults();
    for protection in [Protection::READ, Protection::RW, Protection::RX] {
        let refused = system.runtime.set_protection(data as i64, 100, protection);
        assert_eq!(refused, Err(Error::WrongProtection));
    }
    assert_eq!(system.runtime.free_exec(data as i64, 100), Ok(()));
    assert_eq!(system.mapped(), []);
}

#[test]
fn a_fork_waits_for_no_operation_and_copies_the_region_that_one_is_using() {
    let system = System::new(Policy::Dual, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    system.publish(code, &CODE);
    let flush = || system.runtime.flush_icache(code as i64, SIZE).unwrap();
    during(&system, Call::FlushIcache, flush, || {
        copied(&system);
        fork_as_parent(&system);
        assert_eq!(copied(&system), 8192, "who uses it may be writing to it");
    });
    // The child had a copy, so this process has the memory for itself.
    system.publish(code, &OTHER);
    assert_eq!(copied(&system), 0);
    system.fake.verify();
}

#[test]
fn a_child_has_the_protection_that_is_recorded_where_a_change_was_under_way() {
    for policy in [Policy::Rwx, Policy::Toggle] {
        let system = System::new(policy, 4096);
        let code = system.runtime.alloc_rw(3 * 4096).unwrap() as i64;
        system.runtime.make_executable(code, 3 * 4096).unwrap();
        // The thread that is about to make them writable may have done so, but has not recorded it.
        let make_writable = || _ = system.runtime.make_writable(code, 3 * 4096);
        let protected = system.fake.count(Call::Protect);
        during(&system, Call::Protect, make_writable, || {
            fork_as_child(&system);
            assert_eq!(system.fake.count(Call::Protect), protected + 1);
            assert_eq!(system.fake.protection(code as usize), Some(Protection::RX));
            assert_eq!(system.runtime.protection_at(code), Ok(Some(Protection::RX)));
            // Nobody has a claim on it any more.
            system.runtime.make_executable(code, 1).unwrap();
        });
    }
}

#[test]
fn a_child_forgets_a_region_that_was_being_unmapped_and_counts_what_it_has() {
    let system = System::new(Policy::Rwx, 4096);
    let kept = system.runtime.alloc_exec(SIZE).unwrap() as i64;
    let freed = system.runtime.alloc_exec(100).unwrap() as i64;
    during(
        &system,
        Call::Unmap,
        || _ = system.runtime.free_exec(freed, 100),
        || {
            fork_as_child(&system);
            assert_eq!(system.runtime.free_exec(freed, 100), Err(Error::NotOwned));
            assert_eq!((system.runtime.region_count(), system.runtime.requested_bytes()), (1, SIZE));
            assert_eq!(system.runtime.statistics().mapped_bytes, 8192);
            assert_eq!(system.runtime.protection_at(kept), Ok(Some(Protection::RWX)));
        },
    );
}

#[test]
fn nobody_overtakes_whoever_waits_for_a_region() {
    let system = System::new(Policy::Rwx, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap() as i64;
    let order = Mutex::new(Vec::new());
    // Until so many threads wait, or one did not have to.
    let until_waiting = |threads: usize| {
        while system.fake.threads_that_waited() < threads && order.lock().unwrap().is_empty() {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        let flush = || system.runtime.flush_icache(code, SIZE).unwrap();
        during(&system, Call::FlushIcache, flush, || {
            scope.spawn(|| {
                system.runtime.set_protection(code, 1, Protection::READ).unwrap();
                order.lock().unwrap().push("exclusive");
            });
            until_waiting(1);
            scope.spawn(|| {
                system.runtime.lock(code, 1).unwrap();
                order.lock().unwrap().push("shared");
            });
            until_waiting(2);
            assert!(order.lock().unwrap().is_empty(), "both wait for the flush, and for each other");
        });
    });
    assert_eq!(order.into_inner().unwrap(), ["exclusive", "shared"]);
}

#[test]
fn a_copy_whose_protection_can_not_be_set_leaves_pages_as_they_were() {
    let system = System::new(Policy::Dual, 4096);
    let code = system.runtime.alloc_exec(4096).unwrap();
    system.publish(code, &[1; 100]);
    system.runtime.set_protection(code as i64, 4096, Protection::EXEC).unwrap();
    support::fork_as_parent(&system);
    system.fake.fail(Call::Protect, 0, Error::NoMemory);
    assert_eq!(system.write(code, &[2; 100]), Err(Error::NoMemory));
    assert_eq!(system.fake.protection(code), Some(Protection::EXEC));
    assert_eq!(system.write(code, &[2; 100]), Ok(100));
    assert_eq!(system.fake.protection(code), Some(Protection::EXEC));
    system.fake.verify();
}
