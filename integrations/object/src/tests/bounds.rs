//! A small file that asks for much is refused before anything of that size is allocated.

use super::patch::{Patch, SECTION_HEADER, prepare};
use crate::error::Error;
use crate::layout::ZEROED_LIMIT;
use execmem_object_samples as samples;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Fields of a section header.
const OFFSET: usize = 24;
const SIZE: usize = 32;

/// The system's allocator, which adds up what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator, which keeps the rules. Counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get() + layout.size());
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`, and the block is from the system's allocator.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Links a file, and checks that all allocations together are bounded by its size.
fn prepare_frugally(file: &[u8]) -> Result<Vec<u8>, Error> {
    ALLOCATED.set(0);
    let result = prepare(file);
    let allocated = ALLOCATED.get();
    assert!(allocated < 5 * file.len() + 65536, "{allocated} bytes for a file of {}", file.len());
    result
}

/// Both bundled samples with a megabyte of zeroes behind them, and where the zeroes start.
fn padded() -> [(Patch, u64); 2] {
    [0, 1].map(|which| {
        let mut file = Patch::new(samples::BUNDLED[which].1);
        let start = file.0.len().next_multiple_of(16);
        file.0.resize(start + (1 << 20), 0);
        (file, start as u64)
    })
}

/// A section's header for other bytes of the file.
fn header(file: &Patch, section: &str, offset: u64, size: u64) -> [u8; SECTION_HEADER] {
    let mut header = file.header(section);
    header[OFFSET..][..8].copy_from_slice(&offset.to_le_bytes());
    header[SIZE..][..8].copy_from_slice(&size.to_le_bytes());
    header
}

#[test]
fn sections_that_share_bytes_of_the_file_are_refused() {
    for (file, start) in padded() {
        for section in [".text", ".rodata", ".data"] {
            let same = [header(&file, section, start, 1 << 20); 2000];
            let half = |offset| header(&file, section, start + offset, 1 << 19);
            for headers in [&same[..], &[half(0), half((1 << 19) - 1)], &[half((1 << 19) - 1), half(0)]] {
                let error = prepare_frugally(&Patch::new(&file.0).add_headers(headers).0).unwrap_err();
                assert!(
                    matches!(&error, Error::Damaged(what) if what.contains("twice")),
                    "{section}: {error}"
                );
            }
            let apart = [half(1 << 19), half(0)];
            assert!(prepare_frugally(&Patch::new(&file.0).add_headers(&apart).0).is_ok(), "{section}");
        }
    }
}

#[test]
fn relocations_are_read_once() {
    for (file, start) in padded() {
        // Relocations that ask for nothing: no later check refuses those.
        let headers = [header(&file, ".rela.text", start, 24 * 40_000); 2000];
        let error = prepare_frugally(&file.add_headers(&headers).0).unwrap_err();
        assert!(matches!(&error, Error::Damaged(what) if what.contains("twice")), "{error}");
    }
}

#[test]
fn names_that_share_bytes_are_bounded_in_sum() {
    // A name that isn't UTF-8 is replaced by another. It must count with its own length.
    for letter in [b'x', 0xff] {
        for (mut file, start) in padded() {
            let end = file.0.len() - 1;
            file.0[start as usize..end].fill(letter);
            let strings = file.contents(".shstrtab");
            let at = file.section_header(".shstrtab") + SIZE;
            let file = file.put(at, &((end + 1 - strings) as u64).to_le_bytes());
            // A section's name is the first field of its header.
            let mut header = header(&file, ".text", start, 0);
            header[..4].copy_from_slice(&(start as u32 - strings as u32).to_le_bytes());
            let error = prepare_frugally(&file.add_headers(&[header; 2000]).0).unwrap_err();
            assert!(matches!(&error, Error::Damaged(what) if what.contains("names")), "{error}");
        }
    }
}

#[test]
fn zeroed_data_is_limited_and_is_not_made_of_bytes() {
    for (name, file) in samples::BUNDLED {
        let zeroed = |size: u64| {
            let file = Patch::new(file);
            let at = file.section_header(".bss") + SIZE;
            prepare_frugally(&file.put(at, &size.to_le_bytes()).0)
        };
        assert!(zeroed(ZEROED_LIMIT - (1 << 20)).is_ok(), "{name}");
        for size in [ZEROED_LIMIT + 1, i64::MAX as u64, u64::MAX] {
            assert_eq!(zeroed(size), Err(Error::TooMuchZeroed { limit: ZEROED_LIMIT }), "{name}");
        }
        // So is the sum of many sections.
        let file = Patch::new(file);
        let headers = [header(&file, ".bss", 0, ZEROED_LIMIT / 100); 101];
        assert_eq!(
            prepare_frugally(&file.add_headers(&headers).0),
            Err(Error::TooMuchZeroed { limit: ZEROED_LIMIT }),
            "{name}"
        );
    }
}
