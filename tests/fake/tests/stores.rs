//! Stores that are not allowed are seen, wherever the page is.

use execmem_core::{Protection, Runtime};
use execmem_fake::Fake;

fn poke(address: usize) {
    // SAFETY: the platform's memory is always there.
    unsafe { core::ptr::with_exposed_provenance_mut::<u8>(address).write(7) };
}

#[test]
fn a_store_to_a_page_that_was_unmapped_is_seen_between_other_pages_and_behind_them() {
    for freed in 0..3 {
        let fake = Fake::new();
        let runtime = Runtime::new(fake.platform());
        let pages = [(); 3].map(|()| runtime.alloc_rw(4096).unwrap());
        runtime.free_exec(pages[freed] as i64, 4096).unwrap();
        assert_eq!(fake.take_violations(), [""; 0]);
        poke(pages[freed] + 100);
        assert_eq!(fake.take_violations(), [format!("a store to {:#x}, which is not mapped", pages[freed])]);
    }
}

#[test]
fn a_store_to_a_page_that_is_only_read_is_seen() {
    let fake = Fake::new();
    let runtime = Runtime::new(fake.platform());
    let page = runtime.alloc_rw(4096).unwrap();
    poke(page);
    assert_eq!(fake.take_violations(), [""; 0]);
    runtime.set_protection(page as i64, 4096, Protection::READ).unwrap();
    poke(page + 100);
    let range = page..page + 4096;
    assert_eq!(fake.take_violations(), [format!("a store to {range:#x?}, which is r--")]);
}
