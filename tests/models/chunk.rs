//! A chunk's record: lookups beside blocks that end and begin, and beside the record's next generation.
//!
//! fault "a generation begins Relaxed" in code_heap/chunk.rs
//! - self.generation.store(self.generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release)
//! + self.generation.store(self.generation.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed)
//!
//! fault "a generation ends without a fence" in code_heap/chunk.rs
//! - fence(Ordering::Release)
//! + ()
//!
//! fault "a lookup has no fence" in code_heap/chunk.rs
//! - fence(Ordering::Acquire)
//! + ()
//!
//! fault "a lookup reads the generation Relaxed" in code_heap/chunk.rs
//! - self.generation.load(Ordering::Acquire)
//! + self.generation.load(Ordering::Relaxed)
//!
//! fault "the generation is not looked at again" in code_heap/chunk.rs
//! - self.generation.load(Ordering::Relaxed) == generation
//! + true
//!
//! fault "the start bit is not looked at again" in code_heap/blocks.rs
//! - self.starts.is_set(start).then_some((start, size))
//! + Some((start, size))
//!
//! fault "a size is stored Relaxed" in code_heap/blocks.rs
//! - entry.store(size.wrapping_sub(1) as u16, Ordering::Release)
//! + entry.store(size.wrapping_sub(1) as u16, Ordering::Relaxed)
//!
//! fault "a size is read Relaxed" in code_heap/blocks.rs
//! - size.load(Ordering::Acquire)
//! + size.load(Ordering::Relaxed)

extern crate std;

use super::blocks::{Block, GRANULE_BITS};
use super::chunk::Chunk;
use crate::memory::Arrays;
use crate::sync::explore;
use core::ptr::NonNull;
use std::boxed::Box;

const GRANULES: usize = 64;
const FIRST: usize = 0x10_0000;
const LATER: usize = 0x20_0000;
const LENGTH: usize = GRANULES << GRANULE_BITS;

/// The memory of a record and its tables, which is the same in each execution.
#[derive(Clone, Copy)]
struct Memory {
    chunk: *mut Chunk,
    tables: *mut [u64; 512],
}

// SAFETY: loom's threads are one thread.
unsafe impl Send for Memory {}
// SAFETY: loom's threads are one thread.
unsafe impl Sync for Memory {}

impl Memory {
    fn new() -> Self {
        Self { chunk: Box::into_raw(Box::default()), tables: Box::into_raw(Box::new([0; 512])) }
    }

    /// A chunk of the record's second generation, with a block of ten bytes at its start.
    fn start(self) -> &'static Chunk {
        // SAFETY: the last execution is over.
        unsafe { self.tables.write([0; 512]) };
        let tables = NonNull::new(self.tables).unwrap().cast();
        // SAFETY: zeroed, leaked, and as long.
        let mut arrays = unsafe { Arrays::over(tables, size_of::<[u64; 512]>()) };
        // SAFETY: the last execution is over, and nothing is moved.
        let chunk = unsafe {
            self.chunk.write(Chunk::lay_out(0, &mut arrays, GRANULES));
            &*self.chunk
        };
        chunk.begin(LATER..LATER + LENGTH, GRANULE_BITS, 1, 0);
        chunk.blocks.start(0, 5);
        chunk.blocks.end(0);
        chunk.retire();
        chunk.forget();
        chunk.begin(FIRST..FIRST + LENGTH, GRANULE_BITS, 1, 0);
        chunk.blocks.start(0, 10);
        chunk.put_to_use();
        assert_eq!(chunk.find(FIRST + 5), Some(Block { address: FIRST, size: 10 }));
        chunk
    }
}

/// The record's next generation, with a block of another length.
fn begin_again(chunk: &Chunk) {
    chunk.retire();
    chunk.forget();
    chunk.begin(LATER..LATER + LENGTH, GRANULE_BITS, 2, 0);
    chunk.blocks.start(0, 20);
    chunk.put_to_use();
}

// Who changes the record is a model's first thread, for the reason that `page_map.rs` gives.

#[test]
fn a_lookup_never_mixes_two_generations_of_a_record() {
    for address in [FIRST + 5, LATER + 5] {
        let memory = Memory::new();
        explore(2, move || {
            let chunk = memory.start();
            let reader = loom::thread::spawn(move || {
                let found = chunk.find(address);
                let expected = if address < LATER { (FIRST, 10) } else { (LATER, 20) };
                let is_it = |block: Block| (block.address, block.size) == expected;
                assert!(found.is_none_or(is_it), "{found:x?} never was");
            });
            begin_again(chunk);
            reader.join().unwrap();
            assert_eq!(chunk.find(LATER + 5), Some(Block { address: LATER, size: 20 }));
        });
    }
}

#[test]
fn who_holds_the_shards_lock_finds_blocks_of_that_shard_only() {
    let memory = Memory::new();
    explore(2, move || {
        let chunk = memory.start();
        let reader = loom::thread::spawn(move || {
            // Of the next generation it would have to be another shard's.
            let found = chunk.find_in(1, FIRST + 5);
            assert!(found.is_none_or(|block| block.size == 10), "{found:x?} is of another generation");
            assert_eq!(chunk.find_in(1, LATER + 5), None);
        });
        begin_again(chunk);
        reader.join().unwrap();
    });
}

#[test]
fn a_block_that_is_found_has_begun() {
    let memory = Memory::new();
    explore(3, move || {
        let chunk = memory.start();
        let reader = loom::thread::spawn(move || {
            let sizes = [(); 2].map(|()| chunk.find(FIRST + 5).map(|block| block.size));
            // It stays: who has found it finds it again.
            assert!(sizes[0] != Some(20) || sizes[1] == Some(20), "{sizes:?}");
        });
        chunk.blocks.end(0);
        chunk.blocks.start(0, 20);
        reader.join().unwrap();
    });
}
