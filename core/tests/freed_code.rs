//! Code at addresses where other code was before, which other cores may still have fetched.

mod support;

use execmem_core::Limits;
use execmem_core::{Error, Policy};
use execmem_fake::Call;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{Heap, System, write_block};

const SIZE: usize = 8;

/// Where code comes from: a region of its own, or a heap whose only chunk comes and goes with it.
#[derive(Clone, Copy, Debug)]
enum Source {
    Region,
    Heap,
}

const PAIRS: [(Source, Source); 4] = [
    (Source::Region, Source::Region),
    (Source::Region, Source::Heap),
    (Source::Heap, Source::Region),
    (Source::Heap, Source::Heap),
];

struct Code<'r> {
    address: usize,
    heap: Option<Heap<'r>>,
}

impl<'r> Code<'r> {
    /// Fresh memory, for code of at most a page.
    fn alloc(system: &'r System, source: Source) -> Self {
        match source {
            Source::Region => {
                Self { address: system.runtime.alloc_exec(system.page as i64).unwrap(), heap: None }
            }
            Source::Heap => {
                let limits = Limits { bytes: system.page, chunk_bytes: system.page, ..Limits::DEFAULT };
                let heap = system.runtime.new_code_heap(limits).unwrap();
                Self { address: heap.alloc(system.page as i64).unwrap(), heap: Some(heap) }
            }
        }
    }

    fn publish(&self, system: &System, byte: u8) -> Result<(), Error> {
        let (address, code) = (self.address as i64, [byte; SIZE]);
        match &self.heap {
            Some(heap) => {
                write_block(heap, address, &code)?;
                heap.publish(address, SIZE as i64)
            }
            None => {
                system.write(self.address, &code)?;
                system.runtime.flush_icache(address, SIZE as i64)
            }
        }
    }

    fn free(self, system: &System) {
        if self.heap.is_none() {
            system.runtime.free_exec(self.address as i64, system.page as i64).unwrap();
        }
    }
}

#[test]
fn code_that_is_added_to_a_region_interrupts_no_other_core() {
    System::each(|system| {
        let address = system.runtime.alloc_exec(10 * SIZE as i64).unwrap();
        for number in 0..10 {
            // From the middle upwards, then below: each beside what was published before.
            let place = address + SIZE * (number + 5) % (10 * SIZE);
            system.publish(place, &[number as u8; SIZE]);
            assert_eq!(system.fake.executed_elsewhere(place, SIZE), [number as u8; SIZE]);
        }
        // Once for what wraps around: it lies between the first byte that was published and the last one.
        assert!(system.fake.count(Call::SynchronizeCores) <= 5);
        let before = system.fake.count(Call::SynchronizeCores);
        system.publish(address, &[99; SIZE]);
        assert_eq!(system.fake.executed_elsewhere(address, SIZE), [99; SIZE]);
        assert_eq!(system.fake.count(Call::SynchronizeCores), before + 1, "this one was there before");
    });
}

#[test]
fn a_program_of_one_thread_has_no_other_core_to_interrupt() {
    System::each(|system| {
        system.fake.switch(|switches| switches.is_alone = true);
        let data = system.runtime.alloc_rw(SIZE as i64).unwrap();
        let heap = system.runtime.code_heap();
        let block = heap.alloc(SIZE as i64).unwrap() as i64;
        let code = system.runtime.alloc_exec(SIZE as i64).unwrap();
        for byte in 1..10 {
            // As a JIT compiler does for each function that it adds to its area.
            system.poke(data, &[byte; SIZE]);
            system.runtime.make_executable(data as i64, SIZE as i64).unwrap();
            system.publish(code, &[byte; SIZE]);
            write_block(&heap, block, &[byte; SIZE]).unwrap();
            heap.publish(block, SIZE as i64).unwrap();
            for address in [data, code, block as usize] {
                assert_eq!(system.fake.executed(address, SIZE), [byte; SIZE]);
                assert_eq!(system.fake.executed_elsewhere(address, SIZE), [byte; SIZE]);
            }
            system.runtime.make_writable(data as i64, SIZE as i64).unwrap();
        }
        assert_eq!(system.fake.count(Call::SynchronizeCores), 0);
        // It counts when somebody else is there to have fetched.
        system.fake.switch(|switches| switches.is_alone = false);
        system.publish(code, &[77; SIZE]);
        assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
        assert_eq!(system.fake.executed_elsewhere(code, SIZE), [77; SIZE]);
    });
}

#[test]
fn new_code_where_freed_code_was_interrupts_other_cores_once() {
    for (before, after) in PAIRS {
        System::each(|system| {
            let old = Code::alloc(&system, before);
            old.publish(&system, 1).unwrap();
            old.free(&system);
            assert_eq!(system.fake.count(Call::SynchronizeCores), 0);
            // Whether the system gives out the old address again is its matter: the next publication pays.
            for _ in 0..3 {
                let new = Code::alloc(&system, after);
                new.publish(&system, 2).unwrap();
                assert_eq!(system.fake.executed_elsewhere(new.address, SIZE), [2; SIZE]);
                assert_eq!(system.fake.count(Call::SynchronizeCores), 1, "{before:?}, {after:?}");
                core::mem::forget(new);
            }
        });
    }
}

#[test]
fn memory_that_never_was_code_interrupts_nobody_when_it_is_freed() {
    for source in [Source::Region, Source::Heap] {
        System::each(|system| {
            Code::alloc(&system, source).free(&system);
            let new = Code::alloc(&system, source);
            new.publish(&system, 1).unwrap();
            assert_eq!(system.fake.count(Call::SynchronizeCores), 0);
        });
    }
}

#[test]
fn a_step_that_failed_is_made_up_for() {
    for (before, after) in PAIRS {
        let system = System::new(Policy::Dual, 4096);
        let old = Code::alloc(&system, before);
        old.publish(&system, 1).unwrap();
        old.free(&system);
        let new = Code::alloc(&system, after);
        system.fake.fail(Call::SynchronizeCores, 0, Error::Refused);
        assert_eq!(new.publish(&system, 2), Err(Error::Refused));
        new.publish(&system, 2).unwrap();
        assert_eq!(system.fake.executed_elsewhere(new.address, SIZE), [2; SIZE]);
    }
}

#[test]
fn whoever_publishes_while_code_is_being_unmapped_interrupts_other_cores() {
    let system = std::sync::Arc::new(System::new(Policy::Dual, 4096));
    let old = Code::alloc(&system, Source::Region);
    old.publish(&system, 1).unwrap();
    let others = [(); 2].map(|()| Code::alloc(&system, Source::Region).address);
    let observed = system.clone();
    system.fake.observe(move |event| {
        if event.call == Call::Unmap {
            // Neither was published before, but either may be where the old code is already gone.
            others.iter().for_each(|other| observed.publish(*other, &[3; SIZE]));
        }
    });
    old.free(&system);
    system.fake.stop_observing();
    // The region has two views.
    assert_eq!(system.fake.count(Call::SynchronizeCores), 4);
}

#[test]
fn a_step_that_ends_before_the_pages_are_gone_does_not_count() {
    for (before, after) in PAIRS {
        let system = std::sync::Arc::new(System::new(Policy::Dual, 4096));
        let old = Code::alloc(&system, before);
        old.publish(&system, 1).unwrap();
        // Until the pages are unmapped a core may fetch from them again, whatever it dropped before.
        let other = Code::alloc(&system, Source::Region).address;
        let observed = system.clone();
        let left = std::sync::atomic::AtomicUsize::new(1);
        system.fake.observe(move |event| {
            use std::sync::atomic::Ordering::Relaxed;
            let is_unmap = event.call == Call::Unmap;
            if is_unmap && left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                observed.publish(other, &[3; SIZE]);
            }
        });
        old.free(&system);
        system.fake.stop_observing();
        assert_eq!(system.fake.count(Call::SynchronizeCores), 1, "{before:?}, {after:?}");
        let new = Code::alloc(&system, after);
        new.publish(&system, 2).unwrap();
        assert_eq!(system.fake.count(Call::SynchronizeCores), 2, "{before:?}, {after:?}");
        core::mem::forget(new);
    }
}

#[test]
fn of_two_that_publish_the_same_bytes_of_a_region_at_once_the_later_one_tells_other_cores() {
    let system = Arc::new(System::new(Policy::Dual, 4096));
    let address = system.runtime.alloc_exec(SIZE as i64).unwrap();
    system.write(address, &[1; SIZE]).unwrap();
    let (other, is_first) = (system.clone(), AtomicBool::new(true));
    system.fake.observe(move |event| {
        if event.call == Call::FlushIcache && is_first.swap(false, Ordering::Relaxed) {
            other.runtime.flush_icache(address as i64, SIZE as i64).unwrap();
            other.fake.executed_elsewhere(address, SIZE);
        }
    });
    system.runtime.flush_icache(address as i64, SIZE as i64).unwrap();
    assert_eq!(system.fake.count(Call::SynchronizeCores), 1);
    system.fake.stop_observing();
}
