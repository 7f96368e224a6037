//! A system, and a list of what should be in it.

use crate::Choices;
use core::ops::Range;
use execmem_core::{CodeHeap, Error, Limits, MapFlags, MapRequest, Policy, Protection, Runtime};
use execmem_fake::{Fake, FakePlatform};
use std::cell::Cell;

const POLICIES: [Policy; 4] = [Policy::Dual, Policy::Toggle, Policy::Rwx, Policy::Jit];
const PAGE: usize = 4096;
const SIZES: [usize; 8] = [1, 100, 4095, 4096, 4097, 9000, 20_000, 70_000];
const MOST: usize = 12;
/// After so many inputs.
const LOOK_EVERYWHERE: usize = 64;
const FILE: &core::ffi::CStr = c"file";
type Result<T> = core::result::Result<T, Error>;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Data,
    Mapping,
}

struct Region {
    base: usize,
    kind: Kind,
    pages: Vec<Protection>,
    bytes: Vec<u8>,
}

struct Block {
    address: usize,
    /// `None`: whatever was there.
    bytes: Vec<Option<u8>>,
    is_published: bool,
}

pub struct World {
    policy: Policy,
    fake: &'static Fake,
    runtime: &'static Runtime<FakePlatform>,
    heap: &'static CodeHeap<'static, FakePlatform>,
    regions: Vec<Region>,
    blocks: Vec<Block>,
    /// Whether calls of the system were told to fail in this step.
    may_fail: bool,
}

type System = (&'static Fake, &'static Runtime<FakePlatform>, &'static CodeHeap<'static, FakePlatform>);

thread_local! {
    static FINISHED: Cell<usize> = const { Cell::new(0) };
    static SYSTEMS: [Cell<Option<System>>; 4] = const { [const { Cell::new(None) }; 4] };
}

fn system(policy: Policy) -> System {
    let fake: &'static Fake = Box::leak(Box::new(Fake::with_arena(PAGE, 32 << 20)));
    fake.grant_only(policy);
    fake.add_file(FILE, &[7; 50_000]);
    let runtime: &'static Runtime<_> = Box::leak(Box::new(Runtime::new(fake.platform())));
    runtime.set_policy(policy).unwrap();
    let heap = runtime.new_code_heap(Limits { chunk_bytes: 16 * PAGE, ..Limits::DEFAULT }).unwrap();
    (fake, runtime, Box::leak(Box::new(heap)))
}

impl World {
    pub fn of(which: usize) -> Self {
        let policy = POLICIES[which];
        let known = SYSTEMS.with(|systems| systems[which].get());
        let (fake, runtime, heap) = known.unwrap_or_else(|| system(policy));
        SYSTEMS.with(|systems| systems[which].set(Some((fake, runtime, heap))));
        Self { policy, fake, runtime, heap, regions: Vec::new(), blocks: Vec::new(), may_fail: false }
    }

    pub fn step(&mut self, choices: &mut Choices<'_>) {
        self.may_fail = choices.below(4) == 0;
        if self.may_fail {
            let nth = choices.below(6);
            match choices.below(3) {
                0 => self.fake.fail_halfway(nth, Error::NoMemory),
                _ => self.fake.fail_any(nth, Error::NoMemory),
            }
        }
        match choices.below(16) {
            0..=2 if self.regions.len() < MOST => self.allocate(choices),
            3 => self.free(choices),
            4 => self.protect(choices),
            5 | 6 => self.write(choices),
            7 => self.read(choices),
            8 | 9 if self.blocks.len() < 4 * MOST => self.allocate_block(choices),
            10 => self.free_block(choices),
            11 | 12 => self.write_block(choices),
            13 => self.shrink_block(choices),
            14 => self.find(choices),
            _ => self.fork(choices),
        }
        self.fake.clear_faults();
    }

    /// What a call gave that should have succeeded or failed so. If a call of the system failed in it, it may also have
    /// failed by that, and has done nothing then: later looks tell.
    fn agree<T>(&self, result: Result<T>, expected: Result<()>) -> Option<T> {
        let has_failed = self.fake.clear_faults() > 0;
        match (&result, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(other)) if *error == other => {}
            (Err(_), _) if has_failed => {}
            (Err(error), expected) => panic!("{error:?}, not {expected:?}"),
            (Ok(_), expected) => panic!("it succeeded: {expected:?}"),
        }
        result.ok()
    }

    fn allocate(&mut self, choices: &mut Choices<'_>) {
        let size = SIZES[choices.below(SIZES.len())];
        let code = if self.policy == Policy::Rwx { Protection::RWX } else { Protection::RX };
        let (result, kind, protection, byte) = match choices.below(4) {
            0 => (self.runtime.alloc_exec(size as i64), Kind::Code, code, 0),
            1 => {
                let (start, length) = self.fake.arena();
                let target = (start + choices.below(length)) as i64;
                (self.runtime.alloc_exec_near(size as i64, target, 1 << 30), Kind::Code, code, 0)
            }
            2 => (self.runtime.alloc_rw(size as i64), Kind::Data, Protection::RW, 0),
            _ => {
                let (length, flags) = (size.min(50_000) as i64, MapFlags::PRIVATE);
                let protection = [Protection::READ, Protection::RW][choices.below(2)];
                let request = MapRequest { path: Some(FILE), protection, flags, offset: 0, length };
                (self.runtime.map_file(request).map(|(base, _)| base), Kind::Mapping, protection, 7)
            }
        };
        let Some(base) = self.agree(result, Ok(())) else { return };
        let size = if kind == Kind::Mapping { size.min(50_000) } else { size };
        let pages = vec![protection; size.div_ceil(PAGE)];
        let region = Region { base, kind, pages, bytes: vec![byte; size] };
        let ours = region.pages();
        let overlaps = |other: Range<usize>| other.start < ours.end && ours.start < other.end;
        assert!(!self.regions.iter().any(|other| overlaps(other.pages())), "two regions overlap");
        self.regions.push(region);
    }

    /// A region, and bytes that begin in its pages and may end behind them.
    fn somewhere(&self, choices: &mut Choices<'_>) -> Option<(usize, usize, usize)> {
        let index = choices.below(self.regions.len().max(1));
        let region = self.regions.get(index)?;
        let length = region.pages.len() * PAGE;
        let offset = choices.below(length);
        let size = match choices.below(3) {
            0 => 1 + choices.below(32),
            1 => 1 + choices.below(length + 64),
            _ => region.bytes.len().saturating_sub(offset).max(1),
        };
        Some((index, offset, size))
    }

    fn free(&mut self, choices: &mut Choices<'_>) {
        let Some((index, offset, size)) = self.somewhere(choices) else { return };
        let region = &self.regions[index];
        let is_mapping = region.kind == Kind::Mapping;
        let release = |address: usize, size: usize| match is_mapping {
            true => self.runtime.unmap(address as i64, size as i64),
            false => self.runtime.free_exec(address as i64, size as i64),
        };
        let rounded = region.pages.len() * PAGE;
        let (address, size) = match choices.below(3) {
            0 => (region.base + offset, size),
            1 => (region.base, rounded),
            _ => (region.base, region.bytes.len()),
        };
        let has_size = size == region.bytes.len() || size == rounded && !is_mapping;
        let expected = match address == region.base {
            true if has_size => Ok(()),
            true => Err(Error::WrongSize),
            false => Err(Error::NotOwned),
        };
        if self.agree(release(address, size), expected).is_some() {
            let region = self.regions.swap_remove(index);
            assert_eq!(self.runtime.mapping_size(region.base as i64), Err(Error::NotOwned));
        }
    }

    fn protect(&mut self, choices: &mut Choices<'_>) {
        let Some((index, offset, size)) = self.somewhere(choices) else { return };
        let wanted = Protection::from_bits_truncate(choices.below(8) as u8);
        let region = &self.regions[index];
        let end = offset + size;
        let is_inside = end <= region.pages.len() * PAGE;
        let pages = offset / PAGE..end.div_ceil(PAGE);
        let gains = is_inside
            && wanted.contains(Protection::EXEC)
            && !region.pages[pages.clone()].iter().all(|page| page.contains(Protection::EXEC));
        let expected = if wanted.is_writable_code() && self.policy != Policy::Rwx {
            Err(Error::Refused)
        } else if !is_inside {
            Err(Error::NotOwned)
        } else if self.policy == Policy::Jit && region.kind == Kind::Code && wanted != Protection::RX {
            Err(Error::Unsupported)
        } else if self.policy == Policy::Dual && region.kind == Kind::Mapping && gains {
            Err(Error::Refused)
        } else {
            Ok(())
        };
        let result = self.runtime.set_protection((region.base + offset) as i64, size as i64, wanted);
        if self.agree(result, expected).is_some() {
            self.regions[index].pages[pages].fill(wanted);
        }
    }

    fn write(&mut self, choices: &mut Choices<'_>) {
        let Some((index, offset, size)) = self.somewhere(choices) else { return };
        let bytes = vec![choices.below(256) as u8; size];
        let region = &self.regions[index];
        let end = offset + size;
        let expected = if end > region.bytes.len() {
            Err(Error::NotOwned)
        } else {
            let touched = &region.pages[offset / PAGE..end.div_ceil(PAGE)];
            let all = |flags| touched.iter().all(|page| page.intersects(flags));
            let is_code = region.kind == Kind::Code && self.policy != Policy::Rwx;
            let can = all(Protection::WRITE) || is_code && all(Protection::WRITE | Protection::EXEC);
            if can { Ok(()) } else { Err(Error::WrongProtection) }
        };
        let (base, length) = (region.base as i64, size as i64);
        // SAFETY: a vector is readable.
        let result = unsafe { self.runtime.write(base, bytes.as_ptr(), length, offset as i64) };
        if self.agree(result, expected).is_some() {
            self.regions[index].bytes[offset..end].copy_from_slice(&bytes);
        }
    }

    fn read(&mut self, choices: &mut Choices<'_>) {
        let Some((index, offset, size)) = self.somewhere(choices) else { return };
        let region = &self.regions[index];
        let pages = offset / PAGE..(offset + size).div_ceil(PAGE).min(region.pages.len());
        let is_readable = region.pages[pages].iter().all(|page| page.contains(Protection::READ));
        let expected = match offset + size <= region.bytes.len() {
            false => Err(Error::NotOwned),
            true if !is_readable => Err(Error::WrongProtection),
            true => Ok(()),
        };
        // Two views are two buffers of the fake: a flush makes the executable one show what was written.
        if expected.is_ok() && self.runtime.flush_icache((region.base + offset) as i64, size as i64).is_err()
        {
            assert!(self.fake.clear_faults() > 0);
            return;
        }
        let mut bytes = vec![0; size];
        let (base, at) = (region.base as i64, offset as i64);
        // SAFETY: the vector has so many bytes.
        let result = unsafe { self.runtime.read_into(base, at, bytes.as_mut_ptr(), size as i64) };
        if self.agree(result, expected).is_some() {
            assert!(bytes == region.bytes[offset..offset + size], "other bytes are read");
        }
    }

    fn allocate_block(&mut self, choices: &mut Choices<'_>) {
        let size = [1, 64, 65, 200, 1000, 5000, 66_000][choices.below(7)];
        let Some(address) = self.agree(self.heap.alloc(size as i64), Ok(())) else { return };
        let overlaps =
            |block: &Block| block.address < address + size && address < block.address + block.bytes.len();
        assert!(!self.blocks.iter().any(overlaps), "two blocks overlap");
        self.blocks.push(Block { address, bytes: vec![None; size], is_published: false });
    }

    /// A live block; or an address beside one, where it is none's start.
    fn block(&self, choices: &mut Choices<'_>) -> Option<(usize, usize, Result<()>)> {
        let index = choices.below(self.blocks.len().max(1));
        let block = self.blocks.get(index)?;
        match choices.below(8) {
            0 if block.bytes.len() > 1 => Some((index, block.address + 1, Err(Error::NotOwned))),
            _ => Some((index, block.address, Ok(()))),
        }
    }

    fn free_block(&mut self, choices: &mut Choices<'_>) {
        let Some((index, address, expected)) = self.block(choices) else { return };
        if self.agree(self.heap.free(address as i64), expected).is_some() {
            self.blocks.swap_remove(index);
            assert_eq!(self.heap.find(address as i64), None);
        }
    }

    fn shrink_block(&mut self, choices: &mut Choices<'_>) {
        let Some((index, address, expected)) = self.block(choices) else { return };
        let length = self.blocks[index].bytes.len();
        let size = 1 + choices.below(length + 8);
        let expected = expected.and(if size <= length { Ok(()) } else { Err(Error::InvalidArgument) });
        if self.agree(self.heap.shrink(address as i64, size as i64), expected).is_some() {
            self.blocks[index].bytes.truncate(size);
        }
    }

    fn write_block(&mut self, choices: &mut Choices<'_>) {
        let index = choices.below(self.blocks.len().max(1));
        let Some(block) = self.blocks.get_mut(index) else { return };
        let (address, length) = (block.address as i64, block.bytes.len());
        let offset = choices.below(length);
        let byte = choices.below(256) as u8;
        let size = 1 + choices.below(length - offset + 1);
        let bytes = vec![byte; size];
        let expected = if offset + size <= length { Ok(()) } else { Err(Error::NotOwned) };
        // SAFETY: a vector is readable.
        let result = unsafe { self.heap.write(address, bytes.as_ptr(), size as i64, offset as i64) };
        if self.agree(result, expected).is_none() {
            return;
        }
        self.blocks[index].bytes[offset..offset + size].fill(Some(byte));
        self.blocks[index].is_published = false;
        let published = self.heap.publish(address, length as i64);
        self.blocks[index].is_published = self.agree(published, Ok(())).is_some();
    }

    fn find(&self, choices: &mut Choices<'_>) {
        let (start, length) = self.fake.arena();
        let address = match self.blocks.get(choices.below(self.blocks.len().max(1))) {
            Some(block) if choices.below(2) == 0 => block.address + choices.below(block.bytes.len() + 64),
            _ => start + choices.below(length),
        };
        let holds = |block: &&Block| (block.address..block.address + block.bytes.len()).contains(&address);
        let expected = self.blocks.iter().find(holds).map(|block| (block.address, block.bytes.len()));
        let found = self.heap.find(address as i64).map(|block| (block.address, block.size));
        assert_eq!(found, expected);
    }

    /// Goes on as a child, or as the parent of one.
    fn fork(&mut self, choices: &mut Choices<'_>) {
        self.fake.clear_faults();
        assert!(self.runtime.before_fork());
        // SAFETY: `before_fork` said yes. This thread plays the child's only one, or is the parent's.
        unsafe {
            match choices.below(2) {
                0 => self.runtime.after_fork_in_child(),
                _ => self.runtime.after_fork_in_parent(),
            }
        }
    }

    fn check(&self) {
        let figures = self.runtime.statistics();
        let is_exec = |region: &&Region| region.kind != Kind::Mapping;
        assert_eq!(figures.regions, self.regions.iter().filter(is_exec).count() as i64);
        assert_eq!(figures.code_blocks, self.blocks.len() as i64);
        for region in &self.regions {
            for (at, page) in region.pages.iter().enumerate() {
                let address = region.base + at * PAGE;
                assert_eq!(self.runtime.protection_at(address as i64), Ok(Some(*page)));
                assert_eq!(self.fake.protection(address), Some(*page), "the system has another protection");
            }
        }
        for block in self.blocks.iter().filter(|block| block.is_published) {
            let executed = self.fake.executed_elsewhere(block.address, block.bytes.len());
            let is_it = |(found, wanted): (&u8, &Option<u8>)| wanted.is_none_or(|wanted| wanted == *found);
            assert!(executed.iter().zip(&block.bytes).all(is_it), "other cores execute other bytes");
        }
    }

    /// All is as it should be, and goes.
    pub fn finish(mut self) {
        self.check();
        for block in self.blocks.drain(..) {
            self.heap.free(block.address as i64).unwrap();
        }
        for region in self.regions.drain(..) {
            let (base, size) = (region.base as i64, region.bytes.len() as i64);
            match region.kind {
                Kind::Mapping => self.runtime.unmap(base, size).unwrap(),
                _ => self.runtime.free_exec(base, size).unwrap(),
            }
        }
        self.check();
        // They are millions in a run.
        self.fake.take_flushes();
        self.fake.take_requests();
        self.fake.take_text();
        // It looks at every page that is not mapped, too.
        let finished = FINISHED.get() + 1;
        FINISHED.set(finished);
        if finished.is_multiple_of(LOOK_EVERYWHERE) {
            let violations = self.fake.take_violations();
            assert!(violations.is_empty(), "{violations:#?}");
        }
    }
}

impl Region {
    fn pages(&self) -> Range<usize> {
        self.base..self.base + self.pages.len() * PAGE
    }
}
