//! Finding stores that were not allowed: pages that nobody may store to have a copy, and unmapped pages a filling.

use super::{HUGE_END, HUGE_START, POISON, Space};
use crate::bytes;
use std::ops::Range;

impl Space {
    /// Notes the bytes of pages that nobody may store to; lets the others go.
    pub(crate) fn take_snapshot(&mut self, range: Range<usize>) {
        let range = self.pages(range);
        let first = self.areas.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        for area in self.areas.range_mut(first..range.end).map(|(_, area)| area) {
            let is_far = (HUGE_START..HUGE_END).contains(&area.start);
            if is_far || area.may_store() {
                area.snapshot = None;
                continue;
            }
            let part = area.start.max(range.start)..area.end.min(range.end);
            match &mut area.snapshot {
                Some(snapshot) if !part.is_empty() => {
                    let inside = part.start - area.start..part.end - area.start;
                    snapshot[inside].copy_from_slice(&bytes::read(part.start, part.len()));
                }
                Some(_) => {}
                snapshot => *snapshot = Some(bytes::read(area.start, area.end - area.start).into()),
            }
        }
    }

    /// Looks for stores that were not allowed.
    pub(crate) fn check_snapshots(&mut self, range: Range<usize>) {
        let mut broken = Vec::new();
        for (part, area) in self.areas_in(self.pages(range)) {
            let Some(snapshot) = &area.snapshot else { continue };
            let offset = part.start - area.start;
            if !bytes::equal(part.start, &snapshot[offset..offset + part.len()]) {
                broken.push((part, area.protection));
            }
        }
        for (part, protection) in broken {
            self.violation(format!("a store to {part:#x?}, which is {}", protection.letters()));
            self.take_snapshot(part);
        }
    }

    /// Looks at pages that are unmapped: each is as it was left.
    pub(super) fn check_unmapped(&mut self, pages: Vec<usize>) {
        for page in pages {
            let byte = if self.was_used(page) { POISON } else { 0 };
            if !bytes::equal(page, &vec![byte; self.page_size]) {
                self.violation(format!("a store to {page:#x}, which is not mapped"));
                bytes::fill(page, self.page_size, byte);
            }
        }
    }

    /// A page's place among those of the arena.
    pub(super) fn index(&self, page: usize) -> usize {
        (page - self.arena.start) / self.page_size
    }

    /// Whether a page was mapped at some time.
    pub(super) fn was_used(&self, page: usize) -> bool {
        self.used.get(self.index(page)).copied().unwrap_or(false)
    }

    /// Checks every page that is or was mapped.
    pub(crate) fn check_all(&mut self) {
        self.check_snapshots(0..usize::MAX);
        let mut unmapped = Vec::new();
        let mut gap_start = self.arena.start;
        let end = self.arena.start + self.used.len() * self.page_size;
        for (start, next) in self.areas.values().map(|area| (area.start, area.end)).chain([(end, end)]) {
            let gap = (gap_start..start.min(end)).step_by(self.page_size);
            unmapped.extend(gap.filter(|page| self.was_used(*page)));
            gap_start = gap_start.max(next);
        }
        self.check_unmapped(unmapped);
    }

    /// The pages that a range touches.
    fn pages(&self, range: Range<usize>) -> Range<usize> {
        let in_page = self.page_size - 1;
        range.start & !in_page..range.end.saturating_add(in_page) & !in_page
    }
}
