//! Writing code into memory.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new(
        "a write lands at address + offset, from any address inside the region, and nowhere else",
        places,
    ),
    Rule::new("a write ends with the requested size: the last byte is written, one more is refused", ends),
    Rule::new("an empty write is 0 bytes anywhere in a live region, and fails elsewhere", empty),
    Rule::new("a write never leaves the region that its address is in", own_region),
    Rule::new("NULL, a negative length or offset, and overflow write nothing", bad_arguments),
    Rule::new("memory that is not the library's, or no longer, is not written", foreign),
    Rule::new("rt_write_exec_memory writes the bytes of a value, and refuses what is no byte array", values),
    Rule::new("pages that the policy does not let be written are not: wrong protection", wrong_protection),
    Rule::new("a write that meets one page it may not write changes no page", all_or_nothing),
    Rule::new("a large write arrives whole", large),
    Rule::new("bytes are moved inside of a region or a block, up and down, as memmove does", moves),
    Rule::new(
        "code memory stays writable through the library after each change that the policy allows",
        rewrite,
    ),
];

fn places(_: &World) -> Verdict {
    let size = 3 * page();
    for address in [alloc_exec(size)?, alloc_rw(size)?] {
        for (inner, offset) in [(0, 0), (0, 1), (0, page() - 2), (page(), 7), (17, 2 * page()), (size - 4, 0)]
        {
            let start = address + inner + offset;
            check_eq!(write_bytes(address + inner, b"code", offset), 4);
            check!(holds(start, b"code"));
            check!(is_zeroed(address, start - address) && is_zeroed(start + 4, address + size - start - 4));
            check_eq!(write_bytes(start, &[0; 4], 0), 4);
            check!(is_zeroed(address, size));
        }
        free(address, size)?;
    }
    Ok(())
}

fn ends(_: &World) -> Verdict {
    for size in [4, 100, page(), page() + 4] {
        for address in [alloc_exec(size)?, alloc_rw(size)?] {
            let watched = [(address, size)];
            check_eq!(write_bytes(address, b"code", size - 4), 4);
            check!(holds(address + size - 4, b"code"));
            check_harmless!(&watched, write_bytes(address, b"code", size - 3), -1, RT_ERROR_NOT_OWNED);
            check_harmless!(&watched, write_bytes(address, b"c", size), -1, RT_ERROR_NOT_OWNED);
            check_harmless!(&watched, write_bytes(address + size - 1, b"co", 0), -1, RT_ERROR_NOT_OWNED);
            free(address, size)?;
        }
    }
    Ok(())
}

fn empty(world: &World) -> Verdict {
    let nothing = value_of(b"");
    for address in [alloc_exec(100)?, alloc_rw(100)?] {
        for offset in [0, 1, 99] {
            check_eq!(write_bytes(address, b"", offset), 0);
            check_eq!(rt_write_exec_memory(address, nothing, offset), 0);
        }
        check_eq!(write_bytes(address + 99, b"", 0), 0);
        check_eq!(write_bad_bytes(address, None, 0, 0), 0);
        check_fails!(write_bytes(address, b"", -1), -1, RT_ERROR_INVALID_ARGUMENT);
        check_fails!(write_bytes(address, b"", 101), -1, RT_ERROR_NOT_OWNED);
        check!(is_zeroed(address, 100));
        free(address, 100)?;
        check_fails!(write_bytes(address, b"", 0), -1, RT_ERROR_NOT_OWNED);
        check_fails!(rt_write_exec_memory(address, nothing, 0), -1, RT_ERROR_NOT_OWNED);
    }
    check_fails!(write_bytes(world.unmapped, b"", 0), -1, RT_ERROR_NOT_OWNED);
    check_fails!(write_bytes(0, b"", 0), -1, RT_ERROR_INVALID_ARGUMENT);
    check!(rt_value_free(nothing));
    Ok(())
}

fn own_region(world: &World) -> Verdict {
    let size = page();
    let (one, other) = (alloc_exec(size)?, alloc_exec(size)?);
    let (low, high) = (one.min(other), one.max(other));
    let watched = [(one, size), (other, size)];
    // The offset leads from one region into another, or from memory that is not the library's into a region.
    check_harmless!(&watched, write_bytes(low, b"code", high - low), -1, RT_ERROR_NOT_OWNED);
    let unmapped = world.unmapped;
    if unmapped < high {
        check_harmless!(&watched, write_bytes(unmapped, b"code", high - unmapped), -1, RT_ERROR_NOT_OWNED);
    }
    let value = value_of(b"code");
    check_harmless!(&watched, rt_write_exec_memory(low, value, high - low), -1, RT_ERROR_NOT_OWNED);
    check_harmless!(&watched, rt_write_exec_memory(1, value, low - 1), -1, RT_ERROR_NOT_OWNED);
    check!(rt_value_free(value));
    free(one, size)?;
    free(other, size)
}

fn bad_arguments(_: &World) -> Verdict {
    let size = page();
    let source = [0xa5u8; 8];
    for address in [alloc_exec(size)?, alloc_rw(size)?] {
        let watched = [(address, size)];
        let bad = RT_ERROR_INVALID_ARGUMENT;
        check_harmless!(&watched, write_bad_bytes(address, None, 8, 0), -1, bad);
        for length in [-1, i64::MIN] {
            check_harmless!(&watched, write_bad_bytes(address, Some(&source), length, 0), -1, bad);
        }
        for offset in [-1, i64::MIN, i64::MAX, i64::MAX - address] {
            check_harmless!(&watched, write_bytes(address, &source, offset), -1, bad);
        }
        check_harmless!(&watched, write_bad_bytes(address, Some(&source), i64::MAX, 0), -1, bad);
        let reaching = i64::MAX - address;
        check_harmless!(
            &watched,
            write_bad_bytes(address, Some(&source), reaching, 0),
            -1,
            RT_ERROR_NOT_OWNED
        );
        for nowhere in [0, -1, i64::MIN, i64::MAX, -address] {
            check_harmless!(&watched, write_bytes(nowhere, &source, 0), -1, bad);
        }
        free(address, size)?;
    }
    Ok(())
}

fn foreign(world: &World) -> Verdict {
    let before: [u8; 8] = core::array::from_fn(|index| byte(world.foreign_data + index as i64));
    let freed = alloc_rw(page())?;
    free(freed, page())?;
    let value = value_of(b"code");
    for address in [world.foreign_data, world.foreign_code as usize as i64, world.unmapped, freed] {
        check_fails!(write_bytes(address, b"code", 0), -1, RT_ERROR_NOT_OWNED);
        check_fails!(rt_write_exec_memory(address, value, 0), -1, RT_ERROR_NOT_OWNED);
    }
    check!(holds(world.foreign_data, &before));
    check!(rt_value_free(value));
    Ok(())
}

fn values(_: &World) -> Verdict {
    let code = returning(42);
    let length = code.len() as i64;
    let value = value_of(&code);
    let address = alloc_exec(page())?;
    let watched = [(address, page())];
    check_eq!(rt_write_exec_memory(address, value, 64), length);
    check_eq!(rt_write_exec_memory(address + 60, value, page() - length - 60), length);
    check!(holds(address + 64, &code) && holds(address + page() - length, &code));
    rt_flush_icache(address, page());
    check_eq!(call(address + 64, &[]), 42);
    check_eq!(call(address + page() - length, &[]), 42);
    check_harmless!(
        &watched,
        rt_write_exec_memory(address, value, page() - length + 1),
        -1,
        RT_ERROR_NOT_OWNED
    );
    check_harmless!(&watched, rt_write_exec_memory(address, value, -1), -1, RT_ERROR_INVALID_ARGUMENT);

    check_eq!(write_bytes(address, b"text", 0), 4);
    let string = rt_mmap_read_string(address, 0, 4);
    check!(rt_value_free(value));
    for bad in [string, value, RT_VALUE_NIL, 0, 1, u64::MAX, 0x8000_0000_0000_0001] {
        check_harmless!(&watched, rt_write_exec_memory(address, bad, 0), -1, RT_ERROR_BAD_VALUE);
    }
    check!(rt_value_free(string));
    free(address, page())
}

fn wrong_protection(world: &World) -> Verdict {
    protection_can_change()?;
    let size = page();
    let value = value_of(b"code");
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    let anonymous = map_anonymous(size, RW)?;
    let refuse = |address: i64, protection: i32| -> Verdict {
        check!(rt_set_protection(address, size, protection));
        let watched = [(address, size)];
        check_harmless!(&watched, write_bytes(address, b"code", 0), -1, RT_ERROR_WRONG_PROTECTION);
        check_harmless!(&watched, rt_write_exec_memory(address, value, 0), -1, RT_ERROR_WRONG_PROTECTION);
        Ok(())
    };
    for address in [code, data, anonymous] {
        refuse(address, RT_PROT_NONE)?;
        refuse(address, RT_PROT_READ)?;
    }
    // What was allocated as data, or mapped, and is code now has no promise of writes.
    refuse(data, RX)?;
    if world.mappings_gain_exec.is_ok() {
        refuse(anonymous, RX)?;
    }
    // Under rwx, code that was made read-execute is what it says.
    if writable_code_is_allowed() {
        refuse(code, RX)?;
    }
    check!(rt_value_free(value));
    free(code, size)?;
    free(data, size)?;
    unmap(anonymous, size)
}

fn all_or_nothing(_: &World) -> Verdict {
    protection_can_change()?;
    let size = 3 * page();
    for address in [alloc_exec(size)?, alloc_rw(size)?] {
        let watched = [(address, size)];
        check_eq!(write_bytes(address, b"before", page() - 3), 6);
        for protection in [RT_PROT_READ, RT_PROT_NONE] {
            check!(rt_set_protection(address + page(), page(), protection));
            for start in [page() - 3, 2 * page() - 3] {
                check_harmless!(
                    &watched,
                    write_bytes(address, b"after!", start),
                    -1,
                    RT_ERROR_WRONG_PROTECTION
                );
            }
            // The pages beside it are as writable as before.
            check_eq!(write_bytes(address, b"x", 0), 1);
            check_eq!(write_bytes(address, b"x", 2 * page()), 1);
        }
        free(address, size)?;
    }
    Ok(())
}

fn large(_: &World) -> Verdict {
    static PATTERN: [u8; 64 * 1024 + 13] = {
        let mut pattern = [0; 64 * 1024 + 13];
        let mut index = 0;
        while index < pattern.len() {
            pattern[index] = (index * 31 + index / 251) as u8;
            index += 1;
        }
        pattern
    };
    let length = PATTERN.len() as i64;
    for address in [alloc_exec(length + 5)?, alloc_rw(length + 5)?] {
        check_eq!(write_bytes(address, &PATTERN, 5), length);
        check!(is_zeroed(address, 5) && holds(address + 5, &PATTERN));
        free(address, length + 5)?;
    }
    Ok(())
}

fn rewrite(_: &World) -> Verdict {
    protection_can_change()?;
    let size = 2 * page();
    let address = alloc_exec(size)?;
    let code = |value| returning(value);
    let write_and_call = |value: u8, offset: i64| -> Verdict {
        check_eq!(write_bytes(address, &code(value), offset), code(value).len() as i64);
        rt_flush_icache(address, size);
        check_eq!(call(address + offset, &[]), value as i64);
        Ok(())
    };
    write_and_call(1, 0)?;
    // Across the two pages: code in the first, made read-write and executable again in between.
    check!(rt_make_writable(address, 1));
    expect_protections(address, &[RW, code_protection()])?;
    check_eq!(write_bytes(address, &code(2), page() - 4), code(2).len() as i64);
    check!(rt_make_executable(address, size));
    expect_protections(address, &[made_executable(); 2])?;
    check_eq!(call(address, &[]), 1);
    check_eq!(call(address + page() - 4, &[]), 2);
    if !writable_code_is_allowed() {
        // Read-execute is what the policy promises writes for.
        write_and_call(3, 0)?;
        write_and_call(4, page() - 4)?;
        expect_protections(address, &[made_executable(); 2])?;
    } else {
        check!(rt_set_protection(address, size, RWX));
        write_and_call(5, 8)?;
    }
    free(address, size)
}

fn moves(_: &World) -> Verdict {
    const SIZE: i64 = 200_000;
    let region = alloc_exec(SIZE)?;
    let block = given(rt_code_alloc(SIZE))?;
    let small = given(rt_code_alloc(1024))?;
    for (address, size, write) in [
        (region, SIZE, write_bytes as fn(i64, &[u8], i64) -> i64),
        (block, SIZE, write_block),
        (small, 1024, write_block),
    ] {
        for (from, to) in [(0, 256), (256, 0), (0, 1), (9, 8), (0, 70_000), (70_000, 0)] {
            let length = size - from.max(to);
            if length <= 0 {
                continue;
            }
            let mut at = 0;
            while at < size {
                let piece = pattern(at);
                let piece = &piece[..piece.len().min((size - at) as usize)];
                check_eq!(write(address, piece, at), piece.len() as i64);
                at += piece.len() as i64;
            }
            let source = core::ptr::with_exposed_provenance((address + from) as usize);
            // SAFETY: the memory is readable, and bytes of it are only changed by the call.
            let source = unsafe { core::slice::from_raw_parts(source, length as usize) };
            check_eq!(write(address, source, to), length);
            let mut bytes = [0; 1];
            for at in (0..length).step_by(61) {
                let found = read_into(address + to + at, 0, &mut bytes);
                let found = if found == 1 { bytes[0] } else { byte_at(address + to + at) };
                check_eq!(found, pattern(from + at)[0]);
            }
        }
    }
    check!(rt_code_free(block) && rt_code_free(small));
    free(region, SIZE)
}

/// What is at an offset, and behind it.
fn pattern(offset: i64) -> [u8; 64] {
    core::array::from_fn(|index| {
        let place = offset + index as i64;
        (place ^ place >> 7 ^ place >> 15) as u8
    })
}

fn byte_at(address: i64) -> u8 {
    // SAFETY: an address in a live block, which is readable.
    unsafe { core::ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() }
}
