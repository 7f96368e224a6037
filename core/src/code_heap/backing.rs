//! Which parts of a chunk's write view are known to have memory behind them.
//!
//! A store to shared memory that the system has no page for ends the process, so parts are brought in by a
//! call that can fail instead.

use super::bits::{first_set, is_set, set_all};
use super::chunk::Chunk;
use crate::span::Span;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// The most parts of a chunk.
pub(super) const PARTS: usize = 1024;

/// Who writes one part after another gets so many bytes at once.
const AHEAD: usize = 64 << 10;

impl Chunk {
    /// The parts of the write view that have to have memory behind them before `span` is written.
    pub(super) fn unpopulated(&self, span: Span) -> Option<Range<usize>> {
        let populated = self.tables.populated;
        let part_of = |address: usize| (address - self.base()) >> self.part_bits();
        let (first, last) = (part_of(span.start()), part_of(span.end() - 1));
        let first = (first..=last).find(|part| !is_set(populated, *part))?;
        let follows = first > 0 && first == self.backed_to.load(Ordering::Relaxed) as usize;
        let wanted = if follows { last.max(first + (AHEAD >> self.part_bits()).max(1) - 1) } else { last };
        let parts = ((self.length() - 1) >> self.part_bits()) + 1;
        Some(first..parts.min(wanted + 1))
    }

    pub(super) fn record_populated(&self, parts: Range<usize>) {
        self.backed_to.store(parts.end as u32, Ordering::Relaxed);
        set_all(self.tables.populated, parts);
    }

    /// The parts of the write view that have memory: nothing was ever written to the others. None of a chunk that
    /// waits to be unmapped.
    pub(super) fn backed_parts(&'static self) -> impl Iterator<Item = Span> {
        let populated = self.tables.populated;
        let mut next = if self.length() == 0 { PARTS } else { 0 };
        core::iter::from_fn(move || {
            let start = first_set(populated, next, PARTS)?;
            next = (start..PARTS).find(|part| !is_set(populated, *part)).unwrap_or(PARTS);
            self.view_of_parts(start..next)
        })
    }

    /// Where parts of the write view are.
    pub(super) fn view_of_parts(&self, parts: Range<usize>) -> Option<Span> {
        let start = parts.start << self.part_bits();
        let end = (parts.end << self.part_bits()).min(self.length());
        Some(Span::from_parts(self.view_of(self.base() + start)?, end - start))
    }

    /// Bytes of a part, as a power of two: a page, unless that makes more parts than there are bits.
    fn part_bits(&self) -> u32 {
        let least = self.least_part_bits.load(Ordering::Relaxed);
        self.length().next_power_of_two().ilog2().saturating_sub(PARTS.ilog2()).max(least)
    }
}
