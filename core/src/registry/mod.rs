//! The allocation registry: which addresses are ours, what they allow, and who is using them now.
//!
//! Lookups of a page are lock-free. Everything else takes one lock for a short time, and no system call is
//! made under it, except to get memory for the registry's own records, and around a fork. An operation on a region
//! *claims* it: shared for copies and hints, exclusive for changes of protection and release.

mod claim;
mod fork;
mod page_map;
mod region;

pub use claim::{Access, Claim};
pub(crate) use fork::Frozen;
use fork::Note;
pub use page_map::Page;
pub use region::{Kind, Region};

use crate::error::Error;
use crate::lock::{Guard, Lock};
use crate::memory::{Index, Pool, Slots, UNIT};
use crate::platform::Platform;
use crate::protection::Protection;
use crate::span::Span;
use claim::{Use, Wakeups};
use core::ops::Range;
use page_map::{ADDRESS_END, PageMap};

/// Which live region an operation is for. Any other one is *not owned*.
#[derive(Clone, Copy)]
pub enum Wanted {
    /// The one whose pages hold these bytes: for protection, lock, advice and sync a region ends with its last
    /// page (rule 4 of the contract).
    Pages(Span),
    /// The one that holds the address, if the bytes lie inside its requested size: for reads and writes.
    Bytes(usize, Span),
    /// Code or data memory that starts there and has that size, or that rounded up to pages.
    ExecMemory(Span),
    /// The mapping of exactly these bytes.
    Mapping(Span),
    /// A code heap's chunk that starts there: they are nobody's but the heap's.
    HeapChunk(usize),
}

impl Wanted {
    fn address(self) -> usize {
        match self {
            Self::Pages(span) | Self::ExecMemory(span) | Self::Mapping(span) => span.start(),
            Self::Bytes(address, _) | Self::HeapChunk(address) => address,
        }
    }

    fn check(self, region: &Region, page_size: usize) -> Result<(), Error> {
        let pages = region.pages(page_size);
        let requested = region.requested();
        let (is_it, has_size) = match self {
            Self::Pages(span) => (region.kind != Kind::HeapChunk && pages.contains(span), true),
            Self::Bytes(address, span) => {
                let holds = requested.contains(span) && requested.range().contains(&address);
                (region.kind != Kind::HeapChunk && holds, true)
            }
            Self::ExecMemory(span) => {
                let has_size = span.length() == region.size || span.length() == pages.length();
                (region.kind.is_exec_memory() && region.base == span.start(), has_size)
            }
            Self::Mapping(span) => {
                (region.kind.is_mapping() && region.base == span.start(), span.length() == region.size)
            }
            Self::HeapChunk(base) => (region.kind == Kind::HeapChunk && region.base == base, true),
        };
        match (is_it, has_size) {
            (true, true) => Ok(()),
            (true, false) => Err(Error::WrongSize),
            (false, _) => Err(Error::NotOwned),
        }
    }
}

/// All live regions.
pub struct Registry {
    pages: PageMap,
    records: Lock<Records>,
    wakeups: Wakeups,
}

struct Records {
    regions: Slots<Record>,
    pool: Pool,
    /// Threads that wait for a claim.
    waiters: usize,
    /// Around a fork: what was copied for the child.
    notes: Slots<Note>,
}

/// A live region, and who uses it.
#[derive(Clone, Copy)]
struct Record {
    region: Region,
    usage: Use,
}

// Measured against the bound that the project sets itself: at most 64 bytes for a region's record,
// the eight bytes of the table's slot included.
const _: () = assert!(size_of::<Record>() <= 56);

impl Registry {
    /// An empty registry.
    pub const fn new() -> Self {
        Self {
            pages: PageMap::new(),
            records: Lock::new(Records {
                regions: Slots::new(),
                pool: Pool::new(),
                waiters: 0,
                notes: Slots::new(),
            }),
            wakeups: Wakeups::new(),
        }
    }

    fn records<P: Platform>(&self, platform: P) -> Guard<'_, Records, P> {
        self.records.lock(platform)
    }

    /// What is known of the page at an address, if it is ours. Takes no lock.
    #[inline]
    pub fn page(&self, address: usize) -> Option<Page> {
        self.pages.get(address)
    }

    /// Runs of equal pages in a range, in address order. Takes no lock; each run was true when it was read.
    pub fn runs(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        self.pages.runs(range)
    }

    /// Runs of equal pages of all regions and views, in address order. Takes no lock.
    pub fn all_runs(&self) -> impl Iterator<Item = (Range<usize>, Page)> + '_ {
        self.pages.runs(0..ADDRESS_END)
    }

    /// A copy of the record of a page's region.
    pub fn region_of(&self, page: Page, platform: impl Platform) -> Option<Region> {
        Some(self.records(platform).regions.get(page.region)?.region)
    }

    /// Bytes of memory that the registry's own records take.
    pub fn record_bytes(&self, platform: impl Platform) -> usize {
        self.records(platform).pool.mapped()
    }

    /// Adds a region whose pages have `protection`. Where it can't, nothing has changed.
    pub fn insert(
        &self,
        region: Region,
        protection: Protection,
        platform: impl Platform,
    ) -> Result<(), Error> {
        let page_size = platform.page_size();
        let mut records = self.records(platform);
        let Records { regions, pool, .. } = &mut *records;
        let mut reserve = |view: Span| self.pages.reserve(view.range(), &mut || pool.take(platform, UNIT));
        let is_reserved = region.all_views(page_size).try_for_each(&mut reserve);
        let index = is_reserved
            .and_then(|()| regions.insert(Record { region, usage: Use::default() }, pool, platform));
        let index = index.inspect_err(|_| {
            for view in region.all_views(page_size) {
                self.pages.unreserve(view.range());
            }
        })?;
        self.fill_views(index, &region, page_size);
        let page = Page { protection, region: index, is_other_view: false, chunk: region.chunk };
        self.pages.fill(region.pages(page_size).range(), page);
        Ok(())
    }

    /// Makes a later [`record`](Self::record) of live regions' pages unable to fail.
    pub(crate) fn prepare(&self, pages: Span, platform: impl Platform) -> Result<(), Error> {
        let mut records = self.records(platform);
        self.pages.reserve(pages.range(), &mut || records.pool.take(platform, UNIT))
    }

    /// Records what live regions' pages, which were prepared, allow now.
    pub(crate) fn record(&self, pages: Span, protection: Protection, platform: impl Platform) {
        let _writer = self.records(platform);
        self.pages.update(pages.range(), |page| Page { protection, ..page });
    }

    fn fill_views(&self, index: Index, region: &Region, page_size: usize) {
        for (view, protection) in region.other_views(page_size) {
            let page = Page { protection, region: index, is_other_view: true, chunk: region.chunk };
            self.pages.fill(view.range(), page);
        }
    }
}
