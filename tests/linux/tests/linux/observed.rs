//! What a test looks at before and after an operation: what must not have changed, and what may be left.

use crate::operations::{Ground, page, size};
use execmem_conformance::snapshot::{Snapshot, Watched};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::maps;

/// The memory that a ground consists of.
pub fn watched(on: &Ground) -> [Watched; 5] {
    [on.code, on.data, on.mixed, on.mapping.address, on.function & -page()].map(|address| (address, size()))
}

pub fn snapshot(watched: &[Watched]) -> Snapshot {
    Snapshot::of(watched).unwrap_or_else(|stop| panic!("{stop:?}"))
}

pub fn statistics() -> RtExecMemoryStats {
    execmem_conformance::memory::statistics().unwrap_or_else(|stop| panic!("{stop:?}"))
}

/// A page of which the library says something else than the kernel.
pub fn untrue_pages(watched: &[Watched]) -> Option<String> {
    let addresses =
        watched.iter().flat_map(|(address, size)| (*address..address + size).step_by(page() as usize));
    // Read once: there may be many lines. A difference may be a mapping that came since, so it is looked at again.
    let lines = maps::lines();
    for address in addresses {
        let told = rt_get_protection(address);
        if told == maps::protection_in(&lines, address) {
            continue;
        }
        let real = maps::protection_at(address);
        if told != real {
            return Some(format!("the library says {told} of a page, the kernel {real}"));
        }
    }
    None
}

/// The mappings that can be executed or are shared (which the kernel names as files), or allow nothing: code memory and
/// what guards it, whoever holds it. Other memory may grow: the library's own records.
pub fn code_memory() -> Vec<maps::Line> {
    let is_shared = |name: &[u8]| name.starts_with(b"/dev/zero") || name.starts_with(b"/memfd");
    let is_code =
        |line: &maps::Line| is_shared(&line.name) || line.protection & 4 != 0 || line.protection == 0;
    maps::merged_lines().into_iter().filter(is_code).collect()
}

/// How many mappings that is: of guards the pages, since those of neighbours are one mapping.
pub fn amount_of_code_memory() -> i64 {
    let amount = |line: maps::Line| if line.protection == 0 { (line.end - line.start) / page() } else { 1 };
    code_memory().into_iter().map(amount).sum()
}

pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the kernel tells the open files").count()
}

/// Bytes of pages that have memory.
pub fn resident(start: i64, length: i64) -> i64 {
    let mut pages = vec![0u8; (length / page()) as usize];
    let address = std::ptr::with_exposed_provenance_mut(start as usize);
    // SAFETY: there is room for a byte for each page.
    let result = unsafe { libc::mincore(address, length as usize, pages.as_mut_ptr().cast()) };
    assert_eq!(result, 0);
    page() * pages.iter().filter(|page| **page & 1 != 0).count() as i64
}
