//! Every call that the heap makes fails once, at every place: nothing has changed that a caller can see,
//! and a retry succeeds.

mod support;

use execmem_core::code_heap::{CodeHeap, Limits};
use execmem_core::{Error, Policy};
use execmem_fake::{Call, FakePlatform};
use support::{POLICIES, System};

const LIMITS: Limits = Limits { bytes: usize::MAX, chunk_bytes: 64 << 10 };

type Heap<'r> = CodeHeap<'r, FakePlatform>;

fn write(heap: &Heap<'_>, address: i64, bytes: &[u8]) -> Result<(), Error> {
    // SAFETY: a slice is readable.
    unsafe { heap.write(address, bytes.as_ptr(), bytes.len() as i64, 0) }.map(drop)
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
    ("free", |subject| subject.heap.free(subject.fresh)),
    ("free of code", |subject| subject.heap.free(subject.published)),
    ("free of a chunk of its own", |subject| subject.heap.free(subject.large)),
];

#[test]
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
                    operation(&subject).unwrap_or_else(|error| panic!("{name}, after call {nth}: {error}"));
                    failures += 1;
                }
                // Whatever failed, the other blocks are as they were, and everything goes back at the end.
                let stays = [subject.published, subject.fresh, subject.large];
                let freed = name.starts_with("free");
                assert!(freed || stays.iter().all(|block| subject.heap.find(*block).is_some()));
                if !freed && !name.contains("write") {
                    assert_eq!(system.raw(subject.published as usize, 500), [7; 500], "{name}, call {nth}");
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
fn a_system_without_memory_is_told_apart_from_a_limit_and_the_heap_goes_on_afterwards() {
    for policy in POLICIES {
        let system = System::new(policy, 4096);
        let subject = Subject::new(&system);
        system.fake.fail_always(Call::Map, Error::NoMemory);
        let mut blocks = Vec::new();
        let refusal = loop {
            match subject.heap.alloc(4000) {
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
fn a_flip_that_stops_half_way_is_reported_and_made_up_for() {
    let system = System::new(Policy::Toggle, 4096);
    let subject = Subject::new(&system);
    // The flip back fails: the block is not executable, and the registry says so.
    system.fake.fail(Call::Protect, 1, Error::NoMemory);
    assert_eq!(write(&subject.heap, subject.published, &[8; 500]), Err(Error::NoMemory));
    assert_eq!(system.runtime.is_executable(subject.published), Ok(false));
    assert_eq!(system.runtime.is_executable(subject.fresh), Ok(true));
    subject.heap.publish(subject.published, 500).unwrap();
    assert_eq!(system.runtime.is_executable(subject.published), Ok(true));
    assert_eq!(system.fake.executed_elsewhere(subject.published as usize, 500), [8; 500]);
}
