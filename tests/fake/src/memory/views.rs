//! Memory with several views, each a buffer of its own: what is stored through one shows in the others.

use super::{Area, Kind, Space};
use crate::bytes;
use std::ops::Range;

/// The bytes as the last store left them.
pub(super) type Memory = Vec<u8>;

impl Space {
    /// Memory for [`Kind::View`].
    pub(crate) fn new_memory(&mut self, contents: Memory) -> usize {
        self.next_memory += 1;
        self.memories.insert(self.next_memory, contents);
        self.next_memory
    }

    /// Looks for forbidden stores in a range. Stores through writable views of the memory that it shows reach
    /// that memory, and the other writable views.
    pub(crate) fn settle(&mut self, range: Range<usize>) {
        self.check_snapshots(range.clone());
        for (_, memory, shown) in self.views_in(range) {
            let writable = self.writable_views(memory, &shown);
            let Some(contents) = self.memories.get_mut(&memory) else { continue };
            if let [(address, part)] = &writable[..] {
                contents[part.clone()].copy_from_slice(&bytes::read(*address, part.len()));
                continue;
            }
            let before = contents[shown.clone()].to_vec();
            for (address, part) in &writable {
                if bytes::equal(*address, &before[part.start - shown.start..part.end - shown.start]) {
                    continue;
                }
                for (at, byte) in part.clone().zip(bytes::read(*address, part.len())) {
                    if byte != before[at - shown.start] {
                        contents[at] = byte;
                    }
                }
            }
            for (address, part) in writable {
                bytes::write(address, &contents[part]);
            }
        }
    }

    /// Makes views in a range show what their memory holds.
    pub(crate) fn show(&mut self, range: Range<usize>) {
        for (address, memory, shown) in self.views_in(range.clone()) {
            bytes::write(address, &self.memories[&memory][shown]);
        }
        self.take_snapshot(range);
    }

    /// What a part of a memory with several views holds.
    pub(crate) fn contents(&self, memory: usize, part: Range<usize>) -> &[u8] {
        &self.memories[&memory][part]
    }

    /// The parts of a range that show a memory with several views: address, memory, part of the memory.
    pub(crate) fn views_in(&self, range: Range<usize>) -> Vec<(usize, usize, Range<usize>)> {
        let mut views: Vec<(usize, usize, Range<usize>)> = Vec::new();
        for (part, area) in self.areas_in(range) {
            let Kind::View { memory, offset } = area.kind_at(part.start) else { continue };
            match views.last_mut() {
                // Areas that differ in protection only.
                Some((start, other, shown))
                    if *other == memory && shown.end == offset && *start + shown.len() == part.start =>
                {
                    shown.end += part.len();
                }
                _ => views.push((part.start, memory, offset..offset + part.len())),
            }
        }
        views
    }

    /// Where a part of a memory can be written: address, part of the memory.
    fn writable_views(&self, wanted: usize, shown: &Range<usize>) -> Vec<(usize, Range<usize>)> {
        let view = |area: &Area| match area.kind {
            Kind::View { memory, offset } if memory == wanted && area.may_store() => {
                let part = offset.max(shown.start)..(offset + area.end - area.start).min(shown.end);
                (!part.is_empty()).then(|| (area.start + part.start - offset, part))
            }
            _ => None,
        };
        self.areas.values().filter_map(view).collect()
    }
}
