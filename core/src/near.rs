//! Placing memory within reach of an address, as direct branches need it.

use crate::error::{Error, Result};
use crate::hardening::Mapper;
use crate::platform::{Memory, Platform, Views};
use crate::span::round_up;
use crate::sync::{AtomicUsize, Ordering};
use core::ops::{ControlFlow, Range, RangeInclusive};

/// Nothing is placed below: null pointers with an offset should fault, and Linux refuses addresses
/// below `vm.mmap_min_addr`, which distributions set to 64 KiB.
const LOWEST: usize = 64 * 1024;

/// Nothing is placed from here up: the registry covers so many addresses. Where those of a program end is for
/// the system to know, often below.
const HIGHEST: usize = 1 << 48;

/// A place that looks free may not be had: another thread is faster, the system hides what is there, or its
/// addresses have ended. So many times we look again: enough to double the detour until it is as long as all
/// addresses, and to halve it again until it is a page.
const ATTEMPTS: usize = 96;
const _: () = assert!(ATTEMPTS >= 2 * (HIGHEST.ilog2() - LEAST_PAGE.ilog2()) as usize + 16);

/// No system has smaller pages.
const LEAST_PAGE: usize = 4096;

/// Where the system doesn't tell what is mapped, so many places are tried on each side of the target. Each that can't
/// be had costs three system calls.
const PROBES: usize = 512;

/// Maps pages at a place, or where the system puts them instead: the caller looks. Whatever a system says of a
/// place, it may mean that place alone. Only when it may choose itself an error is one.
pub(crate) fn map_at(
    mapper: Mapper<impl Platform>,
    length: usize,
    memory: Memory,
    place: usize,
) -> Result<Views> {
    mapper.map(length, memory, Some(place)).or_else(|_| mapper.map(length, memory, None))
}

/// Multiples of so many bytes are better places than others: pages there can be huge.
pub(crate) fn preferred_alignment(platform: impl Platform, length: usize) -> usize {
    let huge = platform.huge_page().filter(|huge| *huge <= length).unwrap_or_default();
    huge.max(platform.placement_granularity())
}

/// The bytes whose distance from a target is at most some maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    target: usize,
    low: usize,
    high: usize,
}

impl Reach {
    pub(crate) const ANYWHERE: Self = Self { target: 0, low: 0, high: usize::MAX };

    /// Target and distance are positive.
    pub(crate) fn new(target: i64, max_distance: i64) -> Result<Self> {
        if target <= 0 || max_distance <= 0 {
            return Err(Error::InvalidArgument);
        }
        // The byte at the distance is within reach, on both sides.
        Ok(Self {
            target: target as usize,
            low: (target as usize).saturating_sub(max_distance as usize),
            high: target.saturating_add(max_distance) as usize + 1,
        })
    }

    /// The bytes from `low` up to `high`, as close to `low` as there is room.
    pub(crate) fn between(low: usize, high: usize) -> Self {
        Self { target: low, low, high }
    }

    /// The part of a range that is within reach.
    pub(crate) fn clip(self, range: Range<usize>) -> Range<usize> {
        range.start.max(self.low)..range.end.min(self.high)
    }

    /// Whether `size` bytes at `start` are all within reach.
    pub(crate) fn holds(self, start: usize, size: usize) -> bool {
        self.low <= start && start.checked_add(size).is_some_and(|end| end <= self.high)
    }

    /// Maps pages for `size` bytes at a place, if the system puts them within reach.
    pub(crate) fn map_at(
        self,
        mapper: Mapper<impl Platform>,
        size: usize,
        memory: Memory,
        place: usize,
    ) -> Result<Option<Views>> {
        let length = round_up(size, mapper.platform.page_size());
        let views = map_at(mapper, length, memory, place)?;
        if self.holds(views.address, size) {
            return Ok(Some(views));
        }
        // SAFETY: mapped just now, and nobody has seen it.
        unsafe { mapper.unmap(views, length) };
        Ok(None)
    }

    /// Maps pages for `size` bytes within reach, as close to the target as there is room.
    pub(crate) fn map(self, mapper: Mapper<impl Platform>, size: usize, memory: Memory) -> Result<Views> {
        let length = round_up(size, mapper.platform.page_size());
        let mut missed = Missed::nothing();
        for _ in 0..ATTEMPTS {
            let place = loop {
                match self.find_room(mapper, size, length, missed.passed_over()) {
                    Ok(Some(place)) => break place,
                    Ok(None) if missed.detour == 0 => return Err(Error::NoMemory),
                    Ok(None) => missed.turn_back(),
                    Err(_) => return self.map_unseen(mapper, size, memory),
                }
            };
            if let Some(views) = self.map_at(mapper, size, memory, place)? {
                return Ok(views);
            }
            missed.record(place, self.target, mapper.platform.placement_granularity());
        }
        Err(Error::NoMemory)
    }

    /// As [`map`](Self::map) where the system doesn't tell what is mapped: by trying places all over the reach. They are
    /// all that there are if that is small; else room between them is not found.
    fn map_unseen(self, mapper: Mapper<impl Platform>, size: usize, memory: Memory) -> Result<Views> {
        let granularity = mapper.platform.placement_granularity();
        let longest = (self.target - self.low).max(self.high.min(HIGHEST).saturating_sub(self.target));
        let step = round_up(longest.div_ceil(PROBES), granularity);
        let middle = self.target & !(granularity - 1);
        for distance in (0..=PROBES).map(|number| number * step) {
            for place in [middle.checked_sub(distance), middle.checked_add(distance)].into_iter().flatten() {
                let is_possible = (LOWEST..HIGHEST).contains(&place) && self.holds(place, size);
                if is_possible && let Some(views) = self.map_at(mapper, size, memory, place)? {
                    return Ok(views);
                }
            }
        }
        Err(Error::NoMemory)
    }

    /// The free place nearest to the target, going by what is mapped now and what was missed.
    fn find_room(
        self,
        mapper: Mapper<impl Platform>,
        size: usize,
        length: usize,
        passed_over: Option<RangeInclusive<usize>>,
    ) -> Result<Option<usize>> {
        let mut best: Option<usize> = None;
        let mut consider = |gap: Range<usize>| {
            let least = mapper.platform.placement_granularity();
            // What looks free there is not: then the nearest place is as good as any.
            let preferred =
                if passed_over.is_none() { preferred_alignment(mapper.platform, length) } else { least };
            let found = [preferred, least].into_iter().find_map(|granularity| {
                Some((self.starts_in(gap.clone(), size, length, granularity)?, granularity))
            });
            let Some((starts, granularity)) = found else { return };
            let parts = match &passed_over {
                Some(passed_over) => without(starts, passed_over, granularity),
                None => [Some(starts), None],
            };
            let target = self.target & !(granularity - 1);
            let places =
                parts.into_iter().flatten().map(|starts| target.max(*starts.start()).min(*starts.end()));
            best = best.into_iter().chain(places).min_by_key(|place| place.abs_diff(self.target));
        };
        self.gaps(mapper, self.low, &mut |gap| {
            consider(gap);
            ControlFlow::Continue(())
        })?;
        Ok(best)
    }

    /// Calls `each` with the free gaps from an address on, in their order, up to the one that leaves reach or the one at
    /// which it breaks off.
    fn gaps(
        self,
        mapper: Mapper<impl Platform>,
        from: usize,
        each: &mut dyn FnMut(Range<usize>) -> ControlFlow<()>,
    ) -> Result {
        let guard = mapper.guard();
        let mut free_from = from.saturating_sub(guard).max(LOWEST);
        let mut flow = ControlFlow::Continue(());
        let mut each = |gap: Range<usize>| each(gap.start + guard..gap.end.saturating_sub(guard));
        mapper.platform.mappings(free_from, &mut |mapping| {
            if mapping.start > free_from {
                flow = each(free_from..mapping.start.min(HIGHEST));
            }
            free_from = free_from.max(mapping.end);
            if free_from >= self.high.min(HIGHEST) {
                flow = ControlFlow::Break(());
            }
            flow
        })?;
        if flow.is_continue() {
            let _ = each(free_from..HIGHEST);
        }
        Ok(())
    }

    /// Where in a free gap pages can start.
    fn starts_in(
        self,
        gap: Range<usize>,
        size: usize,
        length: usize,
        granularity: usize,
    ) -> Option<RangeInclusive<usize>> {
        let first = round_up(gap.start.max(self.low), granularity);
        let last_in_gap = gap.end.checked_sub(length)?;
        let last_in_reach = self.high.checked_sub(size)?;
        let last = last_in_gap.min(last_in_reach) & !(granularity - 1);
        (first <= last).then_some(first..=last)
    }
}

/// Where memory near something was placed last: the next one is looked for from there on upwards ("next fit"), so that
/// what is mapped is walked through once, not anew each time.
pub(crate) struct Latest(AtomicUsize);

impl Latest {
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// As [`Reach::map`], but where there is room above the latest within reach, that need not be the closest.
    pub(crate) fn map(
        &self,
        reach: Reach,
        mapper: Mapper<impl Platform>,
        size: usize,
        memory: Memory,
    ) -> Result<Views> {
        let place = self.find_room(reach, mapper, size);
        let above = place.map(|place| reach.map_at(mapper, size, memory, place)).transpose()?.flatten();
        let views = above.map_or_else(|| reach.map(mapper, size, memory), Ok)?;
        // Only a hint: threads may mix theirs.
        self.0.store(views.address + size, Ordering::Relaxed);
        Ok(views)
    }

    fn find_room(&self, reach: Reach, mapper: Mapper<impl Platform>, size: usize) -> Option<usize> {
        let length = round_up(size, mapper.platform.page_size());
        let alignments =
            [preferred_alignment(mapper.platform, length), mapper.platform.placement_granularity()];
        let latest = self.0.load(Ordering::Relaxed);
        if latest < LOWEST || !reach.holds(latest, size) {
            return None;
        }
        let mut found = None;
        let walked = reach.gaps(mapper, latest, &mut |gap| {
            let mut starts = alignments
                .into_iter()
                .filter_map(|alignment| reach.starts_in(gap.clone(), size, length, alignment));
            found = starts.next().map(|starts| *starts.start());
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // Where the system doesn't tell what is mapped, the place behind the latest is as good as any.
        walked.map_or(Some(round_up(latest + 2 * mapper.guard(), alignments[0])), |()| found)
    }
}

/// The parts of a range of places below and above others.
fn without(
    places: RangeInclusive<usize>,
    others: &RangeInclusive<usize>,
    granularity: usize,
) -> [Option<RangeInclusive<usize>>; 2] {
    let (first, last) = places.into_inner();
    let below = others.start().checked_sub(1).map(|end| last.min(end & !(granularity - 1)));
    let above = first.max(round_up(*others.end() + 1, granularity));
    [below.filter(|end| first <= *end).map(|end| first..=end), (above <= last).then_some(above..=last)]
}

/// Places that could not be had, around the target T: whatever is nearer to it was not free.
///
/// ```text
///         passed over, when a place is looked for
///    |<-- detour -->|<-- places -->|<-- detour -->|
///    ...............m.......T......m...............     m: the misses farthest from the target
/// ```
///
/// Each miss doubles the detour, so that a long range which can't be had is soon behind us. Once there is no room
/// beyond it, the search turns back: from then on each miss halves the detour. The last free places of all may be within
/// it, since where the addresses end can't be seen.
struct Missed {
    places: Option<RangeInclusive<usize>>,
    /// Bytes.
    detour: usize,
    turns_back: bool,
}

impl Missed {
    fn nothing() -> Self {
        Self { places: None, detour: 0, turns_back: false }
    }

    fn passed_over(&self) -> Option<RangeInclusive<usize>> {
        let places = self.places.as_ref()?;
        Some(
            places.start().saturating_sub(self.detour)
                ..=places.end().saturating_add(self.detour).min(HIGHEST),
        )
    }

    fn record(&mut self, place: usize, target: usize, granularity: usize) {
        let (first, last) = self.places.take().map_or((target, target), RangeInclusive::into_inner);
        self.places = Some(first.min(place)..=last.max(place));
        self.detour = if self.turns_back { self.detour / 2 } else { granularity.max(2 * self.detour) };
    }

    fn turn_back(&mut self) {
        self.turns_back = true;
        self.detour /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn best(gap: Range<usize>, size: usize) -> Option<usize> {
        let reach = Reach::new(64 * MIB as i64, 2 * MIB as i64).unwrap();
        let starts = reach.starts_in(gap, size, round_up(size, 4096), 4096)?;
        Some((64 * MIB).clamp(*starts.start(), *starts.end()))
    }

    #[test]
    fn the_place_nearest_to_the_target_is_chosen_if_its_last_byte_is_within_reach_too() {
        assert_eq!(best(MIB..100 * MIB, 4096), Some(64 * MIB));
        assert_eq!(best(65 * MIB..100 * MIB, 4096), Some(65 * MIB));
        assert_eq!(best(MIB..63 * MIB, 4096), Some(63 * MIB - 4096));
        assert_eq!(best(66 * MIB - 4096..100 * MIB, 4096), Some(66 * MIB - 4096));
        assert_eq!(best(66 * MIB - 4096..100 * MIB, 4097), Some(66 * MIB - 4096));
        assert_eq!(best(66 * MIB - 4096..100 * MIB, 4098), None);
        assert_eq!(best(0..62 * MIB + 4096, 4096), Some(62 * MIB));
        assert_eq!(best(0..62 * MIB, 4096), None);
        assert_eq!(best(64 * MIB..64 * MIB + 4096, 4097), None);
    }
}
