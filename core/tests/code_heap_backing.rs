//! Write views get their memory before they are written to: a store to a page that the system has none for would
//! end the process. The platform can't see a store, so these tests look at what was asked for.

mod support;

use execmem_core::Limits;
use execmem_core::platform::PageRequest;
use execmem_core::{Error, Policy};
use execmem_fake::Call;
use std::collections::BTreeSet;
use std::ops::Range;
use support::{Heap, System, write_block};

const PAGE: usize = 4096;
/// Who writes page after page gets so many at once.
const AHEAD: usize = 16;

/// A heap, and the pages of write views that have memory.
struct Subject<'r> {
    system: &'r System,
    heap: Heap<'r>,
    backed: BTreeSet<usize>,
}

impl<'r> Subject<'r> {
    fn new(system: &'r System) -> Self {
        let heap = system.runtime.new_code_heap(Limits::DEFAULT).unwrap();
        Self { system, heap, backed: BTreeSet::new() }
    }

    /// Writes a whole block. How many pages that brought in.
    fn write(&mut self, block: usize, size: usize) -> usize {
        assert_eq!(write_block(&self.heap, block as i64, &vec![1; size]), Ok(size));
        let fresh = self.count();
        let view = self.heap.write_view(block as i64).unwrap();
        assert_eq!(self.count(), 0, "a view of what was written already");
        self.check(view..view + size);
        fresh
    }

    fn check(&self, view: Range<usize>) {
        for page in view.start / PAGE..view.end.div_ceil(PAGE) {
            assert!(self.backed.contains(&page), "{:#x} has no memory", page * PAGE);
        }
    }

    /// Notes what has memory now. How many pages have not had it before.
    fn count(&mut self) -> usize {
        let before = self.backed.len();
        for one in self.system.fake.take_requests() {
            if one.request == (PageRequest::Populate { for_write: true }) {
                self.backed.extend(one.start / PAGE..(one.start + one.length) / PAGE);
            }
        }
        self.backed.len() - before
    }
}

#[test]
#[cfg_attr(miri, ignore = "the platform has four megabytes then")]
fn every_page_of_a_block_has_memory_before_it_is_written() {
    let system = System::new(Policy::Dual, PAGE);
    let mut subject = Subject::new(&system);
    let large = (5 << 20) + 1;
    let sizes = [100, 5000, 60_000, 64, 4096, 12_345, 70_000, large];
    let blocks: Vec<(usize, usize)> =
        sizes.iter().map(|size| (subject.heap.alloc(*size as i64).unwrap(), *size)).collect();
    for (block, size) in blocks.into_iter().rev() {
        subject.write(block, size);
    }
}

#[test]
#[cfg_attr(miri, ignore = "the platform has four megabytes then")]
fn who_writes_here_and_there_gets_single_pages_and_who_writes_in_order_gets_more() {
    let system = System::new(Policy::Dual, PAGE);
    let mut subject = Subject::new(&system);
    let blocks: Vec<usize> = (0..200).map(|_| subject.heap.alloc(PAGE as i64).unwrap()).collect();
    for here_and_there in [5, 100, 60, 180] {
        assert_eq!(subject.write(blocks[here_and_there], PAGE), 1);
    }
    let calls = system.fake.count(Call::Request);
    for block in &blocks[110..142] {
        subject.write(*block, PAGE);
    }
    // One page, 16 and 16 more.
    assert_eq!(system.fake.count(Call::Request) - calls, 3);
    assert_eq!(subject.backed.len(), 4 + 1 + 2 * AHEAD);
}

#[test]
fn where_the_system_has_no_memory_nothing_is_written_and_later_it_is() {
    let system = System::new(Policy::Dual, PAGE);
    let mut subject = Subject::new(&system);
    let block = subject.heap.alloc(5000).unwrap();
    system.fake.fail(Call::Request, 0, Error::Io);
    assert_eq!(write_block(&subject.heap, block as i64, &[1; 5000]), Err(Error::NoMemory));
    system.fake.fail(Call::Request, 0, Error::Io);
    assert_eq!(subject.heap.write_view(block as i64), Err(Error::NoMemory));
    assert_eq!(subject.write(block, 5000), 2);
}

#[test]
fn a_new_chunk_has_no_memory_of_an_earlier_one() {
    let system = System::new(Policy::Dual, PAGE);
    for _ in 0..2 {
        let mut subject = Subject::new(&system);
        let block = subject.heap.alloc(5000).unwrap();
        assert_eq!(subject.write(block, 5000), 2);
    }
}
