//! Page tables for a kernel that has none of its own: itself at equal virtual and physical addresses, and
//! the library's addresses with all their leaf tables built from the start.
//!
//! Leaf tables that exist already make every later change one store to a descriptor: no table has to be
//! allocated, and no block split, while cores use them. A descriptor is 0 for an unmapped page. A page
//! without access keeps its frame and [`TAKEN`], but loses VALID.

use crate::tables::{PAGE_SIZE, PageTables};
use aarch64_paging::descriptor::{El1Attributes as Attributes, PhysicalAddress};
use aarch64_paging::paging::{
    Constraints, El1And0, MemoryRegion, PageTable, RootTable, Translation, VaRange,
};
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use execmem_core::platform::Mapping;
use execmem_core::{Error, Protection};

/// Tables start at level 1: 39 bits of address, as aarch64-rt's DEFAULT_TCR says.
const ROOT_LEVEL: usize = 1;
const LEAF_LEVEL: usize = 3;
/// Addresses from here up are not covered.
const ADDRESS_END: usize = 1 << 39;
/// So many bits of an address lie behind those that choose a descriptor at a level.
const fn offset_bits(level: usize) -> usize {
    PAGE_SIZE.ilog2() as usize + 9 * (LEAF_LEVEL - level)
}
/// Bytes that one descriptor at a level stands for.
const fn reach(level: usize) -> usize {
    1 << offset_bits(level)
}

/// A bit that the hardware leaves to software: the page is mapped, if perhaps without any access.
const TAKEN: Attributes = Attributes::SWFLAG_0;
/// Attribute index 1 of aarch64-rt's DEFAULT_MAIR: write-back memory. Never executable at EL0.
const MEMORY: Attributes = Attributes::ATTRIBUTE_INDEX_1
    .union(Attributes::INNER_SHAREABLE)
    .union(Attributes::ACCESSED)
    .union(Attributes::UXN);
/// Attribute index 0: device memory.
const DEVICE: Attributes =
    Attributes::VALID.union(Attributes::ACCESSED).union(Attributes::UXN).union(Attributes::PXN);
/// The address in a descriptor: bits 47 to 12.
const FRAME: usize = 0x0000_ffff_ffff_f000;

/// What a part of the kernel's own memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Registers of devices: read-write.
    Device,
    /// The kernel's code: read-execute.
    Code,
    /// Constants: read-only.
    Constants,
    /// Everything else: read-write.
    Data,
}

impl Usage {
    fn attributes(self) -> Attributes {
        match self {
            Self::Device => DEVICE,
            Self::Code => MEMORY | allowing(Protection::RX),
            Self::Constants => MEMORY | allowing(Protection::READ),
            Self::Data => MEMORY | allowing(Protection::RW),
        }
    }
}

/// The descriptor bits for a protection. EL1 has no pages that can be executed or written but not read.
fn allowing(protection: Protection) -> Attributes {
    let mut attributes = Attributes::empty();
    attributes.set(Attributes::VALID, !protection.is_empty());
    attributes.set(Attributes::READ_ONLY, !protection.contains(Protection::WRITE));
    attributes.set(Attributes::PXN, !protection.contains(Protection::EXEC));
    attributes
}

/// What a descriptor at a level allows, if something is mapped there.
fn allowed(descriptor: usize, level: usize) -> Option<Protection> {
    let attributes = Attributes::from_bits_retain(descriptor);
    if !attributes.contains(Attributes::VALID) {
        let taken = level == LEAF_LEVEL && attributes.contains(TAKEN);
        return taken.then_some(Protection::NONE);
    }
    let mut protection = Protection::READ;
    protection.set(Protection::WRITE, !attributes.contains(Attributes::READ_ONLY));
    // WXN: what can be written is never executed.
    let no_exec = attributes.contains(Attributes::PXN) || protection.contains(Protection::WRITE);
    protection.set(Protection::EXEC, !no_exec);
    Some(protection)
}

/// Memory for tables, handed out in order.
struct TableMemory {
    next: usize,
    end: usize,
}

impl Translation<Attributes> for TableMemory {
    fn allocate_table(&mut self) -> (NonNull<PageTable<Attributes>>, PhysicalAddress) {
        // `tables_for` counted before the first table was made, and none is made later.
        assert!(self.next < self.end, "more page tables than were counted");
        let table = self.next;
        self.next += PAGE_SIZE;
        let pointer = ptr::with_exposed_provenance_mut::<PageTable<Attributes>>(table);
        // SAFETY: `build`'s caller says that the memory can be written and that nobody else uses it; each page of it is
        // given out once. Zeroes are empty descriptors.
        unsafe { pointer.write_bytes(0, 1) };
        (NonNull::new(pointer).expect("address 0 holds no page table"), PhysicalAddress(table))
    }

    /// Tables stay: only unmapping whole tables through `map_range` frees any, which is never done.
    unsafe fn deallocate_table(&mut self, _table: NonNull<PageTable<Attributes>>) {}

    fn physical_to_virtual(&self, table: PhysicalAddress) -> NonNull<PageTable<Attributes>> {
        let pointer = ptr::with_exposed_provenance_mut(table.0);
        NonNull::new(pointer).expect("address 0 holds no page table")
    }
}

/// How many tables below the root, which descriptors of levels 1 and 2 lead to, a range touches at most, if
/// `most` are needed at each level.
fn tables_for(range: &Range<usize>, most: usize) -> usize {
    let spanned = |level| ((range.end - 1) >> offset_bits(level)) - (range.start >> offset_bits(level)) + 1;
    spanned(1).min(most) + spanned(2).min(most)
}

/// Page tables with the kernel at equal virtual and physical addresses, and pages for the library.
/// They belong in a `static`: [`build`](Self::build) them once, then [`enter`](Self::enter) them on each core.
///
/// They are made for a kernel at exception level 1 with aarch64-rt's settings: 4 KiB pages, 39 bits of
/// address in TTBR0, device memory at attribute index 0 and write-back memory at index 1 of MAIR.
pub struct IdentityTables {
    /// The root table's address; 0: there are no tables yet.
    root: AtomicUsize,
    landing_pads: AtomicBool,
}

impl IdentityTables {
    /// Tables that are yet to be built.
    #[expect(clippy::new_without_default, reason = "it exists in a static")]
    pub const fn new() -> Self {
        Self { root: AtomicUsize::new(0), landing_pads: AtomicBool::new(false) }
    }

    /// Builds the tables in the front of `memory`, and returns what they left of it. `kernel` lists what the
    /// kernel needs of its own memory and devices; later entries win. `addresses` is for the library.
    ///
    /// *Invalid argument*: a range that is empty, not page-aligned or beyond 512 GiB. *No memory*: the tables
    /// don't fit. *Refused*: the tables were built before.
    ///
    /// # Safety
    /// The front of `memory` can be written at its own address, and nobody else uses any of it. The list has
    /// all that the kernel uses. Nobody else is in this method.
    pub unsafe fn build(
        &self,
        kernel: &[(Range<usize>, Usage)],
        addresses: Range<usize>,
        memory: Range<usize>,
    ) -> Result<Range<usize>, Error> {
        // The ends of a range need two tables at each level; only in `addresses` all of them are needed.
        let of_kernel = kernel.iter().map(|(range, _)| (range, 2));
        let mut count = 1;
        for (range, most) in of_kernel.chain([(&memory, 2), (&addresses, usize::MAX)]) {
            let Range { start, end } = *range;
            if start >= end || end > ADDRESS_END || start % PAGE_SIZE != 0 || end % PAGE_SIZE != 0 {
                return Err(Error::InvalidArgument);
            }
            count += tables_for(range, most);
        }
        let end = memory.start + count * PAGE_SIZE;
        if end > memory.end {
            return Err(Error::NoMemory);
        }
        if self.root.load(Ordering::Acquire) != 0 {
            return Err(Error::Refused);
        }
        let tables = TableMemory { next: memory.start, end };
        // Not dropped, which would free the tables: they stay.
        let mut root =
            ManuallyDrop::new(RootTable::with_va_range(tables, ROOT_LEVEL, El1And0, VaRange::Lower));
        let mut map = |range: &Range<usize>, attributes, constraints| {
            let region = MemoryRegion::new(range.start, range.end);
            let mapped = root.map_range(&region, PhysicalAddress(range.start), attributes, constraints);
            // All addresses are covered: there is no other reason.
            mapped.map_err(|_| Error::InvalidArgument)
        };
        for (range, usage) in kernel {
            map(range, usage.attributes(), Constraints::empty())?;
        }
        map(&(memory.start..end), Usage::Data.attributes(), Constraints::empty())?;
        map(&addresses, Attributes::empty(), Constraints::NO_BLOCK_MAPPINGS)?;
        self.root.store(root.to_physical().0, Ordering::Release);
        Ok(root.translation().next..memory.end)
    }

    /// Whether code in pages that are mapped from now on must begin with landing pads (`bti c`) wherever it
    /// is called indirectly. Processors without FEAT_BTI don't look.
    pub fn set_landing_pads(&self, required: bool) {
        self.landing_pads.store(required, Ordering::Relaxed);
    }

    /// Lets this core use the tables, with WXN on: no page that can be written is executed.
    ///
    /// *Unsupported*: the core is not at exception level 1, or its registers are not as these tables need
    /// them. *Not found*: the tables are yet to be built.
    ///
    /// # Safety
    /// The tables have everything that this core uses.
    #[cfg(target_os = "none")]
    pub unsafe fn enter(&self) -> Result<(), Error> {
        use aarch64_cpu::asm::barrier;
        use aarch64_cpu::registers::*;
        let root = self.root.load(Ordering::Acquire);
        if root == 0 {
            return Err(Error::NotFound);
        }
        let has_39_bits = TCR_EL1.read(TCR_EL1::T0SZ) == 64 - 39;
        let has_4k_pages = TCR_EL1.matches_all(TCR_EL1::TG0::KiB_4);
        // Index 0: one of the device memories; index 1: write-back, allocating on reads and writes.
        let has_memory_types = MAIR_EL1.get() & 0xfff0 == 0xff00;
        if CurrentEL.read(CurrentEL::EL) != 1 || !has_39_bits || !has_4k_pages || !has_memory_types {
            return Err(Error::Unsupported);
        }
        // The tables are written before the core walks them.
        barrier::dsb(barrier::ISHST);
        TTBR0_EL1.set(root as u64);
        SCTLR_EL1.modify(SCTLR_EL1::WXN::Enable);
        barrier::isb(barrier::SY);
        // WXN, and what the former tables said, may be in the TLB.
        // SAFETY: the instructions change no memory and no general register: the core looks at its tables again, of
        // which the caller says that they have all that it uses.
        unsafe { core::arch::asm!("tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
        Ok(())
    }

    /// The descriptor that decides about an address below [`ADDRESS_END`], and its level: what the
    /// hardware would find.
    fn descriptor(&self, address: usize) -> (usize, usize) {
        self.entry(address).map_or((0, ROOT_LEVEL), |(entry, level)| (entry.load(Ordering::Acquire), level))
    }

    /// Where that descriptor is, if there are tables.
    fn entry(&self, address: usize) -> Option<(&AtomicUsize, usize)> {
        let mut table = self.root.load(Ordering::Acquire);
        if table == 0 {
            return None;
        }
        let mut level = ROOT_LEVEL;
        loop {
            let index = address >> offset_bits(level) & 511;
            let entry = ptr::with_exposed_provenance::<AtomicUsize>(table).wrapping_add(index);
            // SAFETY: `build` made the table, and a valid descriptor above leads to it; tables are never freed, and all
            // their users see entries as atomic numbers.
            let entry = unsafe { &*entry };
            let descriptor = entry.load(Ordering::Acquire);
            let attributes = Attributes::from_bits_retain(descriptor);
            if level == LEAF_LEVEL || !attributes.contains(Attributes::VALID | Attributes::TABLE_OR_PAGE) {
                return Some((entry, level));
            }
            table = descriptor & FRAME;
            level += 1;
        }
    }

    /// The descriptor of a page of the library's.
    fn leaf(&self, page: usize) -> Result<&AtomicUsize, Error> {
        match self.entry(page) {
            Some((entry, LEAF_LEVEL)) => Ok(entry),
            _ => Err(Error::InvalidArgument),
        }
    }
}

/// Waits until all cores would find descriptors that were stored. What was no valid descriptor before is in no TLB.
fn wait_for_stores() {
    #[cfg(target_os = "none")]
    // SAFETY: barriers change no memory and no register.
    unsafe {
        core::arch::asm!("dsb ishst", "isb", options(nostack, preserves_flags));
    }
}

/// Makes all cores look at the descriptors of pages anew.
fn invalidate(pages: Range<usize>) {
    #[cfg(target_os = "none")]
    // SAFETY: the instructions change no memory and no register: what is removed from TLBs is found again in the
    // tables.
    unsafe {
        core::arch::asm!("dsb ishst", options(nostack, preserves_flags));
        for page in pages.step_by(PAGE_SIZE) {
            core::arch::asm!("tlbi vaae1is, {}", in(reg) page / PAGE_SIZE, options(nostack, preserves_flags));
        }
        core::arch::asm!("dsb ish", "isb", options(nostack, preserves_flags));
    }
    #[cfg(not(target_os = "none"))]
    let _ = pages;
}

// SAFETY: the descriptors of exactly the given pages are set, in ways that the architecture allows on live tables
// (between valid and invalid, and of access permissions), and all cores find them when a method returns.
unsafe impl PageTables for IdentityTables {
    unsafe fn map(&self, page: usize, frame: usize, protection: Protection) -> Result<(), Error> {
        let mut attributes = Attributes::TABLE_OR_PAGE | TAKEN | MEMORY | allowing(protection);
        attributes.set(Attributes::GP, self.landing_pads.load(Ordering::Relaxed));
        self.leaf(page)?.store(frame | attributes.bits(), Ordering::Release);
        wait_for_stores();
        Ok(())
    }

    unsafe fn protect(&self, pages: Range<usize>, protection: Protection) -> Result<(), Error> {
        for page in pages.clone().step_by(PAGE_SIZE) {
            self.leaf(page)?;
        }
        let changing = (Attributes::VALID | Attributes::READ_ONLY | Attributes::PXN).bits();
        let wanted = allowing(protection).bits();
        for page in pages.clone().step_by(PAGE_SIZE) {
            let entry = self.leaf(page)?;
            entry.store(entry.load(Ordering::Relaxed) & !changing | wanted, Ordering::Release);
        }
        invalidate(pages);
        Ok(())
    }

    unsafe fn unmap(&self, pages: Range<usize>, released: &mut dyn FnMut(usize)) -> Result<(), Error> {
        // No core may reach a frame that is released. (No test can tell: the library's lock hides the order.)
        // SAFETY: the caller's promise, passed on.
        unsafe { self.protect(pages.clone(), Protection::NONE) }?;
        for page in pages.step_by(PAGE_SIZE) {
            released(self.leaf(page)?.swap(0, Ordering::Release) & FRAME);
        }
        Ok(())
    }

    fn frame(&self, page: usize) -> Option<usize> {
        let (descriptor, level) = self.descriptor(page);
        (level == LEAF_LEVEL && descriptor != 0).then_some(descriptor & FRAME)
    }

    fn next(&self, from: usize) -> Option<Mapping> {
        let mut mapping: Option<Mapping> = None;
        let mut at = from;
        while at < ADDRESS_END {
            let (descriptor, level) = self.descriptor(at);
            let start = at & !(reach(level) - 1);
            at = start + reach(level);
            match (&mut mapping, allowed(descriptor, level)) {
                (None, None) => {}
                (None, Some(protection)) => mapping = Some(Mapping { start, end: at, protection }),
                (Some(found), Some(protection)) if found.protection == protection => found.end = at,
                _ => break,
            }
        }
        mapping
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
