//! Every call that the heap makes fails once, at every place: nothing has changed that a caller can see,
//! and a retry succeeds.

mod support;

use execmem_core::Limits;
use execmem_core::icache::TRAP;
use execmem_core::{Error, Policy, Protection};
use execmem_fake::Call;
use support::{Heap, POLICIES, System, write_block};

const LIMITS: Limits = Limits { bytes: usize::MAX, chunk_bytes: 64 << 10, ..Limits::DEFAULT };

fn write(heap: &Heap<'_>, address: i64, bytes: &[u8]) -> Result<(), Error> {
    write_block(heap, address, bytes).map(drop)
}

/// What the operations work on.
struct Subject<'r> {
    heap: Heap<'r>,
    published: i64,
    fresh: i64,
    large: i64,
}

impl<'r> Subject<'r> {
    fn new(system: &'r System) -> Self {
        let heap = system.runtime.new_code_heap(LIMITS).unwrap();
        let published = heap.alloc(500).unwrap() as i64;
        write(&heap, published, &[7; 500]).unwrap();
        heap.publish(published, 500).unwrap();
        let fresh = heap.alloc(500).unwrap() as i64;
        let large = heap.alloc(100_000).unwrap() as i64;
        Self { heap, published, fresh, large }
    }
}

type Operation = (&'static str, fn(&Subject<'_>) -> Result<(), Error>);

const OPERATIONS: &[Operation] = &[
    ("alloc", |subject| subject.heap.alloc(500).map(drop)),
    ("alloc in a new chunk", |subject| subject.heap.alloc(60_000).map(drop)),
    ("alloc of a chunk of its own", |subject| subject.heap.alloc(200_000).map(drop)),
    ("alloc_near", |subject| subject.heap.alloc_near(60_000, subject.fresh, 1 << 30).map(drop)),
    ("first write", |subject| write(&subject.heap, subject.fresh, &[1; 500])),
    ("write again", |subject| write(&subject.heap, subject.published, &[1; 500])),
    ("long write", |subject| write(&subject.heap, subject.large, &[1; 100_000])),
    ("publish", |subject| subject.heap.publish(subject.fresh, 500)),
    ("publish again", |subject| subject.heap.publish(subject.published, 500)),
    ("shrink", |subject| subject.heap.shrink(subject.fresh, 100)),
    ("shrink of code", |subject| subject.heap.shrink(subject.published, 100)),
    ("shrink of a chunk of its own", |subject| subject.heap.shrink(subject.large, 100)),
    ("free", |subject| subject.heap.free(subject.fresh)),
    ("free of code", |subject| subject.heap.free(subject.published)),
    ("free of a chunk of its own", |subject| subject.heap.free(subject.large)),
];

#[test]
#[cfg_attr(miri, ignore = "a new system for each of a hundred calls")]
fn each_call_may_fail_once_and_the_next_try_succeeds() {
    for policy in POLICIES {
        for (name, operation) in OPERATIONS {
            let mut failures = 0;
            for nth in 0.. {
                let system = System::new(policy, 4096);
                let subject = Subject::new(&system);
                let before = system.runtime.statistics();
                system.fake.fail_any(nth, Error::NoMemory);
                let outcome = operation(&subject);
                let fired = system.fake.clear_faults();
                if let Err(error) = outcome {
                    assert_eq!(error, Error::NoMemory, "{name}, call {nth}");
                    let after = system.runtime.statistics();
                    assert_eq!(after.code_blocks, before.code_blocks, "{name}, call {nth}");
                    assert_eq!(after.code_bytes, before.code_bytes, "{name}, call {nth}");
                    let is_whole = system.raw(subject.published as usize, 500) == [7; 500];
                    assert!(is_whole || !name.starts_with("shrink"), "{name}, call {nth}");
                    operation(&subject).unwrap_or_else(|error| panic!("{name}, after call {nth}: {error}"));
                    failures += 1;
                }
                // Whatever failed, the other blocks are as they were, and everything goes back at the end.
                let stays = [subject.published, subject.fresh, subject.large];
                let freed = name.starts_with("free");
                assert!(freed || stays.iter().all(|block| subject.heap.find(*block).is_some()));
                if !freed && !name.contains("write") {
                    let kept = if *name == "shrink of code" { 100 } else { 500 };
                    assert_eq!(
                        system.raw(subject.published as usize, kept),
                        vec![7; kept],
                        "{name}, call {nth}"
                    );
                }
                drop(subject);
                let end = system.runtime.statistics();
                assert_eq!((end.code_blocks, end.code_chunks), (0, 0), "{name}, call {nth}");
                if fired == 0 {
                    break;
                }
            }
            println!("{}: {name}: {failures} calls can fail", policy.name());
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "a new system for each call")]
fn the_first_block_of_a_process_may_fail_at_every_call_too() {
    for policy in POLICIES {
        for nth in 0.. {
            let system = System::new(policy, 4096);
            let heap = system.runtime.code_heap();
            system.fake.fail_any(nth, Error::NoMemory);
            let outcome = heap.alloc(500);
            let fired = system.fake.clear_faults();
            if outcome.is_err() {
                assert_eq!(outcome, Err(Error::NoMemory), "call {nth}");
                let now = system.runtime.statistics();
                assert_eq!((now.code_blocks, now.code_chunks, now.code_clusters), (0, 0, 0), "call {nth}");
                assert_eq!(system.mapped(), [], "call {nth}");
                heap.alloc(500).unwrap_or_else(|error| panic!("after call {nth}: {error}"));
            }
            if fired == 0 {
                break;
            }
        }
    }
}

#[test]
fn a_system_without_memory_is_told_apart_from_a_limit_and_the_heap_goes_on_afterwards() {
    for policy in POLICIES {
        let system = System::new(policy, 4096);
        let subject = Subject::new(&system);
        system.fake.fail_always(Call::Map, Error::NoMemory);
        let mut blocks = Vec::new();
        let refusal = loop {
            match subject.heap.alloc(if cfg!(miri) { 16_000 } else { 4000 }) {
                Ok(block) => blocks.push(block as i64),
                Err(error) => break error,
            }
        };
        assert_eq!(refusal, Error::NoMemory);
        assert!(!blocks.is_empty(), "what is there is used up first");
        assert_eq!(subject.heap.alloc(100_000), Err(Error::NoMemory));
        for block in &blocks {
            subject.heap.free(*block).unwrap();
        }
        assert!(subject.heap.alloc(4000).is_ok());
        system.fake.clear_faults();
        assert!(subject.heap.alloc(100_000).is_ok());
    }
}

#[test]
fn pages_that_the_system_does_not_take_back_are_offered_again_later() {
    let system = System::new(Policy::Dual, 4096);
    let subject = Subject::new(&system);
    let chunks = system.runtime.statistics().code_chunks;
    system.fake.fail_always(Call::Unmap, Error::NoMemory);
    subject.heap.free(subject.large).unwrap();
    assert_eq!(subject.heap.find(subject.large), None);
    assert_eq!(system.runtime.statistics().code_chunks, chunks);
    system.fake.clear_faults();
    subject.heap.free(subject.heap.alloc(200_000).unwrap() as i64).unwrap();
    assert_eq!(system.runtime.statistics().code_chunks, chunks - 1);
}

#[test]
fn a_write_view_without_memory_behind_it_fails_instead_of_ending_the_process() {
    let system = System::new(Policy::Dual, 4096);
    let subject = Subject::new(&system);
    // A block in a part of the chunk that nothing was written to yet.
    system.fake.fail_always(Call::Request, Error::Io);
    assert_eq!(write(&subject.heap, subject.large, &[1; 10]), Err(Error::NoMemory));
    assert_eq!(subject.heap.write_view(subject.large), Err(Error::NoMemory));
    system.fake.clear_faults();
    write(&subject.heap, subject.large, &[1; 10]).unwrap();
}

#[test]
fn a_cross_core_step_that_fails_is_made_up_for_by_the_next_publication() {
    let system = System::new(Policy::Dual, 4096);
    let subject = Subject::new(&system);
    write(&subject.heap, subject.published, &[8; 500]).unwrap();
    system.fake.fail(Call::SynchronizeCores, 0, Error::Unsupported);
    assert_eq!(subject.heap.publish(subject.published, 500), Err(Error::Unsupported));
    subject.heap.publish(subject.published, 500).unwrap();
    assert_eq!(system.fake.executed_elsewhere(subject.published as usize, 500), [8; 500]);
}

#[test]
fn a_flip_back_gets_a_second_chance_and_what_becomes_of_it_is_known() {
    let system = System::new(Policy::Toggle, 4096);
    let subject = Subject::new(&system);
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    assert_eq!(write(&subject.heap, subject.published, &[8; 500]), Ok(()));
    assert_eq!(system.runtime.is_executable(subject.published), Ok(true));
    // It fails twice: the block is not executable, and the registry says so.
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    assert_eq!(write(&subject.heap, subject.published, &[9; 500]), Err(Error::NoMemory));
    assert_eq!(system.runtime.protection_at(subject.published), Ok(Some(Protection::RW)));
    assert_eq!(system.runtime.is_executable(subject.fresh), Ok(true));
    subject.heap.publish(subject.published, 500).unwrap();
    assert_eq!(system.runtime.is_executable(subject.published), Ok(true));
    assert_eq!(system.fake.executed_elsewhere(subject.published as usize, 500), [9; 500]);
}

#[test]
fn a_later_write_makes_up_for_a_flip_that_failed_too() {
    let system = System::new(Policy::Toggle, 4096);
    let subject = Subject::new(&system);
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    assert_eq!(write(&subject.heap, subject.published, &[9; 500]), Err(Error::NoMemory));
    assert_eq!(write(&subject.heap, subject.published, &[8; 500]), Ok(()));
    assert_eq!(system.runtime.protection_at(subject.published), Ok(Some(Protection::RX)));
    assert_eq!(system.fake.protection(subject.published as usize), Some(Protection::RX));
}

#[test]
fn what_a_write_left_whose_flip_failed_is_gone_once_the_block_is_freed() {
    let system = System::new(Policy::Toggle, 4096);
    let subject = Subject::new(&system);
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    assert_eq!(write(&subject.heap, subject.fresh, &[9; 500]), Err(Error::NoMemory));
    subject.heap.free(subject.fresh).unwrap();
    assert_eq!(system.fake.protection(subject.fresh as usize), Some(Protection::RX));
    assert_eq!(system.fake.executed(subject.fresh as usize, 4), TRAP);
}

#[test]
fn a_patch_that_other_cores_can_not_be_told_of_is_taken_back() {
    let system = System::new(Policy::Dual, 4096);
    let subject = Subject::new(&system);
    system.fake.fail(Call::SynchronizeCores, 0, Error::Refused);
    assert_eq!(subject.heap.patch(subject.published + 8, 0), Err(Error::Refused));
    assert_eq!(system.raw(subject.published as usize, 500), [7; 500]);
    assert_eq!(system.fake.executed(subject.published as usize, 500), [7; 500]);
    assert_eq!(subject.heap.patch(subject.published + 8, 0), Ok(()));
    assert_eq!(system.raw(subject.published as usize, 24)[7..17], [7, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
}

#[test]
#[cfg_attr(miri, ignore = "a new system and half a megabyte of writes for each call")]
fn a_long_write_that_fails_has_written_nothing() {
    for policy in POLICIES {
        for nth in 0.. {
            let system = System::new(policy, 4096);
            let subject = Subject::new(&system);
            write(&subject.heap, subject.large, &[1; 100_000]).unwrap();
            let other = subject.heap.alloc(300_000).unwrap() as i64;
            system.fake.fail_any(nth, Error::NoMemory);
            let outcome = write(&subject.heap, other, &[2; 300_000]);
            let fired = system.fake.clear_faults();
            // Shows what was written to the other view.
            subject.heap.publish(other, 300_000).unwrap();
            let expected = if outcome.is_ok() { 2 } else { 0 };
            let bytes = system.raw(other as usize, 300_000);
            assert!(bytes.iter().all(|byte| *byte == expected), "{policy:?}, call {nth}: {outcome:?}");
            if fired == 0 {
                break;
            }
        }
    }
}

#[test]
fn a_block_that_was_never_written_is_published_and_freed_without_memory_or_permission() {
    System::each(|system| {
        let heap = system.runtime.code_heap();
        let block = heap.alloc(500).unwrap() as i64;
        system.fake.fail_always(Call::Request, Error::NoMemory);
        system.fake.fail_always(Call::Protect, Error::NoMemory);
        assert_eq!((heap.publish(block, 500), heap.free(block)), (Ok(()), Ok(())));
        system.fake.clear_faults();
    });
}
