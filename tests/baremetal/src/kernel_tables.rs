//! A kernel's own page tables: tables are made when they are needed, from a few that it has set aside. It
//! knows nothing of the library but the trait.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::*;
use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use execmem_core::platform::Mapping;
use execmem_core::{Error, Protection};
use execmem_os_baremetal::{PAGE_SIZE, PageTables, Usage};

/// So many tables can be made. Four cover 8 MiB of the library's addresses only: the rest are for others.
pub const TABLES: usize = 96;

#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

/// Three levels of tables, the root being the first one.
pub struct KernelTables {
    tables: [Table; TABLES],
    made: AtomicUsize,
}

const VALID: u64 = 1;
const TABLE_OR_PAGE: u64 = 1 << 1;
const MEMORY: u64 = 1 << 2 | 3 << 8;
const READ_ONLY: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 10;
const PXN: u64 = 1 << 53;
const UXN: u64 = 1 << 54;
/// This kernel's mark for a page without access, in a bit that the hardware leaves to it.
const NO_ACCESS: u64 = 1 << 58;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

fn bits(protection: Protection) -> u64 {
    let writable = if protection.contains(Protection::WRITE) { 0 } else { READ_ONLY };
    let executable = if protection.contains(Protection::EXEC) { 0 } else { PXN };
    let access = if protection.is_empty() { NO_ACCESS } else { VALID };
    UXN | ACCESSED | TABLE_OR_PAGE | writable | executable | access
}

fn protection(entry: u64) -> Option<Protection> {
    if entry & NO_ACCESS != 0 {
        return Some(Protection::NONE);
    }
    match (entry & VALID, entry & READ_ONLY, entry & PXN) {
        (0, _, _) => None,
        (_, 0, _) => Some(Protection::RW),
        (_, _, 0) => Some(Protection::RX),
        _ => Some(Protection::READ),
    }
}

impl KernelTables {
    /// The root table alone.
    pub const fn new() -> Self {
        let tables = [const { Table([const { AtomicU64::new(0) }; 512]) }; TABLES];
        Self { tables, made: AtomicUsize::new(1) }
    }

    /// Maps the kernel's own pages at their own addresses.
    pub fn map_kernel(&self, parts: &[(Range<usize>, Usage)]) -> Result<(), Error> {
        for (range, usage) in parts {
            let entry = match usage {
                Usage::Device => bits(Protection::RW),
                Usage::Code => MEMORY | bits(Protection::RX),
                Usage::Constants => MEMORY | bits(Protection::READ),
                Usage::Data => MEMORY | bits(Protection::RW),
            };
            for page in range.clone().step_by(PAGE_SIZE) {
                self.entry(page, true).ok_or(Error::NoMemory)?.store(page as u64 | entry, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Lets this core use the tables.
    ///
    /// # Safety
    /// They have what this core uses.
    pub unsafe fn enter(&self) {
        barrier::dsb(barrier::SY);
        TTBR0_EL1.set((&raw const self.tables).addr() as u64);
        SCTLR_EL1.modify(SCTLR_EL1::WXN::Enable);
        barrier::isb(barrier::SY);
        // SAFETY: makes the core look at the new tables.
        unsafe { asm!("tlbi vmalle1", "dsb nsh", "isb", options(nostack, preserves_flags)) };
    }

    /// The entry of a page, in tables that are there or, if it is wished, are made.
    fn entry(&self, page: usize, make: bool) -> Option<&AtomicU64> {
        let mut table = &self.tables[0];
        for shift in [30, 21] {
            let slot = &table.0[page >> shift & 511];
            if slot.load(Ordering::Acquire) == 0 {
                let next = self.made.load(Ordering::Relaxed);
                if !make || next == TABLES {
                    return None;
                }
                self.made.store(next + 1, Ordering::Relaxed);
                let address = (&raw const self.tables[next]).addr() as u64;
                slot.store(address | TABLE_OR_PAGE | VALID, Ordering::Release);
            }
            let first = (&raw const self.tables).addr();
            table = &self.tables[((slot.load(Ordering::Acquire) & ADDRESS) as usize - first) / PAGE_SIZE];
        }
        Some(&table.0[page >> 12 & 511])
    }

    fn change(&self, pages: Range<usize>, change: impl Fn(u64) -> u64) -> Result<(), Error> {
        for page in pages.clone().step_by(PAGE_SIZE) {
            let entry = self.entry(page, false).ok_or(Error::NotFound)?;
            entry.store(change(entry.load(Ordering::Relaxed)), Ordering::Release);
        }
        barrier::dsb(barrier::ISHST);
        for page in pages.step_by(PAGE_SIZE) {
            // SAFETY: makes all cores look at the page's entry again.
            unsafe { asm!("tlbi vaae1is, {}", in(reg) page >> 12, options(nostack, preserves_flags)) };
        }
        barrier::dsb(barrier::ISH);
        barrier::isb(barrier::SY);
        Ok(())
    }
}

// SAFETY: exactly the entries of the given pages change, and the TLBs of all cores forget them before a
// method returns. Tables are never taken away.
unsafe impl PageTables for KernelTables {
    unsafe fn map(&self, page: usize, frame: usize, protection: Protection) -> Result<(), Error> {
        self.entry(page, true).ok_or(Error::NoMemory)?;
        self.change(page..page + PAGE_SIZE, |_| frame as u64 | MEMORY | bits(protection))
    }

    unsafe fn protect(&self, pages: Range<usize>, protection: Protection) -> Result<(), Error> {
        self.change(pages, |entry| entry & ADDRESS | MEMORY | bits(protection))
    }

    unsafe fn unmap(&self, pages: Range<usize>, released: &mut dyn FnMut(usize)) -> Result<(), Error> {
        self.change(pages.clone(), |entry| entry & !VALID | NO_ACCESS)?;
        for page in pages.step_by(PAGE_SIZE) {
            let entry = self.entry(page, false).ok_or(Error::NotFound)?;
            released((entry.swap(0, Ordering::Relaxed) & ADDRESS) as usize);
        }
        Ok(())
    }

    fn frame(&self, page: usize) -> Option<usize> {
        let entry = self.entry(page, false)?.load(Ordering::Acquire);
        protection(entry).map(|_| (entry & ADDRESS) as usize)
    }

    fn next(&self, from: usize) -> Option<Mapping> {
        let mut found: Option<Mapping> = None;
        // This kernel uses the first two GiB only.
        let mut page = from & !(PAGE_SIZE - 1);
        while page < 2 << 30 {
            let Some(entry) = self.entry(page, false) else {
                if found.is_some() {
                    break;
                }
                page = (page & !0x1f_ffff) + 0x20_0000;
                continue;
            };
            let end = page + PAGE_SIZE;
            match (&mut found, protection(entry.load(Ordering::Acquire))) {
                (None, None) => {}
                (None, Some(protection)) => found = Some(Mapping { start: page, end, protection }),
                (Some(mapping), Some(protection)) if mapping.protection == protection => mapping.end = end,
                _ => break,
            }
            page = end;
        }
        found
    }
}
