//! After a fork, memory with two views is copied by its first writer, while others write there and blocks beside it are
//! freed.
//!
//! fault "a region is copied while others write" in space/separation.rs
//! - access != Access::Exclusive
//! + access != access
//!
//! fault "a region that was copied stays marked" in space/separation.rs
//! - claim.record_own()
//! + ()
//!
//! fault "a chunk that was copied stays marked" in code_heap/store.rs
//! - chunk.backing.is_in_common.store(space.is_forking(), Ordering::Relaxed)
//! + ()

use execmem_core::{CodeHeap, Limits, Policy, Runtime};
use execmem_fake::{Call, Fake, FakePlatform};
use shuttle::thread;

const ROUNDS: usize = 300;
/// A copy of memory with two views moves two views.
const MOVES: usize = 2;

struct System {
    runtime: Runtime<FakePlatform>,
    fake: Fake,
}

impl System {
    fn new() -> Self {
        let fake = Fake::with_arena(4096, 4 << 20);
        fake.switch(|switches| switches.refuse_exec_gain = true);
        let runtime = Runtime::new(fake.platform());
        runtime.set_policy(Policy::Dual).unwrap();
        Self { runtime, fake }
    }

    /// Writes and publishes eight bytes of a region.
    fn write(&self, address: i64, byte: u8) {
        // SAFETY: an array is readable.
        unsafe { self.runtime.write(address, [byte; 8].as_ptr(), 8, 0) }.unwrap();
        self.runtime.flush_icache(address, 8).unwrap();
    }

    fn fork(&self) {
        assert!(self.runtime.before_fork());
        // SAFETY: `before_fork` said yes, to this thread.
        unsafe { self.runtime.after_fork_in_child() };
    }

    fn executes(&self, address: i64, byte: u8) {
        assert_eq!(self.fake.executed(address as usize, 8), [byte; 8]);
    }
}

/// Writes and publishes eight bytes of a block.
fn write(heap: &CodeHeap<'_, FakePlatform>, block: i64, byte: u8) {
    // SAFETY: an array is readable.
    unsafe { heap.write(block, [byte; 8].as_ptr(), 8, 0) }.unwrap();
    heap.publish(block, 8).unwrap();
}

#[test]
fn what_several_threads_write_to_a_region_after_a_fork_is_in_its_one_copy() {
    let run = || {
        let system = System::new();
        let region = system.runtime.alloc_exec(8192).unwrap() as i64;
        let places = [region, region + 2048, region + 6000];
        places.iter().for_each(|place| system.write(*place, 1));
        system.fork();
        thread::scope(|scope| {
            for place in &places[1..] {
                scope.spawn(|| system.write(*place, 2));
            }
        });
        places.iter().zip([1, 2, 2]).for_each(|(place, byte)| system.executes(*place, byte));
        assert_eq!(system.fake.count(Call::MoveOnto), MOVES, "one copy");
    };
    shuttle::check_random(run, ROUNDS);
}

#[test]
fn what_several_threads_write_to_a_chunk_after_a_fork_is_in_its_one_copy() {
    let run = || {
        let system = System::new();
        let limits = Limits { chunk_bytes: 64 << 10, ..Limits::DEFAULT };
        let heap = system.runtime.new_code_heap(limits).unwrap();
        let blocks = [(); 4].map(|()| heap.alloc(8).unwrap() as i64);
        blocks.iter().for_each(|block| write(&heap, *block, 1));
        system.fork();
        thread::scope(|scope| {
            for block in &blocks[1..3] {
                scope.spawn(|| write(&heap, *block, 2));
            }
            heap.free(blocks[3]).unwrap();
        });
        blocks.iter().zip([1, 2, 2]).for_each(|(block, byte)| system.executes(*block, byte));
        assert_eq!(system.fake.count(Call::MoveOnto), MOVES, "one copy");
        assert_eq!(heap.find(blocks[3]), None);
    };
    shuttle::check_random(run, ROUNDS);
}
