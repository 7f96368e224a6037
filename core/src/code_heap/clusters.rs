//! Where chunks lie: near enough to each other that any block reaches any other by a direct branch.
//!
//! A cluster is a stretch of addresses, no longer than such a branch reaches, that holds chunks. The next chunk is
//! asked for behind the last one of the newest cluster, then anywhere within reach of a cluster, then elsewhere, which
//! makes a new one. A chunk that has to be near something else, far from all clusters, is in none; so is one for which
//! the table has no entry left.

use super::blocks::LONGEST_SHARED;
use super::chunk::LONGEST_CHUNK;

/// How far a direct call reaches: `bl` on aarch64 (±128 MiB), `call rel32` on x86-64 and `auipc` with
/// `jalr` on riscv64 (±2 GiB).
pub(super) const REACH: usize = if cfg!(target_arch = "aarch64") { 128 << 20 } else { 2 << 30 };

/// So far below the place that the system would have chosen the first chunk of a cluster goes. Systems
/// place mappings from the top down, also the second views: they must not fill the room between chunks.
pub(super) const HEADROOM: usize = 256 << 20;

/// Chunks are placed at multiples of this where possible, smaller ones at multiples of about their length: so they are
/// whole entries of a page table and of the page map, and no two share a place among those that were found last.
pub(super) const ALIGNMENT: usize = LONGEST_CHUNK;

const MOST: usize = 16;

/// Stands for the cluster of a chunk that is in none.
pub(super) const NO_CLUSTER: u32 = u32::MAX;

/// A stretch of addresses that holds chunks.
#[derive(Clone, Copy)]
struct Cluster {
    low: usize,
    high: usize,
    /// 0: the entry is unused.
    chunks: u32,
}

/// All clusters of a process.
pub(super) struct Clusters {
    all: [Cluster; MOST],
    newest: usize,
}

impl Clusters {
    pub(super) const fn new() -> Self {
        Self { all: [Cluster { low: 0, high: 0, chunks: 0 }; MOST], newest: 0 }
    }

    /// How many hold chunks.
    pub(super) fn count(&self) -> usize {
        self.all.iter().filter(|cluster| cluster.chunks > 0).count()
    }

    /// An address behind the newest cluster's chunks, for another one.
    pub(super) fn next_place(&self, length: usize) -> Option<usize> {
        let newest = self.all.get(self.newest).filter(|cluster| cluster.chunks > 0)?;
        newest.high.checked_next_multiple_of(length.next_power_of_two().min(ALIGNMENT))
    }

    /// Where a chunk could lie to be within reach of all of a cluster: lowest and highest address.
    pub(super) fn window(&self, index: usize) -> Option<(usize, usize)> {
        let cluster = self.all.get(index)?;
        if cluster.chunks == 0 {
            return None;
        }
        Some((cluster.high.saturating_sub(REACH).max(LONGEST_SHARED), cluster.low.saturating_add(REACH)))
    }

    pub(super) const fn indices() -> core::ops::Range<usize> {
        0..MOST
    }

    /// Enters a chunk into the cluster that it is within reach of.
    pub(super) fn admit(&mut self, start: usize, length: usize) -> Option<u32> {
        let end = start + length;
        let fits =
            |cluster: &Cluster| cluster.chunks > 0 && cluster.high.max(end) - cluster.low.min(start) <= REACH;
        let index = self.all.iter().position(fits)?;
        let cluster = self.all.get_mut(index)?;
        cluster.low = cluster.low.min(start);
        cluster.high = cluster.high.max(end);
        cluster.chunks += 1;
        Some(index as u32)
    }

    /// Enters a chunk into the cluster that it is within reach of, or into a new one.
    pub(super) fn admit_or_open(&mut self, start: usize, length: usize) -> u32 {
        self.admit(start, length).or_else(|| self.open(start, length)).unwrap_or(NO_CLUSTER)
    }

    fn open(&mut self, start: usize, length: usize) -> Option<u32> {
        let index = self.all.iter().position(|cluster| cluster.chunks == 0)?;
        *self.all.get_mut(index)? = Cluster { low: start, high: start + length, chunks: 1 };
        self.newest = index;
        Some(index as u32)
    }

    /// In a forked child: no cluster has a chunk until each is [counted](Self::count_again).
    pub(super) fn forget_chunks(&mut self) {
        self.all.iter_mut().for_each(|cluster| cluster.chunks = 0);
    }

    pub(super) fn count_again(&mut self, index: u32) {
        if let Some(cluster) = self.all.get_mut(index as usize) {
            cluster.chunks += 1;
        }
    }

    /// A chunk is gone. A cluster ends with its last chunk.
    pub(super) fn leave(&mut self, index: u32) {
        if let Some(cluster) = self.all.get_mut(index as usize) {
            cluster.chunks = cluster.chunks.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: usize = 1 << 40;

    #[test]
    fn whatever_is_admitted_is_within_reach_of_everything_else_in_the_cluster() {
        let mut all = Clusters::new();
        assert_eq!(all.admit(START, ALIGNMENT), None);
        assert_eq!(all.open(START, ALIGNMENT), Some(0));
        assert_eq!(all.admit(START + REACH - ALIGNMENT, ALIGNMENT), Some(0));
        assert_eq!(all.admit(START + REACH, ALIGNMENT), None);
        assert_eq!(all.admit(START - 1, 1), None);
        assert_eq!(all.open(START + REACH, ALIGNMENT), Some(1));
        assert_eq!((all.count(), all.window(0)), (2, Some((START, START + REACH))));
    }

    #[test]
    fn the_next_chunk_lies_behind_the_last_one_as_its_length_wants() {
        let mut all = Clusters::new();
        assert_eq!(all.next_place(ALIGNMENT), None);
        all.open(START, 4096);
        for (length, behind) in
            [(4096, 4096), (3 * 4096, 4 * 4096), (ALIGNMENT, ALIGNMENT), (5 * ALIGNMENT, ALIGNMENT)]
        {
            assert_eq!(all.next_place(length), Some(START + behind));
        }
    }

    #[test]
    fn a_cluster_ends_with_its_last_chunk_and_its_entry_serves_again() {
        let mut all = Clusters::new();
        let place = |index: usize| START + 2 * REACH * index;
        for index in 0..MOST {
            assert_eq!(all.admit_or_open(place(index), ALIGNMENT), index as u32);
        }
        assert_eq!(all.admit_or_open(place(MOST), ALIGNMENT), NO_CLUSTER);
        all.leave(NO_CLUSTER);
        assert_eq!(all.admit(place(3) + ALIGNMENT, ALIGNMENT), Some(3));
        all.leave(3);
        assert_eq!(all.count(), MOST);
        all.leave(3);
        assert_eq!((all.count(), all.admit(place(3), ALIGNMENT)), (MOST - 1, None));
        assert_eq!(all.admit_or_open(place(MOST), ALIGNMENT), 3);
    }
}
