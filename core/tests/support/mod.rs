//! What the tests share: systems to run on, and what a moment of one looks like.
#![allow(dead_code, reason = "no test file uses all of it")]

use execmem_core::CodeHeap;
use execmem_core::RtValue;
use execmem_core::Statistics;
use execmem_core::abi::calls;
use execmem_core::platform::PageRequest;
use execmem_core::{Error, Policy, Protection, Runtime};
use execmem_fake::{Fake, FakePlatform, Request};

#[cfg(not(miri))]
pub const POLICIES: [Policy; 4] = [Policy::Rwx, Policy::Dual, Policy::Toggle, Policy::Jit];
/// Miri takes seconds for a system, and sees little new in larger pages, or in policies that need less.
#[cfg(miri)]
pub const POLICIES: [Policy; 1] = [Policy::Dual];
pub const PAGE_SIZES: &[usize] = if cfg!(miri) { &[4096] } else { &[4096, 16384] };

/// The registry and the value store take their own memory in multiples of this. No test asks for as much.
pub const POOL: usize = 64 << 10;

/// A platform and a runtime on it.
pub struct System {
    pub runtime: Runtime<FakePlatform>,
    pub fake: Fake,
    pub policy: Policy,
    pub page: usize,
}

impl System {
    /// A system on which nothing but `policy` works, where the platform can see to that.
    pub fn new(policy: Policy, page_size: usize) -> Self {
        Self::on(Fake::with_page_size(page_size), policy)
    }

    /// The same, on a platform of the caller's.
    pub fn on(fake: Fake, policy: Policy) -> Self {
        fake.grant_only(policy);
        let runtime = Runtime::new(fake.platform());
        runtime.set_policy(policy).unwrap();
        Self { page: runtime.page_size(), runtime, fake, policy }
    }

    /// Runs a test under each policy with each page size.
    pub fn each(test: impl Fn(System)) {
        for policy in POLICIES {
            for &page_size in PAGE_SIZES {
                let system = Self::new(policy, page_size);
                println!("policy {}, {page_size} bytes a page", policy.name());
                test(system);
            }
        }
    }

    /// Code memory's protection under the policy.
    pub fn code(&self) -> Protection {
        if self.policy == Policy::Rwx { Protection::RWX } else { Protection::RX }
    }

    pub fn write(&self, address: usize, bytes: &[u8]) -> Result<usize, Error> {
        // SAFETY: a slice is readable.
        unsafe { self.runtime.write(address as i64, bytes.as_ptr(), bytes.len() as i64, 0) }
    }

    pub fn read(&self, address: usize, length: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; length];
        // SAFETY: the vector has so many bytes.
        unsafe { self.runtime.read_into(address as i64, 0, bytes.as_mut_ptr(), length as i64) }?;
        Ok(bytes)
    }

    /// Writes code and flushes it.
    pub fn publish(&self, address: usize, bytes: &[u8]) {
        assert_eq!(self.write(address, bytes), Ok(bytes.len()));
        self.runtime.flush_icache(address as i64, bytes.len() as i64).unwrap();
    }

    /// The bytes of a value of the built-in store.
    pub fn value(&self, value: RtValue) -> Vec<u8> {
        // SAFETY: the store lends the bytes until the value is freed.
        unsafe {
            let data = calls::rt_value_data(&self.runtime, value).unwrap();
            let length = calls::rt_value_len(&self.runtime, value).unwrap();
            std::slice::from_raw_parts(data, length as usize).to_vec()
        }
    }

    /// The text of a string value.
    pub fn text(&self, value: RtValue) -> String {
        String::from_utf8(self.value(value)).unwrap()
    }

    /// What is mapped for regions: everything but the core's own records.
    pub fn mapped(&self) -> Vec<(usize, usize, Protection)> {
        let is_pool = |length: usize, protection| protection == Protection::RW && length.is_multiple_of(POOL);
        let mut areas = self.fake.areas();
        areas.retain(|(_, length, protection)| !is_pool(*length, *protection));
        areas
    }

    /// All that a failing call must not change.
    pub fn moment(&self) -> Moment {
        let regions = self.mapped();
        self.fake.take_text();
        // The dump walks all of the page map: under Miri that takes most of the time.
        if !cfg!(miri) {
            self.runtime.dump();
        }
        let known = regions.iter().map(|(start, ..)| self.runtime.protection_at(*start as i64).unwrap());
        Moment {
            statistics: Statistics { peak_mapped_bytes: 0, ..self.runtime.statistics() },
            dump: self.fake.take_text(),
            known: known.collect(),
            bytes: regions.iter().map(|(start, length, _)| self.raw(*start, *length)).collect(),
            regions,
        }
    }

    /// The bytes at an address, whoever has them.
    pub fn raw(&self, start: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        // SAFETY: the platform's memory is always there.
        unsafe {
            core::ptr::copy_nonoverlapping(
                core::ptr::with_exposed_provenance(start),
                bytes.as_mut_ptr(),
                length,
            );
        }
        bytes
    }

    /// Stores without asking anybody, as a program with a pointer does.
    pub fn poke(&self, start: usize, bytes: &[u8]) {
        // SAFETY: the platform's memory is always there.
        unsafe {
            core::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                core::ptr::with_exposed_provenance_mut(start),
                bytes.len(),
            );
        }
    }
}

/// A code heap of a test.
pub type Heap<'r> = CodeHeap<'r, FakePlatform>;

/// Writes to a block of a heap.
pub fn write_block(heap: &Heap<'_>, address: i64, bytes: &[u8]) -> Result<usize, Error> {
    // SAFETY: a slice is readable.
    unsafe { heap.write(address, bytes.as_ptr(), bytes.len() as i64, 0) }
}

/// A written and published block.
pub fn code_block(heap: &Heap<'_>, bytes: &[u8]) -> i64 {
    let address = heap.alloc(bytes.len() as i64).unwrap() as i64;
    assert_eq!(write_block(heap, address, bytes), Ok(bytes.len()));
    heap.publish(address, bytes.len() as i64).unwrap();
    address
}

/// What callers can see of a system, and what it has mapped.
#[derive(Clone, PartialEq, Debug)]
pub struct Moment {
    pub statistics: Statistics,
    pub dump: String,
    pub regions: Vec<(usize, usize, Protection)>,
    pub known: Vec<Option<Protection>>,
    pub bytes: Vec<Vec<u8>>,
}

impl Moment {
    /// The parts that are not the same any more.
    pub fn differences(&self, later: &Self) -> impl Iterator<Item = &'static str> {
        [
            ("the mappings differ", self.regions == later.regions),
            ("the protection that is known differs", self.known == later.known),
            ("the statistics differ", self.statistics == later.statistics),
            ("the dump differs", self.dump == later.dump),
            ("the bytes differ", self.bytes == later.bytes),
        ]
        .into_iter()
        .filter_map(|(part, is_same)| (!is_same).then_some(part))
    }
}

/// Goes on as a forked child.
pub fn fork_as_child(system: &System) {
    assert!(system.runtime.before_fork());
    system.fake.lose_withheld_pages();
    // SAFETY: `before_fork` was called above; this thread plays the child's only one.
    unsafe { system.runtime.after_fork_in_child() };
}

/// Goes on as the parent of one.
pub fn fork_as_parent(system: &System) {
    assert!(system.runtime.before_fork());
    // SAFETY: `before_fork` was called above.
    unsafe { system.runtime.after_fork_in_parent() };
}

/// How many bytes were brought in to be written since the last time: those of copies.
pub fn copied(system: &System) -> usize {
    let for_write = |request: &Request| request.request == PageRequest::Populate { for_write: true };
    system.fake.take_requests().into_iter().filter(for_write).map(|request| request.length).sum()
}
