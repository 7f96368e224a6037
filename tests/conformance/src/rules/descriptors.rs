//! Mapping files with a result in one register: `rt_mmap_fd`, `rt_mmap_path`, `rt_mapping_size`.

use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::world::Descriptors;
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("rt_mmap_path takes so many bytes of a path, and gives the address alone", path),
    Rule::new(
        "a path with a NUL or of a wrong length, and what rt_mmap_file refuses, are refused",
        bad_paths,
    ),
    Rule::new("anonymous memory has no path and no descriptor", anonymous),
    Rule::new("rt_mapping_size is the exact size at a mapping's start, and -1 elsewhere", sizes),
    Rule::new("rt_mmap_fd maps an open file, which stays open, with its offset", descriptor),
    Rule::new("a descriptor that can't be mapped as asked is refused, and stays open", bad_descriptors),
];

const GREETING: &[u8] = b"Hello, mmap!";
const READ: i32 = RT_PROT_READ;
const PRIVATE: i32 = RT_MAP_PRIVATE;
const SHARED: i32 = RT_MAP_SHARED;
const ANONYMOUS: i32 = RT_MAP_ANONYMOUS;

fn path(world: &World) -> Verdict {
    let name = world.file?(GREETING).to_bytes();
    let mut buffer = [b'x'; 4096];
    check!(name.len() < buffer.len());
    buffer[..name.len()].copy_from_slice(name);
    for (flags, protection) in [(PRIVATE, READ), (PRIVATE, RW), (SHARED, READ)] {
        // No NUL stands behind it.
        let address = map_path_of_length(Some(&buffer), name.len() as i64, protection, flags, 0);
        check!(address > 0 && address % page() == 0);
        check_eq!(rt_mapping_size(address), 12);
        check_eq!(rt_get_protection(address), protection);
        check!(holds(address, GREETING));
        unmap(address, 12)?;
    }
    let address = map_path(Some(name), READ, PRIVATE, 5);
    check!(holds(address, b"Hello"));
    unmap(address, 5)
}

fn bad_paths(world: &World) -> Verdict {
    let name = world.file?(GREETING).to_bytes_with_nul();
    let refuse = |path: Option<&[u8]>, length, flags, code| -> Verdict {
        check_harmless!(&[], map_path_of_length(path, length, READ, flags, 0), 0, code);
        Ok(())
    };
    let (whole, invalid) = (name.len() as i64, RT_ERROR_INVALID_ARGUMENT);
    refuse(Some(name), whole, PRIVATE, invalid)?;
    refuse(Some(b"\0"), 1, PRIVATE, invalid)?;
    for length in [-1, i64::MIN] {
        refuse(Some(name), length, PRIVATE, invalid)?;
        refuse(None, length, PRIVATE, invalid)?;
    }
    for length in [0, 1, i64::MAX] {
        refuse(None, length, PRIVATE, invalid)?;
    }
    for flags in [0, SHARED | PRIVATE, PRIVATE | RT_MAP_FIXED, PRIVATE | ANONYMOUS] {
        refuse(Some(name), whole - 1, flags, invalid)?;
    }
    refuse(Some(name), 0, PRIVATE, RT_ERROR_NOT_FOUND)?;
    for (path, code) in
        [(world.missing_file?, RT_ERROR_NOT_FOUND), (world.directory?, RT_ERROR_NOT_REGULAR_FILE)]
    {
        refuse(Some(path.to_bytes()), path.to_bytes().len() as i64, PRIVATE, code)?;
    }
    check_harmless!(
        &[],
        map_path(Some(&name[..name.len() - 1]), READ, PRIVATE, 13),
        0,
        RT_ERROR_OUT_OF_RANGE
    );
    Ok(())
}

fn anonymous(_: &World) -> Verdict {
    for flags in [PRIVATE | ANONYMOUS, SHARED | ANONYMOUS] {
        let by_path = map_path(None, RW, flags, 100);
        let by_descriptor = rt_mmap_fd(-1, RW.into(), flags.into(), 0, 100);
        for address in [by_path, by_descriptor] {
            check!(address > 0 && is_zeroed(address, 100));
            check_eq!((rt_mapping_size(address), rt_get_protection(address)), (100, RW));
            unmap(address, 100)?;
        }
        check_fails!(map_path(None, RW, flags, 0), 0, RT_ERROR_INVALID_ARGUMENT);
        check_fails!(map_path(None, RW, flags, i64::MAX), 0, RT_ERROR_OVER_LIMIT);
        for descriptor in [0, 1, -2, i64::MIN, 0xffff_ffff, i64::MAX] {
            check_fails!(
                rt_mmap_fd(descriptor, RW.into(), flags.into(), 0, 100),
                0,
                RT_ERROR_INVALID_ARGUMENT
            );
        }
    }
    // Numbers that fill the register are taken whole.
    let flags = i64::from(PRIVATE | ANONYMOUS);
    for wide in [1 << 32, i64::MIN] {
        check_fails!(rt_mmap_fd(-1, RW as i64 | wide, flags, 0, 100), 0, RT_ERROR_INVALID_ARGUMENT);
        check_fails!(rt_mmap_fd(-1, RW.into(), flags | wide, 0, 100), 0, RT_ERROR_INVALID_ARGUMENT);
    }
    check_fails!(rt_mmap_fd(-1, READ.into(), PRIVATE.into(), 0, 0), 0, RT_ERROR_INVALID_ARGUMENT);
    Ok(())
}

fn sizes(world: &World) -> Verdict {
    let (code, data) = (alloc_exec(page())?, alloc_rw(page())?);
    for size in [1, page() - 1, page(), page() + 1] {
        let address = map_anonymous(size, RW)?;
        check_eq!(rt_mapping_size(address), size);
        for other in [address + 1, address + page(), address - 1] {
            check_harmless!(&[(address, size)], rt_mapping_size(other), -1, RT_ERROR_NOT_OWNED);
        }
        // The protection makes no difference.
        check!(rt_set_protection(address, size, RT_PROT_NONE));
        check_eq!(rt_mapping_size(address), size);
        unmap(address, size)?;
        check_fails!(rt_mapping_size(address), -1, RT_ERROR_NOT_OWNED);
    }
    for other in [code, data, world.foreign_data, world.unmapped] {
        check_fails!(rt_mapping_size(other), -1, RT_ERROR_NOT_OWNED);
    }
    for bad in [0, -1, i64::MIN, i64::MAX] {
        check_fails!(rt_mapping_size(bad), -1, RT_ERROR_INVALID_ARGUMENT);
    }
    free(code, page())?;
    free(data, page())
}

/// `rt_mmap_fd` of the whole file.
fn map(descriptor: i64, protection: i32, flags: i32) -> i64 {
    rt_mmap_fd(descriptor, protection.into(), flags.into(), 0, 0)
}

fn descriptor(world: &World) -> Verdict {
    let Descriptors { open, close } = world.descriptors?;
    let path = world.file?(GREETING);
    for (access, protection, flags) in
        [(READ, READ, PRIVATE), (READ, RW, PRIVATE), (READ, READ, SHARED), (RW, RW, SHARED)]
    {
        let descriptor = open(path, access, 7);
        let (first, second) =
            (map(descriptor, protection, flags), rt_mmap_fd(descriptor, READ.into(), PRIVATE.into(), 0, 5));
        check_eq!(close(descriptor), 7);
        check_eq!((rt_mapping_size(first), rt_get_protection(first)), (12, protection));
        check!(holds(first, GREETING) && holds(second, b"Hello"));
        unmap(first, 12)?;
        unmap(second, 5)?;
    }
    let descriptor = open(path, RW, 0);
    let address = map(descriptor, RW, SHARED);
    store(address, b"J");
    check_eq!(close(descriptor), 0);
    unmap(address, 12)?;
    let later = map_path(Some(path.to_bytes()), READ, PRIVATE, 0);
    check!(holds(later, b"Jello, mmap!"));
    unmap(later, 12)
}

fn bad_descriptors(world: &World) -> Verdict {
    let Descriptors { open, close } = world.descriptors?;
    let (file, empty) = (world.file?(GREETING), world.file?(b""));
    let (refused, odd) = (RT_ERROR_REFUSED, RT_ERROR_NOT_REGULAR_FILE);
    for (path, access, protection, flags, code) in [
        (world.directory?, READ, READ, PRIVATE, odd),
        (world.fifo?, READ, READ, PRIVATE, odd),
        (empty, READ, READ, PRIVATE, RT_ERROR_EMPTY_FILE),
        (file, RT_PROT_WRITE, READ, PRIVATE, refused),
        (file, RT_PROT_WRITE, RW, SHARED, refused),
        (file, READ, RW, SHARED, refused),
        (file, READ, READ, PRIVATE | ANONYMOUS, RT_ERROR_INVALID_ARGUMENT),
        (file, READ, READ, SHARED | PRIVATE, RT_ERROR_INVALID_ARGUMENT),
        (file, READ, 8, PRIVATE, RT_ERROR_INVALID_ARGUMENT),
    ] {
        let descriptor = open(path, access, 0);
        check!(descriptor >= 0);
        check_harmless!(&[], map(descriptor, protection, flags), 0, code);
        check_eq!(close(descriptor), 0);
    }
    let descriptor = open(file, READ, 3);
    for (offset, length, code) in [
        (0, 13, RT_ERROR_OUT_OF_RANGE),
        (page(), 0, RT_ERROR_OUT_OF_RANGE),
        (1, 0, RT_ERROR_INVALID_ARGUMENT),
        (0, -1, RT_ERROR_INVALID_ARGUMENT),
    ] {
        let map = || rt_mmap_fd(descriptor, READ.into(), PRIVATE.into(), offset, length);
        check_harmless!(&[], map(), 0, code);
    }
    check_fails!(map(descriptor | 1 << 32, READ, PRIVATE), 0, RT_ERROR_INVALID_ARGUMENT);
    check_eq!(close(descriptor), 3);
    // Nobody's numbers: the one that was just closed, and some that never were.
    for number in [descriptor, 1_000_000, i32::MAX as i64, -2, i64::MIN, i64::MAX] {
        check_harmless!(&[], map(number, READ, PRIVATE), 0, RT_ERROR_INVALID_ARGUMENT);
    }
    Ok(())
}
