//! What is behind a chunk's addresses: its read-write view, which parts of that have memory, and whose it is.
//!
//! A store to shared memory that the system has no page for ends the process, so parts of the view are brought in by
//! a call that can fail instead.

use crate::bits::Bits;
use crate::error::Result;
use crate::memory::Arrays;
use crate::span::Span;
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use core::ops::Range;

/// The most parts of a chunk.
const PARTS: usize = 1024;

/// Who writes one part after another gets so many bytes at once.
const AHEAD: usize = 64 << 10;

#[derive(Default)]
pub(super) struct Backing {
    /// The read-write view, or 0.
    view: AtomicUsize,
    /// Bytes of a part of the view, as a power of two: a page, unless that makes too many parts.
    part_bits: AtomicU32,
    /// Which parts are known to have memory behind them.
    populated: Bits,
    /// The part behind those that got memory last.
    populated_to: AtomicUsize,
    /// Which parts are on huge pages.
    huge: Bits,
    /// How often the memory became another one.
    changes: AtomicU32,
    /// Whether another process may have the memory too, since a fork. Of a chunk this counts, not what its region says.
    pub(super) is_in_common: AtomicBool,
    /// Whether this is a child that could not get memory of its own for it: nothing can be read or written there.
    pub(super) is_withdrawn: AtomicBool,
    /// Whether somebody was told where the view is, and may be storing there at any moment.
    pub(super) is_lent: AtomicBool,
}

impl Backing {
    pub(super) fn lay_out(arrays: &mut Arrays) -> Self {
        let [populated, huge] = core::array::from_fn(|_| Bits(arrays.next(PARTS / 64)));
        Self { populated, huge, ..Self::default() }
    }

    /// Starts anew for a chunk of `length` bytes whose view, or 0, nobody has written to.
    pub(super) fn reset(&self, view: usize, length: usize, page_size: usize, is_in_common: bool) {
        let least = length.next_power_of_two() / PARTS;
        self.view.store(view, Ordering::Relaxed);
        self.part_bits.store(least.max(page_size).ilog2(), Ordering::Relaxed);
        self.populated.reset();
        self.change_memory();
        self.populated_to.store(0, Ordering::Relaxed);
        self.is_in_common.store(is_in_common, Ordering::Relaxed);
        self.is_withdrawn.store(false, Ordering::Relaxed);
        self.is_lent.store(false, Ordering::Relaxed);
    }

    pub(super) fn view(&self) -> usize {
        self.view.load(Ordering::Relaxed)
    }

    /// Before the bytes at these offsets of a chunk of `length` bytes are written: has those parts of the view that
    /// have no memory yet brought in.
    pub(super) fn populate(
        &self,
        bytes: Range<usize>,
        length: usize,
        bring_in: impl FnOnce(Span) -> Result,
    ) -> Result {
        let part_of = |offset: usize| offset >> self.part_bits.load(Ordering::Relaxed);
        let last = part_of(bytes.end - 1);
        let without = (part_of(bytes.start)..=last).find(|part| !self.populated.is_set(*part));
        let Some(first) = without else { return Ok(()) };
        let follows = first > 0 && first == self.populated_to.load(Ordering::Relaxed);
        let wanted = if follows { last.max(first + part_of(AHEAD).max(1) - 1) } else { last };
        let parts = first..wanted.min(part_of(length - 1)) + 1;
        bring_in(self.span_of(parts.clone(), length))?;
        self.populated_to.store(parts.end, Ordering::Relaxed);
        self.populated.set_all(parts);
        Ok(())
    }

    /// Where in the view the parts are that have memory: nothing was ever written to the others.
    pub(super) fn populated_parts(&'static self, length: usize) -> impl Iterator<Item = Span> {
        self.populated.runs().map(move |parts| self.span_of(parts, length))
    }

    /// Another number whenever other memory comes: [`note_huge`](Self::note_huge) compares it.
    pub(super) fn version(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// Other memory is behind the addresses from now on, or will be as soon as it is written to. None is huge.
    pub(super) fn change_memory(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.huge.reset();
    }

    /// Bytes of a huge range: a huge page, unless that is less than a part.
    pub(super) fn huge_range(&self, huge_page: usize) -> usize {
        huge_page.max(1 << self.part_bits.load(Ordering::Relaxed))
    }

    fn parts_of(&self, bytes: Range<usize>) -> Range<usize> {
        let part_bits = self.part_bits.load(Ordering::Relaxed);
        bytes.start >> part_bits..bytes.end >> part_bits
    }

    pub(super) fn is_huge(&self, bytes: Range<usize>) -> bool {
        self.huge.any_set(self.parts_of(bytes))
    }

    /// The bytes at these offsets are on huge pages, if the memory is the same as it was before. Whether it is.
    pub(super) fn note_huge(&self, bytes: Range<usize>, version: u32) -> bool {
        let is_same = self.version() == version;
        if is_same {
            self.huge.set_all(self.parts_of(bytes));
        }
        is_same
    }

    pub(super) fn huge_bytes(&self) -> usize {
        self.huge.set_bits().count() << self.part_bits.load(Ordering::Relaxed)
    }

    fn span_of(&self, parts: Range<usize>, length: usize) -> Span {
        let part_bits = self.part_bits.load(Ordering::Relaxed);
        let start = parts.start << part_bits;
        Span::from_parts(self.view() + start, (parts.end << part_bits).min(length) - start)
    }
}
