//! What cores would execute: instruction caches that forget nothing until they are told to.

use execmem_core::icache::TRAP;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What was never fetched is passed over in pieces of this length.
const LINE: usize = 64;

/// A page as cores fetch it.
struct Page {
    /// This core's bytes; zeros where nothing was ever flushed.
    here: Box<[u8]>,
    /// Those of all others.
    elsewhere: Box<[u8]>,
    /// 1 where something was flushed, so that a core may have fetched it as code.
    known: Box<[u8]>,
}

/// The instruction caches of this core and of all others.
pub(crate) struct Caches {
    page_size: usize,
    pages: BTreeMap<usize, Page>,
    /// Pages that may differ between this core and the others.
    changed: BTreeSet<usize>,
}

impl Caches {
    pub(crate) fn new(page_size: usize) -> Self {
        Self { page_size, pages: BTreeMap::new(), changed: BTreeSet::new() }
    }

    /// This core fetches `bytes` at `address` from now on. So do the others, unless they may have fetched
    /// from there before: then only after [`synchronize`](Self::synchronize).
    pub(crate) fn flush(&mut self, address: usize, bytes: &[u8]) {
        let empty = || vec![0; self.page_size].into_boxed_slice();
        let mut rest = bytes;
        for (page, part) in parts(address, bytes.len(), self.page_size) {
            let (bytes, behind) = rest.split_at(part.len());
            rest = behind;
            let lines = || Page { here: empty(), elsewhere: empty(), known: empty() };
            let Page { here, elsewhere, known } = self.pages.entry(page).or_insert_with(lines);
            here[part.clone()].copy_from_slice(bytes);
            // Whole slices where it can be done: this runs in unoptimized tests, and under Miri.
            if !known[part.clone()].contains(&1) {
                elsewhere[part.clone()].copy_from_slice(bytes);
            } else if known[part.clone()].contains(&0) {
                for at in part.clone().filter(|at| known[*at] == 0) {
                    elsewhere[at] = here[at];
                }
            }
            // Nobody jumps to traps.
            if !bytes.chunks(TRAP.len()).all(|word| word == TRAP) {
                known[part].fill(1);
            }
            self.changed.insert(page);
        }
    }

    /// The other cores drop what they have fetched. Traps they don't fetch again: nobody jumps to freed code.
    pub(crate) fn synchronize(&mut self) {
        for page in std::mem::take(&mut self.changed) {
            if let Some(Page { here, elsewhere, known }) = self.pages.get_mut(&page) {
                elsewhere.copy_from_slice(here);
                for (known, here) in known.chunks_mut(LINE).zip(here.chunks(LINE)) {
                    if *known != [0; LINE] {
                        forget_traps(known, here);
                    }
                }
            }
        }
    }

    /// Unmapping interrupts every core and invalidates the addresses.
    pub(crate) fn forget(&mut self, start: usize, end: usize) {
        let dead: Vec<usize> = self.pages.range(start..end).map(|(page, _)| *page).collect();
        dead.iter().for_each(|page| drop(self.pages.remove(page)));
    }

    /// What a core would execute; zeros where nothing was ever flushed.
    pub(crate) fn executed(&self, address: usize, length: usize, is_here: bool) -> Vec<u8> {
        let mut executed = Vec::with_capacity(length);
        for (page, part) in parts(address, length, self.page_size) {
            match self.pages.get(&page) {
                Some(page) if is_here => executed.extend_from_slice(&page.here[part]),
                Some(page) => executed.extend_from_slice(&page.elsewhere[part]),
                None => executed.resize(executed.len() + part.len(), 0),
            }
        }
        executed
    }
}

/// Takes traps for not fetched.
fn forget_traps(known: &mut [u8], here: &[u8]) {
    let (instructions, _) = here.as_chunks::<{ TRAP.len() }>();
    let (known, _) = known.as_chunks_mut::<{ TRAP.len() }>();
    for (known, instruction) in known.iter_mut().zip(instructions) {
        if *instruction == TRAP {
            *known = [0; TRAP.len()];
        }
    }
}

/// The pages that a range touches, each with the part of it that is touched.
fn parts(address: usize, length: usize, page_size: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let end = address + length;
    let first = address & !(page_size - 1);
    (first..end).step_by(page_size).map(move |page| {
        let part = address.max(page) - page..end.min(page + page_size) - page;
        (page, part)
    })
}
