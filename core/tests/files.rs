//! Mapped files: what is mapped, what is read, and what happens when a file shrinks.

mod support;

use core::ffi::CStr;
use execmem_core::MapRequest;
use execmem_core::{Advice, Error, MapFlags, Policy, Protection};
use execmem_fake::Call;
use support::System;

fn request(path: &CStr) -> MapRequest<'_> {
    MapRequest {
        path: Some(path),
        protection: Protection::READ,
        flags: MapFlags::PRIVATE,
        offset: 0,
        length: 0,
    }
}

fn contents() -> Vec<u8> {
    (0..40_000u32).map(|at| (at % 251) as u8 + 1).collect()
}

#[test]
fn the_part_that_was_asked_for_is_mapped_with_its_exact_size() {
    System::each(|system| {
        let page = system.page;
        let contents = contents();
        system.fake.add_file(c"file", &contents);
        for (offset, length) in [(0, 0), (0, 1), (page, 0), (page, 5000), (2 * page, 7232)] {
            let part = MapRequest { offset: offset as i64, length: length as i64, ..request(c"file") };
            let (address, size) = system.runtime.map_file(part).unwrap();
            assert_eq!(size, if length == 0 { contents.len() - offset } else { length });
            assert!(system.read(address, size).unwrap() == contents[offset..offset + size]);
            let rounded = size.next_multiple_of(page);
            if rounded != size {
                assert_eq!(system.runtime.unmap(address as i64, rounded as i64), Err(Error::WrongSize));
            }
            assert_eq!(system.runtime.unmap(address as i64, size as i64), Ok(()));
        }
        for (offset, length, error) in [
            (1, 0, Error::InvalidArgument),
            (-(page as i64), 0, Error::InvalidArgument),
            (0, -1, Error::InvalidArgument),
            (i64::MIN, i64::MIN, Error::InvalidArgument),
            (0, 40_001, Error::OutOfRange),
            (0, i64::MAX, Error::OutOfRange),
            (1 << 40, 0, Error::OutOfRange),
            (i64::MAX & !0xffff, i64::MAX, Error::OutOfRange),
        ] {
            let part = MapRequest { offset, length, ..request(c"file") };
            assert_eq!(system.runtime.map_file(part), Err(error), "{offset} {length}");
        }
        assert_eq!(system.mapped(), []);
    });
}

#[test]
fn stores_reach_the_file_only_through_a_shared_mapping() {
    let system = System::new(Policy::Rwx, 4096);
    for (flags, expected) in [(MapFlags::PRIVATE, b"text"), (MapFlags::SHARED, b"TEXT")] {
        system.fake.add_file(c"file", b"text");
        let part = MapRequest { protection: Protection::RW, flags, ..request(c"file") };
        let (address, size) = system.runtime.map_file(part).unwrap();
        assert_eq!(system.write(address, b"TEXT"), Ok(4));
        assert_eq!(system.write(address, b"TEXT+"), Err(Error::NotOwned));
        system.runtime.sync(address as i64, size as i64, false).unwrap();
        assert_eq!(system.fake.file_contents(c"file"), expected);
        system.runtime.unmap(address as i64, size as i64).unwrap();
        assert_eq!(system.fake.file_contents(c"file"), expected);
    }
    system.fake.add_read_only_file(c"read-only", b"text");
    let write = |flags| {
        let part = MapRequest { protection: Protection::RW, flags, ..request(c"read-only") };
        system.runtime.map_file(part).map(|(_, size)| size)
    };
    assert_eq!(write(MapFlags::SHARED), Err(Error::Refused));
    assert_eq!(write(MapFlags::PRIVATE), Ok(4));
}

#[test]
fn a_read_of_a_file_that_has_shrunk_fails_and_kills_nobody() {
    System::each(|system| {
        let page = system.page;
        let contents = contents();
        system.fake.add_file(c"file", &contents);
        let part = MapRequest { protection: Protection::RW, flags: MapFlags::SHARED, ..request(c"file") };
        let (address, size) = system.runtime.map_file(part).unwrap();
        let runtime = &system.runtime;
        system.fake.shrink_file(c"file", page as u64 + 10);
        assert!(system.read(address, 2 * page).unwrap() == contents[..2 * page]);
        let (base, behind) = (address as i64, 2 * page as i64);
        assert_eq!(system.read(address, size), Err(Error::Io));
        assert_eq!(system.read(address + 2 * page, 1), Err(Error::Io));
        assert_eq!(system.write(address + 2 * page, b"x"), Err(Error::Io));
        assert_eq!(runtime.read_bytes(base, behind, 1), Err(Error::Io));
        assert_eq!(runtime.read_string(base, behind, 1), Err(Error::Io));
        assert_eq!(runtime.read_string(base, behind, 0), Err(Error::Io));
        // The text has no NUL before the pages that are gone.
        assert_eq!(runtime.read_string(base, 0, 0), Err(Error::Io));
        assert_eq!(system.write(address, b"\0"), Ok(1));
        assert_eq!(system.text(runtime.read_string(base, 0, 0).unwrap()), "");
        runtime.unmap(base, size as i64).unwrap();
    });
}

#[test]
fn a_file_is_only_accessed_by_copies_that_can_fail() {
    // The platform can't see a load: this is what tells a plain copy from a guarded one.
    let system = System::new(Policy::Rwx, 4096);
    system.fake.add_file(c"file", &contents());
    let part = MapRequest { protection: Protection::RW, ..request(c"file") };
    let (address, _) = system.runtime.map_file(part).unwrap();
    let base = address as i64;
    let copies = |access: &dyn Fn() -> bool| {
        let before = system.fake.count(Call::CopyGuarded);
        assert!(access());
        system.fake.count(Call::CopyGuarded) - before
    };
    assert_eq!(copies(&|| system.read(address + 4095, 2).is_ok()), 1);
    assert_eq!(copies(&|| system.write(address + 4095, &[1, 2]).is_ok()), 1);
    assert_eq!(copies(&|| system.runtime.read_bytes(base, 4095, 2).is_ok()), 1);
    assert_eq!(copies(&|| system.runtime.read_string(base, 4095, 2).is_ok()), 1);
    // The end of the text is looked for first, up to the page's end and behind it.
    system.write(address + 4100, b"\0").unwrap();
    assert_eq!(copies(&|| system.runtime.read_string(base, 4095, 0).is_ok()), 3);
    let code = system.runtime.alloc_exec(100).unwrap();
    assert_eq!(copies(&|| system.read(code, 100).is_ok()), 0);
}

#[test]
fn what_is_no_regular_file_with_contents_is_not_mapped() {
    let system = System::new(Policy::Rwx, 4096);
    system.fake.add_file(c"empty", b"");
    system.fake.add_device(c"device");
    let map = |path| system.runtime.map_file(request(path)).map(drop);
    assert_eq!(map(c"empty"), Err(Error::EmptyFile));
    assert_eq!(map(c"device"), Err(Error::NotRegularFile));
    assert_eq!(map(c"absent"), Err(Error::NotFound));
    assert_eq!(system.runtime.file_size(c"empty"), Ok(0));
    assert_eq!(system.runtime.file_size(c"device"), Err(Error::NotRegularFile));
    assert_eq!(system.runtime.file_size(c"absent"), Err(Error::NotFound));
}

#[test]
fn flags_that_contradict_each_other_are_invalid() {
    let system = System::new(Policy::Rwx, 4096);
    system.fake.add_file(c"file", b"text");
    for bits in 0..64 {
        let Ok(flags) = MapFlags::from_number(bits) else { continue };
        let is_file = flags == MapFlags::SHARED || flags == MapFlags::PRIVATE;
        let is_anonymous = flags == MapFlags::SHARED | MapFlags::ANONYMOUS
            || flags == MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        let one = MapRequest { flags, length: 1, ..request(c"file") };
        let invalid = Err(Error::InvalidArgument);
        assert_eq!(system.runtime.map_file(one).map(drop), if is_file { Ok(()) } else { invalid });
        let one = MapRequest { path: None, ..one };
        assert_eq!(system.runtime.map_file(one).map(drop), if is_anonymous { Ok(()) } else { invalid });
        let without_length = MapRequest { length: 0, ..one };
        assert_eq!(system.runtime.map_file(without_length).map(drop), invalid);
    }
}

#[test]
fn advice_and_locks_apply_to_exactly_the_pages_that_a_range_touches() {
    System::each(|system| {
        let page = system.page as i64;
        system.fake.add_file(c"file", &contents());
        let (address, _) = system.runtime.map_file(request(c"file")).unwrap();
        let base = address as i64;
        system.fake.take_requests();
        system.runtime.lock(base + page - 1, 2).unwrap();
        system.runtime.unlock(base + page, 1).unwrap();
        system.runtime.advise(base, page, Advice::Random).unwrap();
        system.runtime.sync(base + 1, page, true).unwrap();
        let seen: Vec<_> =
            system.fake.take_requests().iter().map(|one| (one.start - address, one.length)).collect();
        let page = system.page;
        assert_eq!(seen, [(0, 2 * page), (page, page), (0, page), (0, 2 * page)]);
        let end = 40_000usize.next_multiple_of(page) as i64;
        assert_eq!(system.runtime.lock(base + end - 1, 1), Ok(()));
        assert_eq!(system.runtime.lock(base + end - 1, 2), Err(Error::NotOwned));
        assert_eq!(system.runtime.advise(base - 1, 2, Advice::Normal), Err(Error::NotOwned));
    });
}

#[test]
fn an_open_file_is_mapped_as_one_that_has_a_path() {
    System::each(|system| {
        let page = system.page;
        let contents = contents();
        system.fake.add_file(c"file", &contents);
        system.fake.add_read_only_file(c"read-only", b"text");
        system.fake.add_device(c"device");
        let open = MapRequest { path: None, ..request(c"") };
        let map = |name, request| system.runtime.map_descriptor(system.fake.descriptor(name), request);
        let (address, size) = map(c"file", MapRequest { offset: page as i64, length: 5000, ..open }).unwrap();
        assert_eq!(size, 5000);
        assert!(system.read(address, size).unwrap() == contents[page..page + 5000]);
        assert_eq!(system.runtime.mapping_size(address as i64), Ok(5000));
        system.runtime.unmap(address as i64, 5000).unwrap();

        assert_eq!(map(c"file", request(c"file")), Err(Error::InvalidArgument));
        assert_eq!(map(c"file", MapRequest { length: 40_001, ..open }), Err(Error::OutOfRange));
        let anonymous = MapFlags::PRIVATE | MapFlags::ANONYMOUS;
        assert_eq!(map(c"file", MapRequest { flags: anonymous, ..open }), Err(Error::InvalidArgument));
        assert_eq!(map(c"device", open), Err(Error::NotRegularFile));
        assert_eq!(system.runtime.map_descriptor(1000, open), Err(Error::InvalidArgument));
        let shared = MapRequest { flags: MapFlags::SHARED, protection: Protection::RW, ..open };
        assert_eq!(map(c"read-only", shared), Err(Error::Refused));
        assert_eq!(system.mapped(), []);
    });
}

#[test]
fn a_mapping_has_its_size_at_its_base_and_nowhere_else() {
    System::each(|system| {
        let page = system.page as i64;
        system.fake.add_file(c"file", &contents());
        let (file, _) = system.runtime.map_file(request(c"file")).unwrap();
        let part = MapRequest { length: page + 1, ..request(c"file") };
        let (part, _) = system.runtime.map_file(part).unwrap();
        let code = system.runtime.alloc_exec(page).unwrap() as i64;
        let data = system.runtime.alloc_rw(page).unwrap() as i64;
        let block = system.runtime.code_heap().alloc(1).unwrap() as i64;
        let size = |address| system.runtime.mapping_size(address);
        assert_eq!((size(file as i64), size(part as i64)), (Ok(40_000), Ok(page as usize + 1)));
        for other in
            [file as i64 + 1, file as i64 + page, part as i64 + page, code, data, block, 1, i64::MAX - 1]
        {
            assert_eq!(size(other), Err(Error::NotOwned), "{other:#x}");
        }
        for bad in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(size(bad), Err(Error::InvalidArgument), "{bad:#x}");
        }
        system.runtime.unmap(file as i64, 40_000).unwrap();
        assert_eq!(size(file as i64), Err(Error::NotOwned));
    });
}
