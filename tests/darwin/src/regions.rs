//! The model's own record of what the program has mapped: a pure data structure.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What is behind a region.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Memory of its own.
    Private,
    /// Memory that further mappings may share, and the offset in it.
    Shared(Arc<OwnedFd>, usize),
    /// `MAP_JIT`.
    Jit,
    /// A file.
    File,
}

/// Mapped addresses that are alike.
#[derive(Clone, Debug)]
pub struct Region {
    /// The addresses.
    pub range: Range<usize>,
    /// Darwin's protection bits.
    pub protection: i32,
    /// What is behind it.
    pub kind: Kind,
    /// Whether a forked child lacks it.
    pub is_withheld: bool,
}

impl Region {
    /// The part in `range`, which lies inside.
    fn part(&self, range: Range<usize>) -> Self {
        let kind = match &self.kind {
            Kind::Shared(memory, offset) => {
                Kind::Shared(memory.clone(), offset + (range.start - self.range.start))
            }
            other => other.clone(),
        };
        Self { range, kind, ..*self }
    }
}

/// All regions, by their start.
#[derive(Default)]
pub struct Regions {
    by_start: BTreeMap<usize, Region>,
}

impl Regions {
    /// No region at all.
    pub const fn new() -> Self {
        Self { by_start: BTreeMap::new() }
    }

    /// Enters a region, in place of all that was there.
    pub fn insert(&mut self, region: Region) {
        self.remove(region.range.clone());
        self.by_start.insert(region.range.start, region);
    }

    /// Forgets what is in the range.
    pub fn remove(&mut self, range: Range<usize>) {
        for region in self.overlapping(&range) {
            self.by_start.remove(&region.range.start);
            for rest in [region.range.start..range.start, range.end..region.range.end] {
                if rest.start < rest.end {
                    self.by_start.insert(rest.start, region.part(rest));
                }
            }
        }
    }

    /// The parts of regions in the range, if they fill it.
    pub fn parts(&self, range: Range<usize>) -> Option<Vec<Region>> {
        let mut parts = Vec::new();
        let mut at = range.start;
        for region in self.overlapping(&range) {
            if region.range.start > at {
                return None;
            }
            let part = at..region.range.end.min(range.end);
            at = part.end;
            parts.push(region.part(part));
        }
        (at >= range.end).then_some(parts)
    }

    /// The region at an address, or the next one.
    pub fn at_or_behind(&self, address: usize) -> Option<Region> {
        let before = self.by_start.range(..=address).next_back().map(|(_, region)| region);
        let here = before.filter(|region| region.range.end > address);
        here.or_else(|| self.by_start.range(address..).next().map(|(_, region)| region)).cloned()
    }

    /// All regions, in address order.
    pub fn all(&self) -> Vec<Region> {
        self.by_start.values().cloned().collect()
    }

    /// Forgets the regions that `drop` names, and tells which they were.
    pub fn take_all(&mut self, drop: impl Fn(&Region) -> bool) -> Vec<Region> {
        let taken: Vec<_> = self.by_start.values().filter(|region| drop(region)).cloned().collect();
        for region in &taken {
            self.by_start.remove(&region.range.start);
        }
        taken
    }

    fn overlapping(&self, range: &Range<usize>) -> Vec<Region> {
        let before = self.by_start.range(..range.start).next_back().map(|(_, region)| region);
        let before = before.filter(|region| region.range.end > range.start);
        let inside = self.by_start.range(range.clone()).map(|(_, region)| region);
        before.into_iter().chain(inside).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(range: Range<usize>, protection: i32) -> Region {
        Region { range, protection, kind: Kind::Private, is_withheld: false }
    }

    fn shown(regions: &Regions) -> Vec<(Range<usize>, i32)> {
        regions.by_start.values().map(|region| (region.range.clone(), region.protection)).collect()
    }

    #[test]
    fn a_hole_splits_a_region_and_a_new_one_fills_it() {
        let mut regions = Regions::new();
        regions.insert(region(10..40, 1));
        regions.remove(20..30);
        assert_eq!(shown(&regions), [(10..20, 1), (30..40, 1)]);
        assert!(regions.parts(10..40).is_none());
        regions.insert(region(15..35, 3));
        assert_eq!(shown(&regions), [(10..15, 1), (15..35, 3), (35..40, 1)]);
        let parts = regions.parts(12..38).unwrap();
        assert_eq!(parts.iter().map(|part| part.range.clone()).collect::<Vec<_>>(), [12..15, 15..35, 35..38]);
    }

    #[test]
    fn a_hole_is_answered_with_the_next_region() {
        let mut regions = Regions::new();
        regions.insert(region(10..20, 1));
        regions.insert(region(30..40, 3));
        assert_eq!(regions.at_or_behind(15).unwrap().range, 10..20);
        assert_eq!(regions.at_or_behind(20).unwrap().range, 30..40);
        assert!(regions.at_or_behind(40).is_none());
    }

    #[test]
    fn a_part_of_shared_memory_keeps_its_offset() {
        let mut regions = Regions::new();
        let file = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        regions.insert(Region { kind: Kind::Shared(file, 1000), ..region(100..200, 0) });
        regions.remove(100..150);
        let rest = regions.at_or_behind(100).unwrap();
        assert!(matches!(rest.kind, Kind::Shared(_, 1050)), "{rest:?}");
    }
}
