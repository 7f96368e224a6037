//! What a failing call must leave as it was: contract, section 1.2.

use crate::memory::{page, statistics, word};
use crate::symbols::*;
use crate::verdict::{Stop, Verdict};
use core::panic::Location;
use execmem_core::abi::{RT_PROT_EXEC, RT_PROT_READ, RtExecMemoryStats};

/// Some memory that is watched: its address, and its size in bytes.
pub type Watched = (i64, i64);

/// So many pages are watched at most.
const PAGES: usize = 32;

/// Everything that a caller can see: bytes and protection of the watched pages, counts and figures. Calls
/// that failed are counted by the library, and it may keep memory for its own records: both are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    count: i64,
    total: i64,
    policy: i32,
    statistics: RtExecMemoryStats,
    pages: [Page; PAGES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Page {
    protection: i32,
    is_executable: bool,
    digest: u64,
}

impl Snapshot {
    /// Looks at the watched memory, page by page.
    pub fn of(watched: &[Watched]) -> Result<Self, Stop> {
        let mut pages = [Page::default(); PAGES];
        let addresses =
            watched.iter().flat_map(|(address, size)| (*address..*address + *size).step_by(page() as usize));
        for (slot, address) in pages.iter_mut().zip(addresses) {
            let protection = rt_get_protection(address);
            let is_readable = protection >= 0 && protection & RT_PROT_READ != 0;
            let digest = if is_readable { digest(address) } else { 0 };
            *slot = Page { protection, is_executable: rt_is_executable(address), digest };
        }
        Ok(Self {
            count: rt_exec_memory_count(),
            total: rt_exec_memory_total(),
            policy: rt_exec_memory_policy(),
            // What was learnt of the system on the way, and memory for records, may stay.
            statistics: RtExecMemoryStats {
                failed_calls: 0,
                record_bytes: 0,
                policy_trials: [0; 5],
                ..statistics()?
            },
            pages,
        })
    }

    /// The same but for the chunks of the code heap: those that are empty go back to the system where an allocation finds
    /// nothing, also if that doesn't help it.
    pub fn without_chunks(mut self) -> Self {
        self.statistics = RtExecMemoryStats {
            regions_by_protection: [0; 8],
            bytes_by_protection: [0; 8],
            mapped_bytes: 0,
            peak_mapped_bytes: 0,
            code_chunks: 0,
            code_chunk_bytes: 0,
            code_clusters: 0,
            ..self.statistics
        };
        // A page of theirs that holds no live block may be gone.
        for page in &mut self.pages {
            if page.protection == -1 || page.protection & RT_PROT_EXEC != 0 && !page.is_executable {
                *page = Page::default();
            }
        }
        self
    }

    /// States that nothing is different now.
    #[track_caller]
    pub fn expect_unchanged(&self, watched: &[Watched], what: &'static str) -> Verdict {
        let place = Location::caller();
        let now = Self::of(watched)?;
        if now == *self {
            return Ok(());
        }
        for (index, (before, after)) in self.pages.iter().zip(&now.pages).enumerate() {
            if before != after {
                let bytes = if before.digest == after.digest { "same" } else { "changed" };
                let (was, is) = (before.protection, after.protection);
                let found = format_args!(" changed page {index}: protection {was}, then {is}; bytes {bytes}");
                return Err(Stop::failed(place, what, found));
            }
        }
        let figures = |of: &Self| [of.count, of.total, of.statistics.mapped_bytes, of.policy as i64];
        let found = format_args!(" changed figures: {:?}, then {:?}", figures(self), figures(&now));
        Err(Stop::failed(place, what, found))
    }
}

/// FNV-1a over a page, word by word.
fn digest(address: i64) -> u64 {
    let start = address / page() * page();
    (start..start + page())
        .step_by(8)
        .fold(0xcbf2_9ce4_8422_2325, |hash, at| (hash ^ word(at)).wrapping_mul(0x100_0000_01b3))
}

/// States that a call fails with this value and code, and has changed nothing that is watched:
/// `check_harmless!(watched, call, failure, code)`.
macro_rules! check_harmless {
    ($watched:expr, $call:expr, $failure:expr, $code:expr) => {
        let before = $crate::snapshot::Snapshot::of($watched)?;
        $crate::verdict::check_fails!($call, $failure, $code);
        before.expect_unchanged($watched, stringify!($call))?;
    };
}

pub(crate) use check_harmless;
