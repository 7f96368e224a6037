//! Random operations beside a plain reference: a map from start to size and contents.

mod support;

use execmem_core::icache::TRAP;
use execmem_core::{Block, CodeHeap, Limits};
use execmem_core::{Error, Policy};
use execmem_fake::FakePlatform;
use std::collections::BTreeMap;
use support::System;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// Mostly small, seldom up to 1 KiB, very seldom larger than a chunk's share.
    fn size(&mut self) -> usize {
        match self.below(1000) {
            0 => 1 + self.below(200_000),
            1..=10 => 1 + self.below(20_000),
            11..300 => 1 + self.below(1024),
            _ => 1 + self.below(200),
        }
    }
}

struct Known {
    size: usize,
    /// What was asked for at first: of more than 64 KiB nothing goes back before the end.
    allocated: usize,
    /// What was written and published last.
    contents: Option<u8>,
}

struct Model<'r> {
    system: &'r System,
    heap: CodeHeap<'r, FakePlatform>,
    blocks: BTreeMap<usize, Known>,
    starts: Vec<usize>,
    random: Random,
    refusals: usize,
}

impl<'r> Model<'r> {
    fn new(system: &'r System, limits: Limits, seed: u64) -> Self {
        let heap = system.runtime.new_code_heap(limits).unwrap();
        Self { system, heap, blocks: BTreeMap::new(), starts: Vec::new(), random: Random(seed), refusals: 0 }
    }

    fn alloc(&mut self) {
        let size = self.random.size();
        match self.heap.alloc(size as i64) {
            Ok(start) => {
                assert_eq!(start % 64, 0);
                let before = self.blocks.range(..start + size).next_back();
                assert!(
                    before.is_none_or(|(other, known)| other + known.size <= start),
                    "{start:#x} overlaps the block at {:#x}",
                    before.unwrap().0
                );
                self.blocks.insert(start, Known { size, allocated: size, contents: None });
                self.starts.push(start);
            }
            Err(error) => {
                assert_eq!(error, Error::OverLimit);
                self.refusals += 1;
            }
        }
    }

    fn pick(&mut self) -> Option<usize> {
        (!self.starts.is_empty()).then(|| self.random.below(self.starts.len()))
    }

    fn publish(&mut self) {
        let Some(index) = self.pick() else { return };
        let start = self.starts[index];
        let byte = self.random.below(256) as u8;
        let known = self.blocks.get_mut(&start).unwrap();
        let bytes = vec![byte; known.size];
        // SAFETY: the vector is readable.
        let written = unsafe { self.heap.write(start as i64, bytes.as_ptr(), bytes.len() as i64, 0) };
        assert_eq!(written, Ok(known.size));
        self.heap.publish(start as i64, known.size as i64).unwrap();
        known.contents = Some(byte);
    }

    fn check_contents(&self, start: usize) {
        let known = &self.blocks[&start];
        if let Some(byte) = known.contents {
            let ends = [start, start + known.size - 1];
            for at in ends {
                assert_eq!(self.system.fake.executed_elsewhere(at, 1), [byte], "{at:#x}");
            }
            assert!(self.system.raw(start, known.size).iter().all(|found| *found == byte), "{start:#x}");
        }
    }

    fn shrink(&mut self) {
        let Some(index) = self.pick() else { return };
        let start = self.starts[index];
        let before = self.blocks[&start].size;
        let size = 1 + self.random.below(before);
        self.heap.shrink(start as i64, size as i64).unwrap();
        let known = self.blocks.get_mut(&start).unwrap();
        known.size = size;
        let granule = if self.system.policy == Policy::Toggle { self.system.page } else { 64 };
        let kept = size.next_multiple_of(granule);
        if known.contents.is_some() && known.allocated <= 64 << 10 && kept < before {
            let is_trap = |word: &[u8]| word == TRAP;
            let tail = self.system.raw(start + kept, (before - kept) & !3);
            assert!(tail.chunks(4).all(is_trap), "no traps behind {start:#x}");
        }
        self.check_contents(start);
        assert_eq!(self.heap.shrink(start as i64, size as i64 + 1), Err(Error::InvalidArgument));
    }

    fn free(&mut self) {
        let Some(index) = self.pick() else { return };
        let start = self.starts.swap_remove(index);
        self.check_contents(start);
        let known = self.blocks.remove(&start).unwrap();
        self.heap.free(start as i64).unwrap();
        // A chunk that was empty may be gone; what is left of it is filled.
        if known.contents.is_some() && self.system.fake.protection(start).is_some() {
            let traps: Vec<u8> = TRAP.iter().copied().cycle().take(known.size).collect();
            assert!(self.system.raw(start, known.size) == traps, "no traps at {start:#x}");
        }
        assert_eq!(self.heap.free(start as i64), Err(Error::NotOwned));
    }

    fn look(&mut self) {
        let Some(index) = self.pick() else { return };
        let start = self.starts[index];
        let at = start + self.random.below(self.blocks[&start].size + 100);
        let holder = self.blocks.range(..=at).next_back();
        let expected = holder
            .filter(|(start, known)| at - *start < known.size)
            .map(|(start, known)| Block { address: *start, size: known.size });
        assert_eq!(self.heap.find(at as i64), expected, "{at:#x}");
        assert_eq!(self.system.runtime.is_executable(at as i64), Ok(expected.is_some()));
        if at != start && !self.blocks.contains_key(&at) {
            assert_eq!(self.heap.free(at as i64), Err(Error::NotOwned));
        }
    }

    /// Runs so many operations; the mix drifts, so that the heap fills up and runs empty.
    fn run(&mut self, operations: usize) {
        for step in 0..operations {
            let filling = (step / (operations / 20).max(1)).is_multiple_of(2);
            match self.random.below(100) {
                0..35 if filling => self.alloc(),
                0..25 => self.alloc(),
                35..60 => self.free(),
                60..70 => self.publish(),
                70..75 => self.shrink(),
                _ => self.look(),
            }
        }
        let statistics = self.system.runtime.statistics();
        assert_eq!(statistics.code_blocks as usize, self.blocks.len());
        let bytes: usize = self.blocks.values().map(|known| known.size).sum();
        assert_eq!(statistics.code_bytes as usize, bytes);
        for start in &self.starts {
            self.check_contents(*start);
        }
        while !self.starts.is_empty() {
            self.free();
        }
        // A shard keeps one. Under Miri a thread's stack is not in one place, and its calls prefer different shards.
        let kept = if cfg!(miri) { 0..=8 } else { 1..=1 };
        assert!(kept.contains(&self.system.runtime.statistics().code_chunks));
    }
}

const SMALL: Limits = Limits { bytes: 1 << 20, chunk_bytes: 64 << 10, ..Limits::DEFAULT };

#[test]
fn a_million_random_operations_agree_with_a_plain_reference() {
    let operations = if cfg!(miri) { 50 } else { 1_000_000 };
    let system = System::new(Policy::Dual, 4096);
    let mut model = Model::new(&system, SMALL, 0x9e37_79b9_7f4a_7c15);
    model.run(operations);
    assert!(cfg!(miri) || model.refusals > 0, "the limit was never reached");
}

#[test]
fn random_operations_agree_with_a_plain_reference_under_every_policy() {
    let operations = if cfg!(miri) { 20 } else { 20_000 };
    System::each(|system| Model::new(&system, SMALL, 0x2545_f491_4f6c_dd1d).run(operations));
}

#[test]
fn chunks_of_every_length_agree_with_a_plain_reference() {
    let operations = if cfg!(miri) { 10 } else { 20_000 };
    for (seed, chunk_bytes) in
        [1, 4096, 12 << 10, 100 << 10, 1 << 20, 2 << 20, 1 << 30].into_iter().enumerate()
    {
        let system = System::new(Policy::Dual, 4096);
        let limits = Limits { bytes: 3 << 20, chunk_bytes, ..Limits::DEFAULT };
        Model::new(&system, limits, 0x1234_5678_9abc_def1 + seed as u64).run(operations);
    }
}
