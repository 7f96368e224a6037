//! What is behind a chunk's addresses: its read-write view, which parts of that have memory, and whose it is.
//!
//! A store to shared memory that the system has no page for ends the process, so parts of the view are brought in by
//! a call that can fail instead.

use crate::bits::Bits;
use crate::memory::Arrays;
use crate::span::Span;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

/// The most parts of a chunk.
const PARTS: usize = 1024;

/// Who writes one part after another gets so many bytes at once.
const AHEAD: usize = 64 << 10;

pub(super) struct Backing {
    /// The read-write view, or 0.
    view: AtomicUsize,
    /// Bytes of a part of the view, as a power of two: a page, unless that makes too many parts.
    part_bits: AtomicU32,
    /// Which parts are known to have memory behind them.
    populated: Bits,
    /// The part behind those that got memory last.
    populated_to: AtomicUsize,
    /// Whether another process may have the memory too, since a fork.
    pub(super) is_in_common: AtomicBool,
    /// Whether this is a child that could not get memory of its own for it: nothing can be read or written there.
    pub(super) is_withdrawn: AtomicBool,
    /// Whether somebody was told where the view is, and may be storing there at any moment.
    pub(super) is_lent: AtomicBool,
}

impl Backing {
    pub(super) fn lay_out(arrays: &mut Arrays) -> Self {
        Self {
            view: AtomicUsize::new(0),
            part_bits: AtomicU32::new(0),
            populated: Bits(arrays.next(PARTS / 64)),
            populated_to: AtomicUsize::new(0),
            is_in_common: AtomicBool::new(false),
            is_withdrawn: AtomicBool::new(false),
            is_lent: AtomicBool::new(false),
        }
    }

    /// Starts anew for a chunk of `length` bytes whose view, or 0, nobody has written to.
    pub(super) fn reset(&self, view: usize, length: usize, page_size: usize, is_in_common: bool) {
        let least = length.next_power_of_two() / PARTS;
        self.view.store(view, Ordering::Relaxed);
        self.part_bits.store(least.max(page_size).ilog2(), Ordering::Relaxed);
        self.populated.reset();
        self.populated_to.store(0, Ordering::Relaxed);
        self.is_in_common.store(is_in_common, Ordering::Relaxed);
        self.is_withdrawn.store(false, Ordering::Relaxed);
        self.is_lent.store(false, Ordering::Relaxed);
    }

    /// The read-write view's address; 0: there is none.
    pub(super) fn view(&self) -> usize {
        self.view.load(Ordering::Relaxed)
    }

    fn part_bits(&self) -> u32 {
        self.part_bits.load(Ordering::Relaxed)
    }

    /// The parts that have to get memory before the bytes at these offsets of a chunk of `length` bytes are written.
    pub(super) fn unpopulated(&self, bytes: Range<usize>, length: usize) -> Option<Range<usize>> {
        let part_bits = self.part_bits();
        let last = (bytes.end - 1) >> part_bits;
        let first = (bytes.start >> part_bits..=last).find(|part| !self.populated.is_set(*part))?;
        let follows = first > 0 && first == self.populated_to.load(Ordering::Relaxed);
        let wanted = if follows { last.max(first + (AHEAD >> part_bits).max(1) - 1) } else { last };
        let parts = ((length - 1) >> part_bits) + 1;
        Some(first..parts.min(wanted + 1))
    }

    pub(super) fn record_populated(&self, parts: Range<usize>) {
        self.populated_to.store(parts.end, Ordering::Relaxed);
        self.populated.set_all(parts);
    }

    /// Where in the view the parts are that have memory: nothing was ever written to the others.
    pub(super) fn populated_parts(&self, length: usize) -> impl Iterator<Item = Span> + use<> {
        let (populated, view, part_bits) = (self.populated, self.view(), self.part_bits());
        let mut from = 0;
        core::iter::from_fn(move || {
            let parts = populated.first_run(from)?;
            from = parts.end;
            Some(span_of(view, parts, part_bits, length))
        })
    }

    /// Where parts of the view are.
    pub(super) fn span_of(&self, parts: Range<usize>, length: usize) -> Span {
        span_of(self.view(), parts, self.part_bits(), length)
    }
}

fn span_of(view: usize, parts: Range<usize>, part_bits: u32, length: usize) -> Span {
    let start = parts.start << part_bits;
    Span::from_parts(view + start, (parts.end << part_bits).min(length) - start)
}
