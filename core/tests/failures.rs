//! Every call that the core makes fails once: nothing has changed, and a retry succeeds.

mod support;

use core::ffi::CStr;
use execmem_core::MapRequest;
use execmem_core::{Advice, Error, Hardening, MapFlags, Policy, Protection};
use execmem_fake::Call;
use support::System;

/// What the operations below work on.
struct Subject {
    code: usize,
    data: usize,
    file: usize,
}

const SIZE: i64 = 5 * 4096;

impl Subject {
    fn new(system: &System) -> Self {
        system.fake.add_file(c"file", &[7; 5000]);
        let code = system.runtime.alloc_exec(SIZE).unwrap();
        system.publish(code, &[0xc3; 16]);
        system.fake.switch(|switches| switches.hardening = Hardening::BTI);
        let data = system.runtime.alloc_rw(SIZE).unwrap();
        system.poke(data, &[1, 2, 3]);
        // Pages of different protection, so that a restore has more than one thing to put back.
        system.runtime.set_protection(data as i64, 1, Protection::READ).unwrap();
        let (file, _) = system.runtime.map_file(request(c"file", Protection::READ)).unwrap();
        Self { code, data, file }
    }
}

fn request(path: &CStr, protection: Protection) -> MapRequest<'_> {
    MapRequest { path: Some(path), protection, flags: MapFlags::PRIVATE, offset: 0, length: 0 }
}

type Operation = (&'static str, fn(&System, &Subject) -> Result<(), Error>);

const OPERATIONS: &[Operation] = &[
    ("alloc_exec", |system, _| system.runtime.alloc_exec(SIZE).map(drop)),
    ("alloc_rw", |system, _| system.runtime.alloc_rw(SIZE).map(drop)),
    ("alloc_exec_near", |system, subject| {
        system.runtime.alloc_exec_near(SIZE, subject.code as i64, 1 << 20).map(drop)
    }),
    ("free of code", |system, subject| system.runtime.free_exec(subject.code as i64, SIZE)),
    ("free of data", |system, subject| system.runtime.free_exec(subject.data as i64, SIZE)),
    ("write to code", |system, subject| system.write(subject.code + 4090, &[9; 20]).map(drop)),
    ("write to data", |system, subject| system.write(subject.data + 16384, &[9; 20]).map(drop)),
    ("flush", |system, subject| system.runtime.flush_icache(subject.code as i64, 100)),
    ("make code writable", |system, subject| system.runtime.make_writable(subject.code as i64, SIZE)),
    ("seal", |system, subject| system.runtime.seal(subject.code as i64, SIZE)),
    ("make code unreadable", |system, subject| {
        system.runtime.set_protection(subject.code as i64 + 4096, 8192, Protection::EXEC)
    }),
    ("make data executable", |system, subject| system.runtime.make_executable(subject.data as i64, SIZE)),
    ("make data inaccessible", |system, subject| {
        system.runtime.set_protection(subject.data as i64, SIZE, Protection::NONE)
    }),
    ("make data execute-only", |system, subject| {
        system.runtime.set_protection(subject.data as i64, SIZE, Protection::EXEC)
    }),
    ("make data ask for landing pads", |system, subject| {
        system.runtime.set_protection(subject.data as i64, SIZE, Protection::RX | Protection::BTI)
    }),
    ("map_file", |system, _| system.runtime.map_file(request(c"file", Protection::RW)).map(drop)),
    ("map_descriptor", |system, _| {
        let request = MapRequest { path: None, ..request(c"", Protection::RW) };
        system.runtime.map_descriptor(system.fake.descriptor(c"file"), request).map(drop)
    }),
    ("map anonymous", |system, _| {
        let flags = MapFlags::ANONYMOUS | MapFlags::SHARED;
        let request = MapRequest { path: None, length: 100, flags, ..request(c"", Protection::READ) };
        system.runtime.map_file(request).map(drop)
    }),
    ("unmap", |system, subject| system.runtime.unmap(subject.file as i64, 5000)),
    ("file_size", |system, _| system.runtime.file_size(c"file").map(drop)),
    ("sync", |system, subject| system.runtime.sync(subject.file as i64, 1, false)),
    ("lock", |system, subject| system.runtime.lock(subject.file as i64, 1)),
    ("unlock", |system, subject| system.runtime.unlock(subject.file as i64, 1)),
    ("advise", |system, subject| system.runtime.advise(subject.file as i64, 1, Advice::WillNeed)),
    ("read of a file", |system, subject| system.read(subject.file, 5000).map(drop)),
    ("read_bytes", |system, subject| system.runtime.read_bytes(subject.file as i64, 0, 5000).map(drop)),
    ("read_string", |system, subject| system.runtime.read_string(subject.file as i64, 0, 5000).map(drop)),
    ("protection of a foreign address", |system, _| system.runtime.protection_at(1).map(drop)),
];

/// Lets the n-th call of an operation fail, for each n, as `arrange` says, until it makes no n-th call.
/// Every rule that is broken comes back as a line.
fn fail_every_call(policy: Policy, page_size: usize, arrange: impl Fn(&System, usize)) -> Vec<String> {
    let mut broken = Vec::new();
    // The protection of code memory behind a write switch can't be changed at all.
    let applies = |name: &str| match policy {
        Policy::Jit => !name.starts_with("make code") && name != "seal",
        // There it is writable.
        Policy::Rwx => name != "seal",
        _ => true,
    };
    for (name, operation) in OPERATIONS.iter().filter(|(name, _)| applies(name)) {
        for nth in 0.. {
            let system = System::new(policy, page_size);
            let subject = Subject::new(&system);
            let before = system.moment();
            arrange(&system, nth);
            let result = operation(&system, &subject);
            if system.fake.clear_faults() == 0 {
                assert_eq!(result, Ok(()), "{name}");
                break;
            }
            let what = format!("{name}, call {nth}, policy {}", policy.name());
            broken.extend(system.fake.take_violations().iter().map(|rule| format!("{rule} by {what}")));
            if result.is_ok() {
                // What failed was the clean-up of something that the caller never hears of.
                println!("{what}: succeeded all the same");
                continue;
            }
            broken.extend(before.differences(&system.moment()).map(|part| format!("{part} after {what}")));
            if let Err(error) = operation(&system, &subject) {
                broken.push(format!("a retry of {what}: {error}"));
            }
            broken.extend(
                system.fake.take_violations().iter().map(|rule| format!("{rule} by a retry of {what}")),
            );
        }
    }
    broken
}

#[test]
#[cfg_attr(miri, ignore = "a new system for each of hundreds of calls")]
fn a_call_that_fails_has_changed_nothing_and_can_be_tried_again() {
    let mut broken = Vec::new();
    for policy in support::POLICIES {
        for page_size in support::PAGE_SIZES {
            let fail = |system: &System, nth| system.fake.fail_any(nth, Error::NoMemory);
            broken.extend(fail_every_call(policy, *page_size, fail));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
#[cfg_attr(miri, ignore = "a new system for each of hundreds of calls")]
fn a_protect_that_stops_half_way_is_undone() {
    let fail = |system: &System, nth| system.fake.fail_halfway(nth, Error::NoMemory);
    let broken: Vec<_> =
        support::POLICIES.into_iter().flat_map(|policy| fail_every_call(policy, 4096, fail)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_region_that_could_not_be_unmapped_stays_until_a_retry_works() {
    System::each(|system| {
        let address = system.runtime.alloc_exec(100).unwrap();
        system.publish(address, &[0xc3]);
        for nth in 0.. {
            system.fake.fail(Call::Unmap, nth, Error::NoMemory);
            if system.runtime.free_exec(address as i64, 100).is_ok() {
                break;
            }
            assert_eq!(system.runtime.region_count(), 1);
            assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(system.code())));
            assert_eq!(system.read(address, 1), Ok(vec![0xc3]));
        }
        assert_eq!(system.runtime.region_count(), 0);
        assert_eq!(system.mapped(), []);
        assert_eq!(system.runtime.statistics().mapped_bytes, 0);
    });
}
