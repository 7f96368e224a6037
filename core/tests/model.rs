//! Long random sequences of operations, against a model that is a list.

mod support;

use core::ffi::CStr;
use core::ops::Range;
use execmem_core::MapRequest;
use execmem_core::{Error, MapFlags, Policy, Protection, Statistics};
use execmem_fake::Fake;
use support::System;

/// Natively about a hundred thousand operations.
const ROUNDS: usize = if cfg!(miri) { 1 } else { 16 };
const STEPS: usize = if cfg!(miri) { 15 } else { 800 };

/// A check looks at every page.
const CHECK_EVERY: usize = 32;

/// xorshift64*: the same sequence every time, so that a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Data,
    Mapping,
}

struct Region {
    base: usize,
    size: usize,
    kind: Kind,
    pages: Vec<Protection>,
    bytes: Vec<u8>,
    /// Further views of the memory.
    views: usize,
}

struct Model {
    system: System,
    regions: Vec<Region>,
    random: Random,
}

const SIZES: [usize; 7] = [1, 100, 4095, 4096, 4097, 20_000, 40_000];
const PROTECTIONS: [Protection; 8] = [
    Protection::NONE,
    Protection::READ,
    Protection::RW,
    Protection::RX,
    Protection::EXEC,
    Protection::WRITE,
    Protection::RWX,
    Protection::WRITE.union(Protection::EXEC),
];
const FILE: &CStr = c"file";

impl Model {
    fn new(policy: Policy, page_size: usize, seed: u64) -> Self {
        // Small, so that addresses are used again and again.
        let system = System::on(Fake::with_arena(page_size, 4 << 20), policy);
        let contents: Vec<u8> = (0..50_000u32).map(|at| (at % 253) as u8).collect();
        system.fake.add_file(FILE, &contents);
        // So that the first allocation isn't special.
        let first = system.runtime.alloc_exec(1).unwrap();
        system.runtime.free_exec(first as i64, 1).unwrap();
        Self { system, regions: Vec::new(), random: Random(seed) }
    }

    fn step(&mut self) {
        match self.random.below(10) {
            0 | 1 if self.regions.len() < 24 => self.allocate(),
            2 => self.free(),
            3 | 4 => self.protect(),
            5..=7 => self.write(),
            8 => self.read(),
            _ => self.flush(),
        }
    }

    fn allocate(&mut self) {
        let size = SIZES[self.random.below(SIZES.len())];
        let (runtime, fake) = (&self.system.runtime, &self.system.fake);
        let is_dual = self.system.policy == Policy::Dual;
        let views = usize::from(is_dual);
        let (base, kind, protection, bytes, views) = match self.random.below(4) {
            0 => {
                let base = runtime.alloc_exec(size as i64).unwrap();
                (base, Kind::Code, self.system.code(), vec![0; size], views)
            }
            1 => {
                let target = fake.arena().0 as i64 + self.random.below(fake.arena().1) as i64;
                let base = runtime.alloc_exec_near(size as i64, target, 64 << 20).unwrap();
                (base, Kind::Code, self.system.code(), vec![0; size], views)
            }
            2 => (runtime.alloc_rw(size as i64).unwrap(), Kind::Data, Protection::RW, vec![0; size], views),
            _ => {
                let protection = if self.random.below(2) == 0 { Protection::READ } else { Protection::RW };
                let flags = MapFlags::PRIVATE;
                let length = size as i64;
                let request = MapRequest { path: Some(FILE), protection, flags, offset: 0, length };
                let (base, mapped) = runtime.map_file(request).unwrap();
                assert_eq!(mapped, size);
                (base, Kind::Mapping, protection, fake.file_contents(FILE)[..size].to_vec(), 0)
            }
        };
        let pages = vec![protection; size.div_ceil(self.system.page)];
        let end = base + pages.len() * self.system.page;
        let overlaps =
            |other: &&Region| base < other.base + other.pages.len() * self.system.page && other.base < end;
        assert!(self.regions.iter().find(overlaps).is_none(), "two live regions overlap");
        self.regions.push(Region { base, size, kind, pages, bytes, views });
    }

    /// A range that begins in a live region's pages, and may end behind them: index, offset, length.
    fn somewhere(&mut self) -> Option<(usize, i64, i64)> {
        if self.regions.is_empty() {
            return None;
        }
        let index = self.random.below(self.regions.len());
        let end = self.regions[index].pages.len() * self.system.page;
        let offset = self.random.below(end) as i64;
        let length = match self.random.below(3) {
            0 => 1 + self.random.below(32),
            1 => 1 + self.random.below(end + 64),
            _ => self.regions[index].size.saturating_sub(offset as usize).max(1),
        };
        Some((index, offset, length as i64))
    }

    fn free(&mut self) {
        let Some((index, offset, length)) = self.somewhere() else { return };
        let region = &self.regions[index];
        let (runtime, base, size) = (&self.system.runtime, region.base as i64, region.size as i64);
        let rounded = (region.pages.len() * self.system.page) as i64;
        let is_code = region.kind != Kind::Mapping;
        let release = |address, size| {
            if is_code { runtime.free_exec(address, size) } else { runtime.unmap(address, size) }
        };
        let other = |address, size| {
            if is_code { runtime.unmap(address, size) } else { runtime.free_exec(address, size) }
        };
        assert_eq!(other(base, size), Err(Error::NotOwned));
        if length != size && length != rounded {
            assert_eq!(release(base, length), Err(Error::WrongSize));
        }
        if offset > 0 {
            assert_eq!(release(base + offset, size), Err(Error::NotOwned));
        }
        let size = if is_code && self.random.below(2) == 0 { rounded } else { size };
        assert_eq!(release(base, size), Ok(()));
        assert_eq!(release(base, size), Err(Error::NotOwned));
        self.regions.swap_remove(index);
    }

    fn protect(&mut self) {
        let Some((index, offset, length)) = self.somewhere() else { return };
        let wanted = PROTECTIONS[self.random.below(PROTECTIONS.len())];
        let policy = self.system.policy;
        let page = self.system.page;
        let region = &mut self.regions[index];
        let result = self.system.runtime.set_protection(region.base as i64 + offset, length, wanted);
        let end = (offset + length) as usize;
        let expected = if wanted.is_writable_code() && policy != Policy::Rwx {
            Err(Error::Refused)
        } else if end > region.pages.len() * page {
            Err(Error::NotOwned)
        } else if policy == Policy::Jit && region.kind == Kind::Code && wanted != Protection::RX {
            Err(Error::Unsupported)
        } else if policy == Policy::Dual
            && region.kind == Kind::Mapping
            && wanted.contains(Protection::EXEC)
            && !region.pages[offset as usize / page..end.div_ceil(page)]
                .iter()
                .all(|page| page.contains(Protection::EXEC))
        {
            // The system of this policy refuses to add EXEC, and a file has no view of ours that has it.
            Err(Error::Refused)
        } else {
            Ok(())
        };
        assert_eq!(result, expected, "{wanted:?} for {:?}", region.pages);
        if result.is_ok() {
            region.pages[offset as usize / page..end.div_ceil(page)].fill(wanted);
            let is_code = region.kind == Kind::Code;
            if policy == Policy::Dual && is_code && !wanted.contains(Protection::EXEC) {
                region.views = 2;
            }
        }
    }

    fn write(&mut self) {
        let Some((index, mut offset, length)) = self.somewhere() else { return };
        let bytes = vec![self.random.next() as u8; length as usize];
        let page = self.system.page;
        if self.random.below(8) == 0 {
            // Into whatever is next to it, which is not the region that the address names.
            offset += (self.regions[index].pages.len() * page) as i64;
        }
        let region = &mut self.regions[index];
        // SAFETY: a vector is readable.
        let result = unsafe { self.system.runtime.write(region.base as i64, bytes.as_ptr(), length, offset) };
        let (start, end) = (offset as usize, (offset + length) as usize);
        if end > region.size {
            assert_eq!(result, Err(Error::NotOwned));
            return;
        }
        let touched = &region.pages[start / page..end.div_ceil(page)];
        let all = |flag| touched.iter().all(|page| page.intersects(flag));
        let can_be_reached = region.kind == Kind::Code
            && all(Protection::WRITE | Protection::EXEC)
            && self.system.policy != Policy::Rwx;
        if all(Protection::WRITE) || can_be_reached {
            assert_eq!(result, Ok(bytes.len()));
            region.bytes[start..end].copy_from_slice(&bytes);
        } else {
            assert_eq!(result, Err(Error::WrongProtection));
        }
    }

    fn read(&mut self) {
        let Some((index, offset, length)) = self.somewhere() else { return };
        let region = &self.regions[index];
        let (start, end) = (offset as usize, (offset + length) as usize);
        if end > region.size {
            return;
        }
        let page = self.system.page;
        self.settle(region, start / page..end.div_ceil(page));
        let is_readable =
            region.pages[start / page..end.div_ceil(page)].iter().all(|page| page.contains(Protection::READ));
        let expected =
            if is_readable { Ok(region.bytes[start..end].to_vec()) } else { Err(Error::WrongProtection) };
        assert!(self.system.read(region.base + start, length as usize) == expected);
    }

    /// Two views are two buffers here: a flush makes the executable one show what was written.
    fn settle(&self, region: &Region, pages: Range<usize>) {
        for at in pages {
            if region.pages[at].contains(Protection::READ) {
                let start = region.base + at * self.system.page;
                self.system.runtime.flush_icache(start as i64, self.system.page as i64).unwrap();
            }
        }
    }

    fn flush(&mut self) {
        let Some((index, offset, length)) = self.somewhere() else { return };
        let page = self.system.page;
        let region = &self.regions[index];
        let (start, end) = (offset as usize, (offset + length) as usize);
        let result = self.system.runtime.flush_icache((region.base + start) as i64, length);
        if end > region.pages.len() * page {
            assert_eq!(result, Err(Error::NotOwned));
            return;
        }
        let readable =
            region.pages[start / page..end.div_ceil(page)].iter().all(|page| page.contains(Protection::READ));
        assert_eq!(result, if readable { Ok(()) } else { Err(Error::WrongProtection) });
        let end = end.min(region.size);
        if readable && start < end {
            let expected = &region.bytes[start..end];
            assert!(self.system.fake.executed(region.base + start, end - start) == expected, "stale here");
            assert!(
                self.system.fake.executed_elsewhere(region.base + start, end - start) == expected,
                "stale on other cores"
            );
        }
    }

    /// Everything that can be asked agrees with the list.
    fn check(&self) {
        let runtime = &self.system.runtime;
        let page_size = self.system.page;
        let mut expected = Statistics { ..runtime.statistics() };
        (expected.regions, expected.requested_bytes, expected.mapped_bytes) = (0, 0, 0);
        (expected.regions_by_protection, expected.bytes_by_protection) = ([0; 8], [0; 8]);
        for region in &self.regions {
            if region.kind != Kind::Mapping {
                expected.regions += 1;
                expected.requested_bytes += region.size as i64;
            }
            expected.mapped_bytes += ((1 + region.views) * region.pages.len() * page_size) as i64;
            expected.regions_by_protection[region.pages[0].bits() as usize] += 1;
            for (at, page) in region.pages.iter().enumerate() {
                expected.bytes_by_protection[page.bits() as usize] += page_size as i64;
                let address = region.base + at * page_size;
                assert_eq!(runtime.protection_at(address as i64), Ok(Some(*page)));
                assert_eq!(runtime.protection_at((address + page_size - 1) as i64), Ok(Some(*page)));
                assert_eq!(self.system.fake.protection(address), Some(*page));
            }
        }
        assert_eq!(runtime.statistics(), expected);
        let mapped: usize = self.system.mapped().iter().map(|(_, length, _)| length).sum();
        assert_eq!(mapped as i64, expected.mapped_bytes, "what is mapped and what is counted");
        let violations = self.system.fake.take_violations();
        assert!(violations.is_empty(), "{violations:#?}");
    }

    fn finish(mut self) {
        while !self.regions.is_empty() {
            self.free();
        }
        self.check();
        assert_eq!(self.system.mapped(), []);
    }
}

fn agrees_with_a_plain_list(policy: Policy) {
    for round in 0..ROUNDS {
        for &page_size in support::PAGE_SIZES {
            let seed = 0x9e37_79b9_7f4a_7c15 ^ (round as u64) << 32 ^ (policy as u64) << 8 ^ page_size as u64;
            println!("round {round}, {page_size} bytes a page");
            let mut model = Model::new(policy, page_size, seed);
            for step in 0..STEPS {
                model.step();
                if step % CHECK_EVERY == 0 {
                    model.check();
                }
            }
            model.finish();
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "the policies that need more of the platform say it all")]
fn any_sequence_of_operations_agrees_with_a_plain_list_under_rwx() {
    agrees_with_a_plain_list(Policy::Rwx);
}

#[test]
fn any_sequence_of_operations_agrees_with_a_plain_list_under_dual() {
    agrees_with_a_plain_list(Policy::Dual);
}

#[test]
#[cfg_attr(miri, ignore = "the policies that need more of the platform say it all")]
fn any_sequence_of_operations_agrees_with_a_plain_list_under_toggle() {
    agrees_with_a_plain_list(Policy::Toggle);
}

#[test]
fn any_sequence_of_operations_agrees_with_a_plain_list_under_jit() {
    agrees_with_a_plain_list(Policy::Jit);
}
