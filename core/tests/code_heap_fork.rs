//! A forked child has its parent's functions, in memory of its own: as much of it as was ever written to.

mod support;

use execmem_core::code_heap::Limits;
use execmem_core::{Error, Policy};
use execmem_fake::Call;
use support::{Heap, System, write_block as write};

/// Makes this process the child.
fn fork(system: &System) {
    assert!(system.runtime.before_fork(), "there is memory to copy");
    // SAFETY: `before_fork` was called above; this thread plays the child's only one.
    unsafe { system.runtime.after_fork_in_child() };
}

/// Blocks that were written in full, one here, one there, and one that was not written at all.
fn blocks(heap: &Heap<'_>) -> Vec<(i64, usize, Option<u8>)> {
    let sizes = [100, 9000, 64, 20_000, 5000, 70_000, 3000];
    let mut blocks = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        let address = heap.alloc(size as i64).unwrap() as i64;
        let byte = (number != 3).then_some(number as u8 + 1);
        if let Some(byte) = byte {
            write(heap, address, &vec![byte; size]).unwrap();
            heap.publish(address, size as i64).unwrap();
        }
        blocks.push((address, size, byte));
    }
    blocks
}

#[test]
fn a_forked_child_has_every_function_and_goes_on_with_the_heap() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.new_code_heap(Limits { chunk_bytes: 128 << 10, ..Limits::DEFAULT }).unwrap();
    let blocks = blocks(&heap);
    fork(&system);
    for (address, size, byte) in &blocks {
        assert_eq!(heap.find(*address).map(|block| block.size), Some(*size));
        if let Some(byte) = byte {
            assert!(system.raw(*address as usize, *size).iter().all(|found| found == byte));
            assert_eq!(system.fake.executed(*address as usize, *size), vec![*byte; *size]);
        }
    }
    // In the same pages, in others, and in a chunk of its own.
    for (address, size, _) in blocks {
        write(&heap, address, &vec![99; size]).unwrap();
        heap.publish(address, size as i64).unwrap();
        assert_eq!(system.fake.executed(address as usize, size), vec![99; size]);
        heap.free(address).unwrap();
    }
    self::blocks(&heap);
    system.fake.verify();
}

#[test]
fn what_was_never_written_to_is_not_copied() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.new_code_heap(Limits { chunk_bytes: 128 << 10, ..Limits::DEFAULT }).unwrap();
    let addresses: Vec<i64> = (0..10).map(|_| heap.alloc(8000).unwrap() as i64).collect();
    for number in [2, 5, 8] {
        write(&heap, addresses[number], &[1; 8000]).unwrap();
    }
    fork(&system);
    let copied = system.fake.take_unshared();
    // Blocks of 8,000 bytes touch three pages at most.
    assert!((3 * 8000..=9 * 4096).contains(&copied), "{copied} bytes");
}

#[test]
fn a_child_without_memory_has_functions_that_it_can_neither_run_nor_write() {
    let system = System::new(Policy::Dual, 4096);
    let heap = system.runtime.new_code_heap(Limits { chunk_bytes: 128 << 10, ..Limits::DEFAULT }).unwrap();
    let address = heap.alloc(1000).unwrap() as i64;
    write(&heap, address, &[1; 1000]).unwrap();
    heap.publish(address, 1000).unwrap();
    system.fake.fail_always(Call::Unshare, Error::NoMemory);
    fork(&system);
    assert_eq!(system.runtime.is_executable(address), Ok(false));
    assert_eq!(write(&heap, address, &[2; 1000]), Err(Error::WrongProtection));
    assert_eq!(heap.write_view(address), Err(Error::WrongProtection));
    assert_eq!(heap.publish(address, 1000), Err(Error::WrongProtection));
    assert_eq!(heap.patch(address, 0), Err(Error::WrongProtection));
}
