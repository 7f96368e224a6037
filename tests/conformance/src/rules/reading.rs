//! Reading mapped memory: `rt_mmap_read_bytes`, `rt_mmap_read_string`, `rt_mmap_read_into`.

use crate::memory::*;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("bytes are copied exactly, from every kind of memory", bytes),
    Rule::new("no bytes are an empty array, without an error", no_bytes),
    Rule::new("a read that is not wholly inside the mapping gives nothing", outside),
    Rule::new("a read never leaves the region that its address is in", own_region),
    Rule::new("a failed rt_mmap_read_into stores nothing", nothing_stored),
    Rule::new("a string of a given length has exactly so many bytes, NULs included", exact_strings),
    Rule::new("a string of a given length ends where the mapping ends", short_strings),
    Rule::new("a string of length 0 ends with the first NUL or the mapping", terminated_strings),
    Rule::new("what is not UTF-8 becomes U+FFFD, as String::from_utf8_lossy does it", lossy),
    Rule::new("long texts are read as exactly as short ones", long_texts),
    Rule::new("a bad string read gives an empty string and says why", bad_strings),
    Rule::new("pages that may not be read are not: wrong protection", unreadable),
    Rule::new("a mapped file that shrinks fails to be read; the process lives", shrunk),
];

fn bytes(world: &World) -> Verdict {
    let size = page() + 5;
    let text = b"0123456789";
    let file = world.file?(text);
    let mapping = map_file(Some(file), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0);
    let read = |address: i64, offset: i64| -> Verdict {
        let mut copy = [b'.'; 12];
        check_eq!(read_into(address, offset, &mut copy[1..11]), 10);
        check_eq!(&copy, b".0123456789.");
        check!(is_value(rt_mmap_read_bytes(address, offset, 10), text));
        check!(is_value(rt_mmap_read_bytes(address, offset + 9, 1), b"9"));
        // From an inner address, with an offset on top.
        check!(is_value(rt_mmap_read_bytes(address + 1, offset + 2, 4), b"3456"));
        Ok(())
    };
    read(mapping.address, 0)?;
    unmap(mapping.address, mapping.size)?;
    let (code, data, anonymous) = (alloc_exec(size)?, alloc_rw(size)?, map_anonymous(size, RW)?);
    for address in [code, data, anonymous] {
        for offset in [0, page() - 5, size - 10] {
            check_eq!(write_bytes(address, text, offset), 10);
            read(address, offset)?;
        }
    }
    free(code, size)?;
    free(data, size)?;
    unmap(anonymous, size)
}

fn no_bytes(_: &World) -> Verdict {
    let address = map_anonymous(10, RW)?;
    check_fails!(rt_get_function_pointer(0), 0, RT_ERROR_INVALID_ARGUMENT);
    for offset in [0, 9] {
        check!(is_value(rt_mmap_read_bytes(address, offset, 0), b""));
        check_eq!(read_into(address, offset, &mut []), 0);
    }
    check_eq!(rt_last_error(), RT_ERROR_INVALID_ARGUMENT);
    unmap(address, 10)
}

/// A byte read fails in both ways, with the same code.
fn refuse(address: i64, offset: i64, length: i64, code: i32) -> Verdict {
    let mut target = [0xa5; 16];
    check_fails!(is_value(rt_mmap_read_bytes(address, offset, length), b""), true, code);
    check_fails!(read_into_bad_target(address, offset, Some(&mut target), length), -1, code);
    check_eq!(target, [0xa5; 16]);
    Ok(())
}

fn outside(world: &World) -> Verdict {
    let size = page() + 10;
    let (mapping, data) = (map_anonymous(size, RW)?, alloc_rw(size)?);
    for address in [mapping, data] {
        for (inner, offset, length) in [
            (0, 0, size + 1),
            (0, size, 1),
            (0, size - 1, 2),
            (size - 1, 0, 2),
            (10, size - 10, 1),
            (0, 1 << 40, 1),
            (0, 0, i64::MAX - address),
            (0, 0, 2 * page()),
        ] {
            refuse(address + inner, offset, length, RT_ERROR_NOT_OWNED)?;
        }
        for (offset, length) in [
            (-1, 1),
            (i64::MIN, 1),
            (0, -1),
            (0, i64::MIN),
            (i64::MAX, 1),
            (0, i64::MAX),
            (i64::MAX, i64::MAX),
            (i64::MAX - address, 1),
        ] {
            refuse(address, offset, length, RT_ERROR_INVALID_ARGUMENT)?;
        }
    }
    unmap(mapping, size)?;
    free(data, size)?;
    for address in [mapping, data, world.unmapped, world.foreign_data, 1] {
        refuse(address, 0, 1, RT_ERROR_NOT_OWNED)?;
        refuse(address, 0, 0, RT_ERROR_NOT_OWNED)?;
    }
    for address in [0, -1, i64::MIN, i64::MAX] {
        refuse(address, 0, 1, RT_ERROR_INVALID_ARGUMENT)?;
    }
    Ok(())
}

fn own_region(world: &World) -> Verdict {
    let (one, other) = (map_anonymous(8, RW)?, map_anonymous(8, RW)?);
    let (low, high) = (one.min(other), one.max(other));
    store(high, b"secret");
    refuse(low, high - low, 6, RT_ERROR_NOT_OWNED)?;
    refuse(1, high - 1, 6, RT_ERROR_NOT_OWNED)?;
    if world.foreign_data < high {
        refuse(world.foreign_data, high - world.foreign_data, 6, RT_ERROR_NOT_OWNED)?;
    }
    check_fails!(is_value(rt_mmap_read_string(low, high - low, 0), b""), true, RT_ERROR_NOT_OWNED);
    unmap(one, 8)?;
    unmap(other, 8)
}

fn nothing_stored(_: &World) -> Verdict {
    let address = map_anonymous(8, RW)?;
    check_fails!(read_into_bad_target(address, 0, None, 8), -1, RT_ERROR_INVALID_ARGUMENT);
    check_eq!(read_into_bad_target(address, 0, None, 0), 0);
    refuse(address, 0, 9, RT_ERROR_NOT_OWNED)?;
    unmap(address, 8)
}

/// States what `rt_mmap_read_string` reads of `content`, mapped as a file would be.
#[track_caller]
fn reads(content: &[u8], offset: i64, max_length: i64, expected: &[u8]) -> Verdict {
    let size = content.len() as i64;
    let address = map_anonymous(size, RW)?;
    store(address, content);
    crate::verdict::expect(
        is_value(rt_mmap_read_string(address, offset, max_length), expected),
        "rt_mmap_read_string gives the expected text",
    )?;
    unmap(address, size)
}

fn exact_strings(_: &World) -> Verdict {
    reads(b"Hello, mmap!", 0, 5, b"Hello")?;
    reads(b"Hello, mmap!", 7, 5, b"mmap!")?;
    reads(b"a\0b\0\0c", 0, 6, b"a\0b\0\0c")?;
    reads(b"a\0b\0\0c", 1, 3, b"\0b\0")?;
    reads(b"\0\0\0", 0, 3, b"\0\0\0")?;
    reads("grüße €\u{1f600}".as_bytes(), 0, 15, "grüße €\u{1f600}".as_bytes())
}

fn short_strings(_: &World) -> Verdict {
    reads(b"Hello, mmap!", 7, 100, b"mmap!")?;
    reads(b"Hello, mmap!", 0, i64::MAX, b"Hello, mmap!")?;
    reads(b"Hello, mmap!", 11, 2, b"!")?;
    reads(b"ab\0", 0, 9, b"ab\0")
}

fn terminated_strings(_: &World) -> Verdict {
    reads(b"one\0two\0", 0, 0, b"one")?;
    reads(b"one\0two\0", 4, 0, b"two")?;
    reads(b"one\0two", 4, 0, b"two")?;
    reads(b"one\0two", 3, 0, b"")?;
    reads(b"\0", 0, 0, b"")?;
    reads(b"no end", 0, 0, b"no end")
}

fn lossy(_: &World) -> Verdict {
    // Each maximal part of a broken sequence becomes one U+FFFD: Unicode 15, 3.9, "U+FFFD Substitution of
    // Maximal Subparts", table 3-8 among them.
    const R: &str = "\u{fffd}";
    for (content, expected) in [
        (b"a\xffb".as_slice(), ["a", R, "b", "", "", "", ""]),
        (b"\x80", [R, "", "", "", "", "", ""]),
        (b"\xc0\xaf", [R, R, "", "", "", "", ""]),
        (b"\xe0\x80\xbf", [R, R, R, "", "", "", ""]),
        (b"\xed\xa0\x80", [R, R, R, "", "", "", ""]),
        (b"\xf4\x90\x80\x80", [R, R, R, R, "", "", ""]),
        (b"\xe2\x82", [R, "", "", "", "", "", ""]),
        (b"\xf0\x9f\x98", [R, "", "", "", "", "", ""]),
        (b"\xf0\x9f\x98x\xe2\x82", [R, "x", R, "", "", "", ""]),
        (b"\x61\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63", ["a", R, R, R, "b", R, "c"]),
    ] {
        let mut text = [0u8; 64];
        let mut length = 0;
        for piece in expected {
            text[length..length + piece.len()].copy_from_slice(piece.as_bytes());
            length += piece.len();
        }
        reads(content, 0, content.len() as i64, &text[..length])?;
        reads(content, 0, 0, &text[..length])?;
    }
    // A cut in the middle of a character.
    reads("€".as_bytes(), 0, 2, R.as_bytes())?;
    reads("€".as_bytes(), 1, 2, "\u{fffd}\u{fffd}".as_bytes())
}

fn long_texts(_: &World) -> Verdict {
    const LENGTH: usize = 3 * 4096 + 77;
    let mut content = [b'x'; LENGTH];
    let mut expected = [0u8; 2 * LENGTH];
    for length in [1, 511, 512, 513, 4095, 4096, 4097, LENGTH] {
        reads(&content[..length], 0, length as i64, &content[..length])?;
        reads(&content[..length], 0, 0, &content[..length])?;
    }
    // With a NUL far behind, and with replaced bytes that make the text longer.
    content[5000] = 0;
    reads(&content, 0, 0, &content[..5000])?;
    reads(&content, 0, LENGTH as i64, &content)?;
    content[5000] = b'x';
    let mut end = 0;
    for (index, byte) in content.iter_mut().enumerate() {
        let piece: &[u8] = match index % 100 {
            0 => {
                *byte = 0xff;
                "\u{fffd}".as_bytes()
            }
            _ => b"x",
        };
        expected[end..end + piece.len()].copy_from_slice(piece);
        end += piece.len();
    }
    reads(&content, 0, 0, &expected[..end])
}

fn bad_strings(world: &World) -> Verdict {
    let address = map_anonymous(10, RW)?;
    store(address, b"0123456789");
    for (address, offset, max_length, code) in [
        (address, 0, -1, RT_ERROR_INVALID_ARGUMENT),
        (address, 0, i64::MIN, RT_ERROR_INVALID_ARGUMENT),
        (address, -1, 0, RT_ERROR_INVALID_ARGUMENT),
        (address, i64::MIN, 5, RT_ERROR_INVALID_ARGUMENT),
        (0, 0, 5, RT_ERROR_INVALID_ARGUMENT),
        (-1, 0, 0, RT_ERROR_INVALID_ARGUMENT),
        (i64::MIN, 0, 0, RT_ERROR_INVALID_ARGUMENT),
        (address, 11, 0, RT_ERROR_NOT_OWNED),
        (address, 11, 1, RT_ERROR_NOT_OWNED),
        (world.foreign_data, 0, 0, RT_ERROR_NOT_OWNED),
        (world.unmapped, 0, 5, RT_ERROR_NOT_OWNED),
    ] {
        check_fails!(is_value(rt_mmap_read_string(address, offset, max_length), b""), true, code);
    }
    // Overflow is a failure with either name: the address would be past all that is owned.
    for (address, offset) in [(address, i64::MAX), (i64::MAX, 0), (i64::MAX, i64::MAX)] {
        check!(is_value(rt_mmap_read_string(address, offset, 1), b""));
    }
    unmap(address, 10)
}

fn unreadable(_: &World) -> Verdict {
    protection_can_change()?;
    let size = 3 * page();
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    for address in [code, data] {
        check_eq!(write_bytes(address, &[b'x'; 64], page() - 64), 64);
        check_eq!(write_bytes(address, b"end\0", 0), 4);
        check!(rt_set_protection(address + page(), 1, RT_PROT_NONE));
        refuse(address + page(), 0, 1, RT_ERROR_WRONG_PROTECTION)?;
        refuse(address, page() - 1, 2, RT_ERROR_WRONG_PROTECTION)?;
        refuse(address, 0, size, RT_ERROR_WRONG_PROTECTION)?;
        check_fails!(is_value(rt_mmap_read_string(address, page(), 0), b""), true, RT_ERROR_WRONG_PROTECTION);
        check_fails!(is_value(rt_mmap_read_string(address, 0, size), b""), true, RT_ERROR_WRONG_PROTECTION);
        // A text that ends in front of the closed page can be read.
        check!(is_value(rt_mmap_read_string(address, 0, 0), b"end"));
        check!(is_value(rt_mmap_read_string(address, page() - 2, 2), b"xx"));
        check!(is_value(rt_mmap_read_bytes(address, 2 * page(), 2), b"\0\0"));
        free(address, size)?;
    }
    Ok(())
}

fn shrunk(world: &World) -> Verdict {
    let shrink = world.shrink_file?;
    let content = [b'x'; 2 * 65536];
    let size = 2 * page();
    for flags in [RT_MAP_SHARED, RT_MAP_PRIVATE] {
        let path = world.file?(&content[..size as usize]);
        let mapping = map_file(Some(path), RT_PROT_READ, flags, 0, 0);
        check_eq!(mapping.size, size);
        check!(is_value(rt_mmap_read_bytes(mapping.address, size - 1, 1), b"x"));
        shrink(path, 10);
        // The first page is there still, zero behind the file's end; the second is not.
        check!(is_value(rt_mmap_read_bytes(mapping.address, 8, 4), b"xx\0\0"));
        check!(is_value(rt_mmap_read_string(mapping.address, 0, 0), &[b'x'; 10]));
        refuse(mapping.address, page(), 1, RT_ERROR_IO)?;
        refuse(mapping.address, 0, size, RT_ERROR_IO)?;
        check_fails!(is_value(rt_mmap_read_string(mapping.address, page(), 0), b""), true, RT_ERROR_IO);
        check_fails!(is_value(rt_mmap_read_string(mapping.address, 0, size), b""), true, RT_ERROR_IO);
        // Nor may code be written from there.
        let (region, block) = (alloc_rw(8)?, rt_code_alloc(8));
        for (write, target) in [(c"rt_write_exec_bytes", region), (c"rt_code_write", block)] {
            let source = [target, mapping.address + page(), 8, 0, 0, 0];
            check_fails!(call_by_name(write, source), -1, RT_ERROR_IO);
        }
        free(region, 8)?;
        check!(rt_code_free(block));
        unmap(mapping.address, size)?;
    }
    Ok(())
}
