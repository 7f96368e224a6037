//! Mapping files: `rt_mmap_file`, `rt_munmap`, `rt_file_size_for_mmap`.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails, check_looks_up};
use crate::{Rule, World};
use core::ffi::CStr;
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("the plan's own test: the 12 bytes \"Hello, mmap!\" are mapped, read and unmapped", plan),
    Rule::new(
        "a mapping has the file's bytes, its exact size, a page-aligned address and the protection",
        whole,
    ),
    Rule::new("offset and length choose a part of the file; length 0 means up to its end", parts),
    Rule::new("a part that reaches past the file's end is out of range", past_the_end),
    Rule::new("an offset that is negative or not page-aligned and a negative length are invalid", bad_parts),
    Rule::new(
        "exactly one of SHARED and PRIVATE, never FIXED, no unknown bit: all else is invalid",
        bad_flags,
    ),
    Rule::new("a path and ANONYMOUS exclude each other", path_or_anonymous),
    Rule::new("anonymous memory is zeroed, exact in size, and can be written", anonymous),
    Rule::new(
        "anonymous memory of no bytes, of less, at an offset, or above the limit is refused",
        bad_anonymous,
    ),
    Rule::new("stores to a PRIVATE mapping stay in it", private),
    Rule::new("stores to a SHARED mapping reach the file and its other mappings", shared),
    Rule::new("a file's code can be mapped read-execute and called", executable_file),
    Rule::new("a missing file is not found, by every function that takes a path", missing),
    Rule::new("a directory is not a regular file", directory),
    Rule::new("a FIFO is not a regular file, and nobody waits for it", fifo),
    Rule::new("an empty file has size 0 and can't be mapped", empty),
    Rule::new("a path may be any bytes", odd_name),
    Rule::new("rt_file_size_for_mmap is exact", sizes),
    Rule::new("rt_munmap takes the exact pair and nothing else", unmapping),
    Rule::new("the page size is a power of two of at least 4096, and always the same", page_size),
];

const GREETING: &[u8] = b"Hello, mmap!";
const READ: i32 = RT_PROT_READ;
const PRIVATE: i32 = RT_MAP_PRIVATE;
const SHARED: i32 = RT_MAP_SHARED;
const ANONYMOUS: i32 = RT_MAP_ANONYMOUS;

fn plan(world: &World) -> Verdict {
    let path = world.file?(GREETING);
    check_eq!(file_size(Some(path)), 12);
    let mapping = map_file(Some(path), READ, PRIVATE, 0, 0);
    check!(mapping.address > 0);
    check_eq!(mapping.size, 12);
    check!(is_value(rt_mmap_read_bytes(mapping.address, 0, 12), GREETING));
    check!(is_value(rt_mmap_read_string(mapping.address, 0, 0), GREETING));
    unmap(mapping.address, mapping.size)
}

/// A file of two pages and 100 bytes: the number of the page in each, and `end` at the end.
fn long_file(world: &World) -> Result<&'static CStr, &'static str> {
    // Larger than any machine's two pages: the rule says so if it isn't.
    static CONTENT: [u8; 2 * 65536 + 100] = [0; 2 * 65536 + 100];
    let mut content = CONTENT;
    let (page, length) = (page() as usize, 2 * page() as usize + 100);
    if length > content.len() {
        return Err("pages of more than 64 KiB");
    }
    content[..page].fill(b'0');
    content[page..2 * page].fill(b'1');
    content[2 * page..length].fill(b'2');
    content[length - 3..length].copy_from_slice(b"end");
    Ok(world.file?(&content[..length]))
}

fn whole(world: &World) -> Verdict {
    let path = world.file?(GREETING);
    for flags in [PRIVATE, SHARED] {
        for protection in [READ, RT_PROT_NONE] {
            let mapping = map_file(Some(path), protection, flags, 0, 0);
            check!(mapping.address > 0 && mapping.address % page() == 0);
            check_eq!(mapping.size, 12);
            check_eq!(rt_get_protection(mapping.address), protection);
            check_eq!(rt_get_protection(mapping.address + page() - 1), protection);
            if protection == READ {
                check!(holds(mapping.address, GREETING));
                check!(is_zeroed(mapping.address + 12, page() - 12));
            }
            unmap(mapping.address, 12)?;
        }
    }
    Ok(())
}

fn parts(world: &World) -> Verdict {
    let path = long_file(world)?;
    let size = 2 * page() + 100;
    for (offset, length, expected) in [
        (0, 0, size),
        (0, size, size),
        (0, 1, 1),
        (0, page() + 1, page() + 1),
        (page(), 0, page() + 100),
        (page(), page(), page()),
        (page(), page() + 100, page() + 100),
        (2 * page(), 0, 100),
        (2 * page(), 7, 7),
    ] {
        let mapping = map_file(Some(path), READ, PRIVATE, offset, length);
        check_eq!(mapping.size, expected);
        check_eq!(byte(mapping.address), b'0' + (offset / page()) as u8);
        let last = offset + expected - 1;
        let expected_last = if last == size - 1 { b'd' } else { b'0' + (last / page()) as u8 };
        check_eq!(byte(mapping.address + expected - 1), expected_last);
        unmap(mapping.address, mapping.size)?;
    }
    Ok(())
}

fn refuse(path: Option<&CStr>, prot: i32, flags: i32, offset: i64, length: i64, code: i32) -> Verdict {
    check_harmless!(&[], map_file(path, prot, flags, offset, length), RtMapping::NONE, code);
    Ok(())
}

fn past_the_end(world: &World) -> Verdict {
    let path = long_file(world)?;
    let size = 2 * page() + 100;
    for (offset, length) in [
        (0, size + 1),
        (0, i64::MAX),
        (page(), page() + 101),
        (2 * page(), 101),
        (2 * page(), i64::MAX),
        (3 * page(), 0),
        (3 * page(), 1),
        (i64::MAX / page() * page(), 0),
        (i64::MAX / page() * page(), i64::MAX),
    ] {
        refuse(Some(path), READ, PRIVATE, offset, length, RT_ERROR_OUT_OF_RANGE)?;
    }
    // An offset at the very end is not inside the file.
    let one_page = [0; 65536];
    let path = world.file?(&one_page[..page() as usize]);
    refuse(Some(path), READ, PRIVATE, page(), 0, RT_ERROR_OUT_OF_RANGE)
}

fn bad_parts(world: &World) -> Verdict {
    let path = long_file(world)?;
    for offset in [1, page() - 1, page() + 1, -1, -page(), i64::MIN, i64::MAX] {
        refuse(Some(path), READ, PRIVATE, offset, 0, RT_ERROR_INVALID_ARGUMENT)?;
        refuse(Some(path), READ, PRIVATE, offset, 1, RT_ERROR_INVALID_ARGUMENT)?;
    }
    for length in [-1, -page(), i64::MIN] {
        refuse(Some(path), READ, PRIVATE, 0, length, RT_ERROR_INVALID_ARGUMENT)?;
    }
    Ok(())
}

fn bad_flags(world: &World) -> Verdict {
    let file = world.file?(GREETING);
    for (path, extra, length) in [(Some(file), 0, 0), (None, ANONYMOUS, 12)] {
        for flags in [
            0,
            SHARED | PRIVATE,
            PRIVATE | RT_MAP_FIXED,
            SHARED | RT_MAP_FIXED,
            PRIVATE | 4,
            PRIVATE | 8,
            PRIVATE | 0x40,
            SHARED | 0x10_0000,
            -1,
            i32::MIN,
            i32::MIN | PRIVATE,
            i32::MAX,
        ] {
            refuse(path, READ, flags | extra, 0, length, RT_ERROR_INVALID_ARGUMENT)?;
        }
        for protection in [8, 0x20, READ | 8, 0x100_0000 | READ, -1, i32::MIN, i32::MAX] {
            refuse(path, protection, PRIVATE | extra, 0, length, RT_ERROR_INVALID_ARGUMENT)?;
        }
    }
    Ok(())
}

fn path_or_anonymous(world: &World) -> Verdict {
    let file = world.file?(GREETING);
    for flags in [PRIVATE, SHARED] {
        refuse(None, READ, flags, 0, 0, RT_ERROR_INVALID_ARGUMENT)?;
        refuse(None, READ, flags, 0, 12, RT_ERROR_INVALID_ARGUMENT)?;
        refuse(Some(file), READ, flags | ANONYMOUS, 0, 12, RT_ERROR_INVALID_ARGUMENT)?;
    }
    Ok(())
}

fn anonymous(_: &World) -> Verdict {
    for flags in [PRIVATE, SHARED] {
        for size in [1, page(), page() + 1] {
            let mapping = map_file(None, RW, flags | ANONYMOUS, 0, size);
            check!(mapping.address > 0 && mapping.address % page() == 0);
            check_eq!(mapping.size, size);
            check!(is_zeroed(mapping.address, size));
            check_eq!(rt_get_protection(mapping.address), RW);
            store(mapping.address + size - 1, b"x");
            check_eq!(write_bytes(mapping.address, b"y", 0), 1);
            check!(is_value(rt_mmap_read_bytes(mapping.address, 0, 1), b"y"));
            unmap(mapping.address, size)?;
        }
    }
    Ok(())
}

fn bad_anonymous(_: &World) -> Verdict {
    for flags in [PRIVATE | ANONYMOUS, SHARED | ANONYMOUS] {
        for size in [0, -1, i64::MIN] {
            refuse(None, RW, flags, 0, size, RT_ERROR_INVALID_ARGUMENT)?;
        }
        for offset in [1, page(), -page(), i64::MAX] {
            refuse(None, RW, flags, offset, 12, RT_ERROR_INVALID_ARGUMENT)?;
        }
        for size in [1 << 40, i64::MAX] {
            refuse(None, RW, flags, 0, size, RT_ERROR_OVER_LIMIT)?;
        }
    }
    Ok(())
}

fn private(world: &World) -> Verdict {
    let path = world.file?(GREETING);
    let mapping = map_file(Some(path), RW, PRIVATE, 0, 0);
    check_eq!(mapping.size, 12);
    store(mapping.address, b"Jello");
    check_eq!(write_bytes(mapping.address, b"?", 11), 1);
    check!(holds(mapping.address, b"Jello, mmap?"));
    check!(rt_msync(mapping.address, 12, false));
    let other = map_file(Some(path), READ, PRIVATE, 0, 0);
    check!(holds(other.address, GREETING));
    unmap(other.address, 12)?;
    unmap(mapping.address, 12)
}

fn shared(world: &World) -> Verdict {
    world.shared_writes?;
    let path = world.file?(GREETING);
    let mapping = map_file(Some(path), RW, SHARED, 0, 0);
    let other = map_file(Some(path), READ, SHARED, 0, 0);
    check!(mapping.size == 12 && other.size == 12);
    store(mapping.address, b"Jello");
    check_eq!(write_bytes(mapping.address, b"?", 11), 1);
    check!(holds(other.address, b"Jello, mmap?"));
    check!(rt_msync(mapping.address, 12, false) && rt_msync(mapping.address + 5, 1, true));
    unmap(mapping.address, 12)?;
    unmap(other.address, 12)?;
    let later = map_file(Some(path), READ, PRIVATE, 0, 0);
    check!(is_value(rt_mmap_read_bytes(later.address, 0, 12), b"Jello, mmap?"));
    check_eq!(file_size(Some(path)), 12);
    unmap(later.address, 12)
}

fn executable_file(world: &World) -> Verdict {
    let code = returning(42);
    let path = world.file?(&code);
    for flags in [PRIVATE, SHARED] {
        let mapping = map_file(Some(path), RX, flags, 0, 0);
        if mapping == RtMapping::NONE && rt_last_error() == RT_ERROR_REFUSED {
            return Err("the system executes no file that isn't signed".into());
        }
        check_eq!(rt_get_protection(mapping.address), RX);
        check_eq!(call(mapping.address, &[]), 42);
        unmap(mapping.address, mapping.size)?;
        check_fails!(call(mapping.address, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
    }
    // Mapped as data, made code afterwards.
    let mapping = map_file(Some(path), READ, PRIVATE, 0, 0);
    check_fails!(call(mapping.address, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
    if world.mappings_gain_exec.is_ok() {
        check!(rt_make_executable(mapping.address, mapping.size));
        check_eq!(call(mapping.address, &[]), 42);
    }
    unmap(mapping.address, mapping.size)
}

fn refuse_path(path: Option<&CStr>, code: i32) -> Verdict {
    for flags in [PRIVATE, SHARED] {
        refuse(path, READ, flags, 0, 0, code)?;
    }
    check_fails!(file_size(path), -1, code);
    Ok(())
}

fn missing(world: &World) -> Verdict {
    refuse_path(Some(world.missing_file?), RT_ERROR_NOT_FOUND)?;
    refuse_path(Some(c""), RT_ERROR_NOT_FOUND)?;
    refuse_path(None, RT_ERROR_INVALID_ARGUMENT)
}

fn directory(world: &World) -> Verdict {
    let directory = world.directory?;
    refuse_path(Some(directory), RT_ERROR_NOT_REGULAR_FILE)?;
    refuse(Some(directory), RW, SHARED, 0, 0, RT_ERROR_NOT_REGULAR_FILE)
}

fn fifo(world: &World) -> Verdict {
    let fifo = world.fifo?;
    refuse_path(Some(fifo), RT_ERROR_NOT_REGULAR_FILE)?;
    refuse(Some(fifo), RW, SHARED, 0, 0, RT_ERROR_NOT_REGULAR_FILE)
}

fn empty(world: &World) -> Verdict {
    let path = world.file?(b"");
    check_eq!(file_size(Some(path)), 0);
    for length in [0, 1] {
        refuse(Some(path), READ, PRIVATE, 0, length, RT_ERROR_EMPTY_FILE)?;
    }
    Ok(())
}

fn odd_name(world: &World) -> Verdict {
    let path = world.file_with_odd_name?(GREETING);
    check_eq!(file_size(Some(path)), 12);
    let mapping = map_file(Some(path), READ, PRIVATE, 0, 0);
    check!(holds(mapping.address, GREETING));
    // Its name is in the system's list of mappings now: questions about others still work.
    check_eq!(rt_is_executable(world.foreign_code as usize as i64), world.tells_foreign);
    check!(!rt_is_executable(world.foreign_data));
    unmap(mapping.address, 12)
}

fn sizes(world: &World) -> Verdict {
    let content = [7; 5000];
    for size in [0, 1, 4095, 4096, 4097, 5000] {
        check_eq!(file_size(Some(world.file?(&content[..size]))), size as i64);
    }
    Ok(())
}

fn unmapping(world: &World) -> Verdict {
    let size = page() + 100;
    let anonymous = map_anonymous(size, RW)?;
    let code = alloc_exec(size)?;
    let watched = [(anonymous, size), (code, size)];
    // Not even the size rounded up: the pair is what rt_mmap_file returned.
    for wrong in [1, page(), size - 1, size + 1, 2 * page(), i64::MAX / 4] {
        check_harmless!(&watched, rt_munmap(anonymous, wrong), false, RT_ERROR_WRONG_SIZE);
    }
    for (address, size) in
        [(anonymous + 1, size), (anonymous + page(), 100), (code, size), (world.unmapped, 1)]
    {
        check_harmless!(&watched, rt_munmap(address, size), false, RT_ERROR_NOT_OWNED);
    }
    for (address, size) in
        [(anonymous, 0), (anonymous, -1), (0, 1), (-1, 1), (i64::MIN, i64::MIN), (i64::MAX, 1)]
    {
        check_harmless!(&watched, rt_munmap(address, size), false, RT_ERROR_INVALID_ARGUMENT);
    }
    unmap(anonymous, size)?;
    check_fails!(rt_munmap(anonymous, size), false, RT_ERROR_NOT_OWNED);
    check_looks_up!(rt_get_protection(anonymous), -1);
    free(code, size)
}

fn page_size(_: &World) -> Verdict {
    let size = rt_get_page_size();
    check!(size >= 4096 && size & (size - 1) == 0);
    check_eq!(rt_get_page_size(), size);
    Ok(())
}
