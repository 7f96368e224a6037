//! Counters, statistics and the dump for people.

use crate::platform::Platform;
use crate::policy::{POLICIES, Policy, Trial};
use crate::protection::Protection;
use crate::registry::Page;
use crate::runtime::Runtime;
use core::fmt::Write;
use core::ops::Range;
use core::sync::atomic::{AtomicI64, Ordering};

/// Totals that are kept as calls come in, so that asking costs nothing.
pub(crate) struct Counters {
    /// Live regions of `rt_alloc_exec_memory` and `rt_alloc_rw_memory`.
    live: AtomicI64,
    /// Their requested bytes.
    requested: AtomicI64,
    /// Bytes of pages mapped now, each view counted.
    mapped: AtomicI64,
    peak_mapped: AtomicI64,
    pub(crate) failed_calls: AtomicI64,
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            live: AtomicI64::new(0),
            requested: AtomicI64::new(0),
            mapped: AtomicI64::new(0),
            peak_mapped: AtomicI64::new(0),
            failed_calls: AtomicI64::new(0),
        }
    }

    pub(crate) fn allocated(&self, size: usize) {
        self.live.fetch_add(1, Ordering::Relaxed);
        self.requested.fetch_add(size as i64, Ordering::Relaxed);
    }

    pub(crate) fn freed(&self, size: usize) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        self.requested.fetch_sub(size as i64, Ordering::Relaxed);
    }

    pub(crate) fn mapped(&self, bytes: usize) {
        let now = self.mapped.fetch_add(bytes as i64, Ordering::Relaxed) + bytes as i64;
        self.peak_mapped.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn unmapped(&self, bytes: usize) {
        self.mapped.fetch_sub(bytes as i64, Ordering::Relaxed);
    }
}

/// Figures at one moment. Arrays are indexed by the contract's `PROT_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Live regions of code and data memory.
    pub regions: i64,
    /// Their requested bytes.
    pub requested_bytes: i64,
    /// Regions of every kind, mapped files included, by the protection of their first page.
    pub regions_by_protection: [i64; 8],
    /// Bytes of all regions' pages, by protection. Second views are not counted.
    pub bytes_by_protection: [i64; 8],
    /// Bytes of pages mapped now, second views included.
    pub mapped_bytes: i64,
    /// The most that `mapped_bytes` ever was.
    pub peak_mapped_bytes: i64,
    /// Calls that failed.
    pub failed_calls: i64,
    /// Bytes that the library's own records of regions and of code heaps take.
    pub record_bytes: i64,
    /// Live blocks of all code heaps.
    pub code_blocks: i64,
    /// Their requested bytes.
    pub code_bytes: i64,
    /// Chunks that they lie in: a region each.
    pub code_chunks: i64,
    /// Bytes of the chunks' code pages; second views are not counted.
    pub code_chunk_bytes: i64,
    /// Stretches of addresses in which a direct branch reaches from any block to any other.
    pub code_reservations: i64,
    /// By [`Policy`]'s number, what came of trying it out: why the one in force was chosen.
    pub policy_trials: [Trial; POLICIES],
}

/// A line of text on the stack: the dump must not allocate.
struct Line {
    text: [u8; 128],
    length: usize,
}

impl Line {
    const EMPTY: Self = Self { text: [0; 128], length: 0 };

    /// What was written: whole strings, so it is UTF-8.
    fn text(&self) -> &str {
        self.text.get(..self.length).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let end = self.length + text.len();
        let room = self.text.get_mut(self.length..end).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

impl<P: Platform> Runtime<P> {
    /// How many regions of code and data memory are live.
    pub fn region_count(&self) -> i64 {
        self.counters.live.load(Ordering::Relaxed)
    }

    /// The bytes that were requested for them.
    pub fn requested_bytes(&self) -> i64 {
        self.counters.requested.load(Ordering::Relaxed)
    }

    /// Figures of this moment. While other threads allocate, figures of one call need not add up to the byte.
    pub fn statistics(&self) -> Statistics {
        let heaps = self.heaps.figures();
        let mut statistics = Statistics {
            regions: self.region_count(),
            requested_bytes: self.requested_bytes(),
            mapped_bytes: self.counters.mapped.load(Ordering::Relaxed),
            peak_mapped_bytes: self.counters.peak_mapped.load(Ordering::Relaxed),
            failed_calls: self.counters.failed_calls.load(Ordering::Relaxed),
            record_bytes: self.registry.record_bytes() as i64 + heaps.record_bytes,
            code_blocks: heaps.blocks,
            code_bytes: heaps.bytes,
            code_chunks: heaps.chunks,
            code_chunk_bytes: heaps.chunk_bytes,
            code_reservations: heaps.reservations,
            policy_trials: self.policy.trials(),
            ..Statistics::default()
        };
        let mut previous = None;
        for (run, page) in self.base_runs() {
            let index = usize::from(page.protection.bits() & 7);
            statistics.bytes_by_protection[index] += run.len() as i64;
            if previous != Some(page.region) {
                statistics.regions_by_protection[index] += 1;
            }
            previous = Some(page.region);
        }
        statistics
    }

    /// Prints a head line with the policy and those that the system did not grant, the number of allocations, their bytes, and a line for each with address, size
    /// and protection, in address order. Where pages of one differ, the first one's protection has a `+`.
    pub fn dump(&self) {
        self.dump_policy();
        self.print(format_args!("allocations: {}\n", self.region_count()));
        self.print(format_args!("bytes: {}\n", self.requested_bytes()));
        let mut pending: Option<(Page, Protection, bool)> = None;
        for (_, page) in self.base_runs() {
            match &mut pending {
                Some((first, _, mixed)) if first.region == page.region => *mixed = true,
                _ => {
                    self.dump_region(pending.replace((page, page.protection, false)));
                }
            }
        }
        self.dump_region(pending);
    }

    fn dump_policy(&self) {
        let policy = self.policy().unwrap_or(Policy::Auto);
        let mut refused = Line::EMPTY;
        for (number, trial) in self.policy.trials().into_iter().enumerate() {
            if let (Trial::Failed(_), Ok(other)) = (trial, Policy::from_number(number as i32)) {
                // The few short names fit.
                let _ = write!(refused, ", no {}", other.name());
            }
        }
        self.print(format_args!("execmem: executable memory, policy {}{}\n", policy.name(), refused.text()));
    }

    fn dump_region(&self, pending: Option<(Page, Protection, bool)>) {
        let Some((page, protection, mixed)) = pending else { return };
        let Some(region) = self.registry.region_of(page) else { return };
        if region.kind.is_exec_memory() {
            let more = if mixed { "+" } else { "" };
            let letters = protection.letters();
            self.print(format_args!("  {:#018x} {:>12} {letters}{more}\n", region.base, region.size));
        }
    }

    /// Runs of equal pages at addresses that callers were given, in address order.
    fn base_runs(&self) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        self.registry.all_runs().filter(|(_, page)| !page.is_other_view)
    }

    fn print(&self, text: core::fmt::Arguments<'_>) {
        let mut line = Line::EMPTY;
        if line.write_fmt(text).is_ok() {
            self.platform.print(line.text().as_bytes());
        }
    }
}
