//! On a Linux host: tables that no core uses, in memory at addresses of 39 bits.

use super::*;
use std::vec::Vec;

const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;
const ARENA: Range<usize> = 0x60_0000_0000..0x60_0000_0000 + 4 * MIB;

/// Zeroed memory at an address that nobody else uses.
fn memory(pages: usize) -> Range<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0x50_0000_0000);
    let start = NEXT.fetch_add(GIB, Ordering::Relaxed);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let at = ptr::with_exposed_provenance_mut(start);
    // SAFETY: a new mapping, which replaces none.
    let mapped = unsafe { libc::mmap(at, pages * PAGE_SIZE, protection, flags, -1, 0) };
    assert_eq!(mapped.expose_provenance(), start);
    start..start + pages * PAGE_SIZE
}

fn built(kernel: &[(Range<usize>, Usage)], memory: Range<usize>) -> (IdentityTables, Range<usize>) {
    let tables = IdentityTables::new();
    // SAFETY: the memory is ours; no core uses the tables.
    let rest = unsafe { tables.build(kernel, ARENA, memory) }.unwrap();
    (tables, rest)
}

/// The descriptor of a page of the library's.
fn leaf(tables: &IdentityTables, page: usize) -> usize {
    let (descriptor, level) = tables.descriptor(page);
    assert_eq!(level, LEAF_LEVEL);
    descriptor
}

#[test]
fn descriptors_have_the_bits_of_the_architecture() {
    // Bits of the Arm ARM (DDI 0487), D8.3.2: UXN 54, PXN 53, AF 10, SH 9:8, AP[2] 7, AttrIndx 4:2, page 1:0;
    // bit 55 is ours.
    let (tables, _) = built(&[], memory(16));
    let page = ARENA.start + 5 * PAGE_SIZE;
    let frame = 0x4321_0000;
    let shared = 1 << 55 | 1 << 54 | 1 << 10 | 3 << 8 | 1 << 2 | frame | 0b10;
    for (protection, bits) in [
        (Protection::RW, 1 << 53 | 1),
        (Protection::READ, 1 << 53 | 1 << 7 | 1),
        (Protection::RX, 1 << 7 | 1),
        (Protection::EXEC, 1 << 7 | 1),
        (Protection::WRITE, 1 << 53 | 1),
        (Protection::NONE, 1 << 53 | 1 << 7),
    ] {
        // SAFETY: no core uses the tables.
        unsafe { tables.map(page, frame, protection) }.unwrap();
        assert_eq!(leaf(&tables, page), shared | bits, "mapped {protection:?}");
        // SAFETY: no core uses the tables.
        unsafe { tables.protect(page..page + PAGE_SIZE, Protection::RW) }.unwrap();
        assert_eq!(leaf(&tables, page), shared | 1 << 53 | 1);
        // SAFETY: no core uses the tables.
        unsafe { tables.protect(page..page + PAGE_SIZE, protection) }.unwrap();
        assert_eq!(leaf(&tables, page), shared | bits, "changed to {protection:?}");
        assert_eq!(tables.frame(page), Some(frame));
        let mut released = Vec::new();
        // SAFETY: no core uses the tables.
        unsafe { tables.unmap(page..page + PAGE_SIZE, &mut |frame| released.push(frame)) }.unwrap();
        assert_eq!((leaf(&tables, page), released), (0, [frame].to_vec()));
    }
}

#[test]
fn landing_pads_are_asked_for_with_the_guarded_page_bit_and_kept() {
    let (tables, _) = built(&[], memory(16));
    let page = ARENA.start;
    tables.set_landing_pads(true);
    // SAFETY: no core uses the tables.
    unsafe { tables.map(page, 0x4000_0000, Protection::RW) }.unwrap();
    tables.set_landing_pads(false);
    // SAFETY: no core uses the tables.
    unsafe { tables.protect(page..page + PAGE_SIZE, Protection::RX) }.unwrap();
    assert_eq!(leaf(&tables, page) >> 50 & 1, 1);
    // SAFETY: no core uses the tables.
    unsafe { tables.map(page + PAGE_SIZE, 0x4000_1000, Protection::RX) }.unwrap();
    assert_eq!(leaf(&tables, page + PAGE_SIZE) >> 50 & 1, 0);
}

#[test]
fn a_query_merges_equal_neighbours_and_skips_what_is_not_mapped() {
    let kernel = [
        (0..GIB, Usage::Device),
        (GIB..GIB + 128 * MIB, Usage::Data),
        (GIB + 512 * 1024..GIB + 768 * 1024, Usage::Code),
        (GIB + 768 * 1024..GIB + MIB, Usage::Constants),
    ];
    let memory = memory(32);
    let (tables, rest) = built(&kernel, memory.clone());
    for (index, protection) in [Protection::RX, Protection::RX, Protection::NONE].into_iter().enumerate() {
        let page = ARENA.start + (7 + index) * PAGE_SIZE;
        // SAFETY: no core uses the tables.
        unsafe { tables.map(page, 0x4000_0000, protection) }.unwrap();
    }
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(Mapping { start, end, protection }) = tables.next(from) {
        found.push((start..end, protection));
        from = end;
    }
    let page = |index| ARENA.start + index * PAGE_SIZE;
    let code = GIB + 512 * 1024;
    let expected = [
        (0..code, Protection::RW),
        (code..code + 256 * 1024, Protection::RX),
        (code + 256 * 1024..GIB + MIB, Protection::READ),
        (GIB + MIB..GIB + 128 * MIB, Protection::RW),
    ];
    assert_eq!(found[..4], expected);
    let tables_end = found[4].0.end;
    assert_eq!(found[4], (memory.start..tables_end, Protection::RW));
    assert!(rest.start <= tables_end && tables_end < memory.end);
    assert_eq!(found[5..], [(page(7)..page(9), Protection::RX), (page(9)..page(10), Protection::NONE)]);
}

#[test]
fn so_many_tables_are_counted_as_are_made_at_most() {
    // `build` would panic in `allocate_table` if they were more. Edges in every position of a table.
    let edges = [0, PAGE_SIZE, 2 * MIB - PAGE_SIZE, 2 * MIB, GIB - PAGE_SIZE, GIB, GIB + PAGE_SIZE, 3 * GIB];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end > start) {
            let tables = IdentityTables::new();
            let kernel = [(start..end, Usage::Data), (start..start + PAGE_SIZE, Usage::Code)];
            // SAFETY: the memory is ours; no core uses the tables.
            let rest = unsafe { tables.build(&kernel, 5 * GIB + start..5 * GIB + end, memory(2048)) };
            assert!(rest.is_ok(), "{start:#x}..{end:#x}");
        }
    }
}

#[test]
fn what_can_not_be_built_is_an_error() {
    let refused = |kernel: &[(Range<usize>, Usage)], arena: Range<usize>, memory| {
        // SAFETY: the memory is ours; no core uses the tables.
        unsafe { IdentityTables::new().build(kernel, arena, memory) }.unwrap_err()
    };
    assert_eq!(refused(&[], ARENA, memory(4)), Error::NoMemory);
    for range in [1..PAGE_SIZE, 0..1, PAGE_SIZE..PAGE_SIZE, 0..ADDRESS_END + PAGE_SIZE] {
        assert_eq!(refused(&[(range.clone(), Usage::Data)], ARENA, memory(16)), Error::InvalidArgument);
        assert_eq!(refused(&[], range, memory(16)), Error::InvalidArgument);
    }
    let (tables, _) = built(&[], memory(16));
    // SAFETY: no core uses the tables.
    assert_eq!(unsafe { tables.build(&[], ARENA, memory(16)) }, Err(Error::Refused));
}
