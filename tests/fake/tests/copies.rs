//! Copies that a file's end decides about.

use execmem_core::platform::FilePart;
use execmem_core::platform::Pages;
use execmem_core::{Error, Protection};
use execmem_fake::{Call, Fake};

const PAGE: usize = 4096;

#[test]
fn a_copy_fails_where_the_file_of_either_side_has_become_too_short() {
    let fake = Fake::with_page_size(PAGE);
    fake.add_file(c"file", &[7; 3 * PAGE]);
    let platform = fake.platform();
    let part = FilePart { offset: 0, length: 3 * PAGE, protection: Protection::RW, shared: true };
    let file = platform.map_file(c"file", true, &mut |_| Ok(part)).unwrap();
    let mut own = vec![9u8; 3 * PAGE];
    let here = own.as_mut_ptr().expose_provenance();
    // SAFETY: each side is the mapping or the vector.
    let copy = |source, target, length| unsafe { platform.copy_guarded(source, target, length) };

    fake.shrink_file(c"file", PAGE as u64 + 1);
    assert_eq!(copy(file, here, 3 * PAGE), Err(Error::Io));
    assert_eq!(copy(here, file + 2 * PAGE - 1, 2), Err(Error::Io));
    assert!(own.iter().all(|byte| *byte == 9));
    assert_eq!(copy(file + 1, here, 2 * PAGE - 1), Ok(()));
    assert!(own[..2 * PAGE - 1].iter().all(|byte| *byte == 7) && own[2 * PAGE - 1] == 9);
    assert_eq!(copy(file, file + 1, PAGE), Ok(()), "sides that overlap");

    fake.fail(Call::CopyGuarded, 0, Error::Io);
    assert_eq!(copy(file, here, 1), Err(Error::Io));
    assert_eq!(copy(file, here, 1), Ok(()));
    assert!(fake.take_violations().is_empty());
}

#[test]
fn a_copy_against_the_protection_is_a_violation() {
    let fake = Fake::with_page_size(PAGE);
    fake.add_file(c"file", &[7; PAGE]);
    let platform = fake.platform();
    let part = FilePart { offset: 0, length: PAGE, protection: Protection::READ, shared: false };
    let file = platform.map_file(c"file", false, &mut |_| Ok(part)).unwrap();
    let byte = [1u8];
    // SAFETY: the fake refuses it, and its memory is writable all the same.
    let result = unsafe { platform.copy_guarded(byte.as_ptr().expose_provenance(), file, 1) };
    assert_eq!(result, Err(Error::InvalidArgument));
    assert_eq!(fake.take_violations().len(), 1);
}
