//! Which policy comes into force, and when.

mod support;

use core::ffi::CStr;
use execmem_core::{Error, Hardening, Policy, Runtime};
use execmem_fake::{Call, Fake, FakePlatform, Switches};

fn runtime(fake: &Fake, switches: Switches) -> Runtime<FakePlatform> {
    fake.switch(|all| *all = switches);
    Runtime::new(fake.platform())
}

fn auto_becomes(switches: Switches) -> Result<Policy, Error> {
    let fake = Fake::new();
    let runtime = runtime(&fake, switches);
    assert_eq!(runtime.policy(), Ok(Policy::Auto));
    let address = runtime.alloc_exec(1)?;
    runtime.free_exec(address as i64, 1).unwrap();
    let policy = runtime.policy();
    // What was tried out is gone: two mappings are left, with the registry's records.
    assert_eq!(fake.live().mappings, 2);
    policy
}

const HARDENED: Switches = Switches {
    is_alone: false,
    refuse_writable_code: true,
    refuse_exec_gain: false,
    refuse_dual: false,
    has_jit: false,
    forbid_writable_code: false,
    allow_partial_unmap: false,
    hardening: Hardening::empty(),
    huge_page: None,
};

#[test]
fn auto_is_the_first_policy_that_the_system_grants() {
    assert_eq!(auto_becomes(Switches::default()), Ok(Policy::Rwx));
    assert_eq!(auto_becomes(Switches { has_jit: true, ..HARDENED }), Ok(Policy::Jit));
    assert_eq!(auto_becomes(HARDENED), Ok(Policy::Dual));
    assert_eq!(auto_becomes(Switches { refuse_dual: true, ..HARDENED }), Ok(Policy::Toggle));
    let nothing = Switches { refuse_dual: true, refuse_exec_gain: true, ..HARDENED };
    assert_eq!(auto_becomes(nothing), Err(Error::Refused));
}

#[test]
fn a_shortage_while_auto_looks_is_no_refusal() {
    let fake = Fake::new();
    let runtime = runtime(&fake, Switches::default());
    fake.fail(Call::Map, 0, Error::NoMemory);
    assert_eq!(runtime.alloc_exec(1), Err(Error::NoMemory));
    assert_eq!(runtime.policy(), Ok(Policy::Auto));
    assert!(runtime.alloc_exec(1).is_ok());
    assert_eq!(runtime.policy(), Ok(Policy::Rwx));
}

#[test]
fn data_memory_fixes_the_policy_too() {
    let fake = Fake::new();
    let runtime = runtime(&fake, HARDENED);
    runtime.alloc_rw(1).unwrap();
    assert_eq!(runtime.policy(), Ok(Policy::Dual));
    assert_eq!(runtime.set_policy(Policy::Toggle), Err(Error::Refused));
}

#[test]
fn a_wish_counts_until_the_first_allocation_and_only_then() {
    let fake = Fake::new();
    let runtime = runtime(&fake, Switches::default());
    for wish in [Policy::Toggle, Policy::Auto, Policy::Dual] {
        runtime.set_policy(wish).unwrap();
        assert_eq!(runtime.policy(), Ok(wish));
    }
    runtime.alloc_exec(1).unwrap();
    assert_eq!(runtime.set_policy(Policy::Rwx), Err(Error::Refused));
    assert_eq!(runtime.set_policy(Policy::Dual), Ok(()));
    assert_eq!(runtime.policy(), Ok(Policy::Dual));
}

#[test]
fn a_wish_that_the_system_refuses_stays_open() {
    let fake = Fake::new();
    let runtime = runtime(&fake, HARDENED);
    runtime.set_policy(Policy::Rwx).unwrap();
    assert_eq!(runtime.alloc_exec(1), Err(Error::Refused));
    assert_eq!(runtime.alloc_rw(1), Err(Error::Refused));
    runtime.set_policy(Policy::Jit).unwrap();
    assert_eq!(runtime.alloc_exec(1), Err(Error::Unsupported));
    runtime.set_policy(Policy::Toggle).unwrap();
    assert!(runtime.alloc_exec(1).is_ok());
}

#[test]
fn the_environment_is_the_wish_of_those_who_set_none() {
    for policy in [Policy::Auto, Policy::Rwx, Policy::Dual, Policy::Toggle] {
        let name: &'static CStr = match policy {
            Policy::Auto => c"auto",
            Policy::Rwx => c"rwx",
            Policy::Dual => c"dual",
            _ => c"toggle",
        };
        let (runtime, _fake) = with(name);
        assert_eq!(runtime.policy(), Ok(policy));
        runtime.alloc_exec(1).unwrap();
        let expected = if policy == Policy::Auto { Policy::Rwx } else { policy };
        assert_eq!(runtime.policy(), Ok(expected));
    }
}

/// A system with this value in `EXECMEM_POLICY`.
fn with(value: &'static CStr) -> (Runtime<FakePlatform>, Fake) {
    let fake = Fake::new();
    fake.set_environment(Some(value));
    (runtime(&fake, Switches::default()), fake)
}

fn head_line(runtime: &Runtime<FakePlatform>, fake: &Fake) -> String {
    fake.take_text();
    runtime.dump();
    fake.take_text().lines().next().unwrap().to_owned()
}

#[test]
fn in_the_environment_case_does_not_matter_and_an_empty_value_is_none() {
    for (value, expected) in [(c"", Policy::Auto), (c"DUAL", Policy::Dual), (c"ToGGle", Policy::Toggle)] {
        let (runtime, fake) = with(value);
        assert_eq!(runtime.policy(), Ok(expected), "{value:?}");
        let name = expected.name();
        assert_eq!(head_line(&runtime, &fake), format!("execmem: executable memory, policy {name}"));
        runtime.alloc_exec(1).unwrap();
        runtime.code_heap().alloc(1).unwrap();
    }
}

#[test]
fn an_unknown_name_in_the_environment_has_an_error_of_its_own_and_another_wish_may_follow() {
    for unknown in [c"dual ", c"none", c" ", c"rwx,dual", c"\xff"] {
        let (runtime, fake) = with(unknown);
        assert_eq!(runtime.policy(), Err(Error::UnknownPolicy));
        assert_eq!(runtime.alloc_exec(1), Err(Error::UnknownPolicy));
        assert_eq!(runtime.alloc_rw(1), Err(Error::UnknownPolicy));
        assert_eq!(runtime.code_heap().alloc(1), Err(Error::UnknownPolicy));
        assert_eq!(fake.live().mappings, 0);
        runtime.set_policy(Policy::Dual).unwrap();
        assert!(runtime.alloc_exec(1).is_ok());
        assert_eq!(head_line(&runtime, &fake), "execmem: executable memory, policy dual");
    }
    assert!(Error::UnknownPolicy.message().to_str().unwrap().contains("EXECMEM_POLICY"));
}

#[test]
fn the_dump_shows_an_unknown_name_as_far_as_it_can_be_shown() {
    let long = c"0123456789012345678901234567890123456789";
    for (value, shown) in [
        (c"dual,toggle", "dual,toggle"),
        (c"rwx\n\x1b[31m\xff", "rwx??[31m?"),
        (long, "01234567890123456789012345678901..."),
    ] {
        let (runtime, fake) = with(value);
        let expected = format!("execmem: executable memory, no policy, EXECMEM_POLICY is \"{shown}\"");
        assert_eq!(head_line(&runtime, &fake), expected);
    }
}

#[test]
fn once_something_was_allocated_the_environment_is_not_read_again() {
    for (value, later) in [(c"dual", c"toggle"), (c"", c"none")] {
        let (runtime, fake) = with(value);
        runtime.alloc_exec(1).unwrap();
        let policy = runtime.policy();
        fake.set_environment(Some(later));
        assert_eq!(runtime.policy(), policy);
        runtime.code_heap().alloc(1).unwrap();
        assert_eq!(runtime.code_heap().policy(), Ok(Policy::Dual));
        // The other way round: a heap was first.
        let (runtime, fake) = with(value);
        runtime.code_heap().alloc(1).unwrap();
        fake.set_environment(Some(later));
        runtime.alloc_exec(1).unwrap();
        assert_eq!(runtime.policy(), policy);
    }
}

#[test]
fn outside_of_rwx_nobody_gets_writable_code() {
    use execmem_core::MapRequest;
    use execmem_core::{MapFlags, Protection};
    support::System::each(|system| {
        // The platform records it if the core as much as asks for it.
        system.fake.add_file(c"file", b"text");
        let address = system.runtime.alloc_rw(1).unwrap() as i64;
        let wanted = if system.policy == Policy::Rwx { Ok(()) } else { Err(Error::Refused) };
        let writable_code = Protection::WRITE | Protection::EXEC;
        for protection in [Protection::RWX, writable_code] {
            let flags = MapFlags::PRIVATE;
            let request = MapRequest { path: Some(c"file"), protection, flags, offset: 0, length: 0 };
            assert_eq!(system.runtime.map_file(request).map(drop), wanted);
            let flags = MapFlags::SHARED | MapFlags::ANONYMOUS;
            let request = MapRequest { path: None, flags, length: 1, ..request };
            assert_eq!(system.runtime.map_file(request).map(drop), wanted);
            assert_eq!(system.runtime.set_protection(address, 1, protection), wanted);
        }
    });
}

#[test]
fn a_first_block_that_there_is_no_memory_for_chooses_no_policy() {
    for (wish, next) in
        [(Policy::Auto, Policy::Toggle), (Policy::Toggle, Policy::Rwx), (Policy::Rwx, Policy::Dual)]
    {
        // Whichever call it is that the memory ends at.
        for nth in 0.. {
            let fake = Fake::new();
            let runtime = Runtime::new(fake.platform());
            let heap = runtime.code_heap();
            runtime.set_policy(wish).unwrap();
            fake.fail_from(nth, Error::NoMemory);
            let block = heap.alloc(100);
            if fake.clear_faults() == 0 {
                assert!(nth > 3 && block.is_ok());
                break;
            }
            assert_eq!(block, Err(Error::NoMemory), "{} without call {nth}", wish.name());
            runtime.set_policy(next).unwrap();
            heap.alloc(100).unwrap();
            assert_eq!((runtime.policy(), heap.policy()), (Ok(next), Ok(next)), "without call {nth}");
        }
    }
}
