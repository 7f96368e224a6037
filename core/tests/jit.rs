//! Code memory behind a write switch of each thread: what can't be done with it, and what a fork leaves.

mod support;

use execmem_core::platform::Memory;
use execmem_core::policy::Trial;
use execmem_core::{Error, Platform, Policy, Protection, Span};
use execmem_fake::Call;
use support::System;

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

/// What a fork does to the child: its pages behind the switch are gone.
fn fork(system: &System, code: usize, then: impl FnOnce()) {
    assert!(!system.runtime.before_fork());
    let pages = Span::new(code as i64, 2 * 4096).unwrap();
    // SAFETY: nothing uses the pages before the child's records know that they are gone.
    unsafe { system.fake.platform().unmap(pages) }.unwrap();
    then();
    // SAFETY: this thread called `before_fork`.
    unsafe { system.runtime.after_fork_in_child() };
}

#[test]
fn a_forked_child_keeps_the_place_and_no_access() {
    let system = System::new(Policy::Jit, 4096);
    let code = system.runtime.alloc_exec(SIZE).unwrap();
    system.publish(code, &CODE);
    fork(&system, code, || ());
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
    fork(&system, code, || {
        let views = platform.map(8192, Memory::Private(Protection::RW), Some(code)).unwrap();
        assert_eq!(views.address, code);
    });
    assert_eq!(system.runtime.free_exec(code as i64, SIZE), Err(Error::NotOwned));
    assert_eq!((system.runtime.region_count(), system.runtime.requested_bytes()), (0, 0));
    assert_eq!(system.runtime.statistics().mapped_bytes, 0);
    assert_eq!(system.runtime.protection_at(code as i64), Ok(Some(Protection::RW)));
}

#[test]
fn the_statistics_say_why_a_policy_was_chosen() {
    let system = System::new(Policy::Jit, 4096);
    // Asking is no mistake here: the platform refuses.
    system.fake.switch(|switches| switches.forbid_writable_code = false);
    system.runtime.set_policy(Policy::Auto).unwrap();
    assert_eq!(system.runtime.statistics().policy_trials, [Trial::NotTried; 5]);
    system.runtime.alloc_exec(SIZE).unwrap();
    let trials = system.runtime.statistics().policy_trials;
    assert_eq!(trials[Policy::Rwx as usize], Trial::Failed(Error::Refused));
    assert_eq!(trials[Policy::Jit as usize], Trial::Granted);
    assert_eq!(trials[Policy::Dual as usize], Trial::NotTried);
    assert_eq!(trials[Policy::Toggle as usize], Trial::NotTried);
}
