//! Blocks that are published where others were freed, by threads of which each sees the other cores' caches: what is
//! published is what every core executes.
//!
//! fault "what was freed counts as never fetched" in code_heap/shard.rs
//! - chunk.reuse_step.load(Ordering::Relaxed) <= request.freed_code.finished()
//! + chunk.reuse_step.load(Ordering::Relaxed) <= u64::MAX
//!
//! fault "a later step is not noted" in code_heap/shard.rs
//! - chunk.reuse_step.store(request.freed_code.next_step(), Ordering::Relaxed)
//! + chunk.reuse_step.store(request.freed_code.finished(), Ordering::Relaxed)

use execmem_core::{Limits, Policy, Runtime};
use execmem_fake::Fake;
use shuttle::thread;
use std::sync::Arc;

#[test]
fn what_is_published_is_what_every_core_executes() {
    shuttle::check_random(
        || {
            let fake = Fake::with_arena(4096, 4 << 20);
            let platform = fake.platform();
            let runtime = Arc::new(Runtime::new(platform));
            runtime.set_policy(Policy::Dual).unwrap();
            let heap = move |runtime: &Runtime<_>| {
                let heap = runtime
                    .new_code_heap(Limits { bytes: 1 << 20, chunk_bytes: 4096, ..Limits::DEFAULT })
                    .unwrap();
                for round in 0..6 {
                    let byte = 1 + round as u8;
                    let block = heap.alloc(2048).unwrap() as i64;
                    // SAFETY: an array is readable.
                    unsafe { heap.write(block, [byte; 2048].as_ptr(), 2048, 0) }.unwrap();
                    heap.publish(block, 2048).unwrap();
                    assert_eq!(platform.executed_elsewhere(block as usize, 2048), [byte; 2048]);
                    assert_eq!(heap.find(block + 2047).map(|found| found.address as i64), Some(block));
                    heap.free(block).unwrap();
                }
            };
            let other = runtime.clone();
            let other = thread::spawn(move || heap(&other));
            heap(&runtime);
            other.join().unwrap();
        },
        100,
    );
}
