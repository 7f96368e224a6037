//! Clusters: ranges of addresses, no longer than a direct branch reaches, in which memory is placed.
//!
//! From any byte in a cluster a direct branch reaches any other one. What has to be near something else, far from all
//! clusters, is in none.

use crate::near::Reach;
use core::ops::Range;

/// How far a direct call reaches both ways: `bl` on aarch64 (128 MiB), `call rel32` on x86-64 (2 GiB), `auipc` with `jalr`
/// on riscv64 (2 GiB up and down from 2 KiB below: the lower 12 bits have a sign).
const REACH: usize = match () {
    () if cfg!(target_arch = "aarch64") => 128 << 20,
    () if cfg!(target_arch = "riscv64") => (2 << 30) - (2 << 10),
    () => 2 << 30,
};

/// The most clusters at once. What would be another one's is in none.
const MOST: usize = 16;

/// All clusters, by number.
#[derive(Clone)]
pub(crate) struct Clusters([Cluster; MOST]);

/// It grows with each that joins, and ends with the last one that leaves.
#[derive(Clone)]
struct Cluster {
    addresses: Range<usize>,
    members: u32,
}

impl Cluster {
    const EMPTY: Self = Self { addresses: Range { start: usize::MAX, end: 0 }, members: 0 };

    fn with(&self, pages: &Range<usize>) -> Range<usize> {
        self.addresses.start.min(pages.start)..self.addresses.end.max(pages.end)
    }
}

impl Clusters {
    /// No cluster's number.
    pub(crate) const NONE: usize = MOST;

    pub(crate) const fn new() -> Self {
        Self([const { Cluster::EMPTY }; MOST])
    }

    /// The addresses of each that there is.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range<usize>> {
        self.0.iter().filter(|cluster| cluster.members > 0).map(|cluster| &cluster.addresses)
    }

    /// Enters pages in the cluster that they are within reach of all of, or else in a new one, if they `may_open` it and are
    /// no longer than one. Its number, or [`NONE`](Self::NONE).
    pub(crate) fn join(&mut self, pages: &Range<usize>, may_open: bool) -> usize {
        let joins = |cluster: &Cluster| cluster.members > 0 && cluster.with(pages).len() <= REACH;
        let opens = |cluster: &Cluster| may_open && pages.len() <= REACH && cluster.members == 0;
        let joined = self.0.iter().position(joins).or_else(|| self.0.iter().position(opens));
        if let Some(cluster) = joined.and_then(|number| self.0.get_mut(number)) {
            *cluster = Cluster { addresses: cluster.with(pages), members: cluster.members + 1 };
        }
        joined.unwrap_or(Self::NONE)
    }

    /// What [`join`](Self::join) gave this number for is gone.
    pub(crate) fn leave(&mut self, number: usize) {
        if let Some(cluster) = self.0.get_mut(number) {
            cluster.members -= 1;
            if cluster.members == 0 {
                *cluster = Cluster::EMPTY;
            }
        }
    }
}

/// Where pages are within reach of all of a cluster.
pub(crate) fn within_reach_of(cluster: &Range<usize>) -> Reach {
    Reach::between(cluster.end.saturating_sub(REACH), cluster.start.saturating_add(REACH))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn pages_join_the_cluster_that_they_are_within_reach_of_all_of_or_open_one() {
        let (start, page) = (1 << 40, 4096);
        let cluster = start..start + page;
        let mut clusters = Clusters::new();
        assert_eq!((clusters.join(&cluster, false), clusters.join(&cluster, true)), (Clusters::NONE, 0));
        let joined = |place, may_open| clusters.clone().join(&(place..place + page), may_open);
        for place in [start + page, start + REACH - page, start + page - REACH] {
            assert_eq!((joined(place, false), joined(place, true)), (0, 0));
            assert!(within_reach_of(&cluster).holds(place, page));
        }
        for place in [start + REACH - page + 1, start + page - REACH - 1] {
            assert_eq!((joined(place, false), joined(place, true)), (Clusters::NONE, 1));
            assert!(!within_reach_of(&cluster).holds(place, page));
        }
    }

    #[test]
    fn a_cluster_ends_with_the_last_that_leaves() {
        let mut clusters = Clusters::new();
        let pages = |number: usize| number << 40..(number << 40) + 4096;
        let numbers = [1, 1, 2].map(|number| clusters.join(&pages(number), true));
        assert_eq!(numbers, [0, 0, 1]);
        clusters.leave(0);
        clusters.leave(Clusters::NONE);
        assert_eq!(clusters.iter().cloned().collect::<Vec<_>>(), [pages(1), pages(2)]);
        clusters.leave(0);
        assert_eq!(clusters.iter().cloned().collect::<Vec<_>>(), [pages(2)]);
        assert_eq!(clusters.join(&pages(3), true), 0);
    }

    #[test]
    fn what_is_too_long_or_comes_when_all_are_in_use_is_in_none() {
        let mut clusters = Clusters::new();
        assert_eq!(clusters.join(&(1 << 40..(1 << 40) + REACH + 1), true), Clusters::NONE);
        let numbers: Vec<_> =
            (1..=MOST + 1).map(|n| clusters.join(&(n << 40..(n << 40) + 4096), true)).collect();
        assert_eq!(numbers, (0..MOST).chain([Clusters::NONE]).collect::<Vec<_>>());
    }
}
