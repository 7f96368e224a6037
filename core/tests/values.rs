//! The built-in value store: handles that can't be fooled, and text that is always valid.

mod support;

use core::ptr;
use execmem_core::MapRequest;
use execmem_core::abi::calls::{rt_value_bytes, rt_value_data, rt_value_free, rt_value_len};
use execmem_core::{Error, MapFlags, Policy, Protection};
use execmem_core::{NIL, RtValue};
use support::System;

fn system() -> System {
    let system = System::new(Policy::Rwx, 4096);
    system.fake.switch(|switches| switches.allow_partial_unmap = true);
    system
}

fn bytes(system: &System, contents: &[u8]) -> Result<RtValue, Error> {
    // SAFETY: a slice is readable.
    unsafe { rt_value_bytes(&system.runtime, contents.as_ptr(), contents.len() as i64) }
}

fn free(system: &System, value: RtValue) -> Result<bool, Error> {
    // SAFETY: the store follows no handle that it did not give.
    unsafe { rt_value_free(&system.runtime, value) }
}

#[test]
fn a_handle_is_good_until_it_is_freed_and_never_again() {
    let system = system();
    let value = bytes(&system, b"bytes").unwrap();
    assert_eq!(value & 7, 7, "the tag");
    assert_eq!(system.value(value), b"bytes");
    assert_eq!(free(&system, value), Ok(true));
    let next = bytes(&system, b"others").unwrap();
    assert_ne!(next, value);
    // SAFETY: a stale handle is refused.
    unsafe {
        assert_eq!(rt_value_data(&system.runtime, value), Err(Error::BadValue));
        assert_eq!(rt_value_len(&system.runtime, value), Err(Error::BadValue));
    }
    assert_eq!(free(&system, value), Err(Error::BadValue));
    assert_eq!(system.value(next), b"others");
}

#[test]
fn an_invented_handle_is_refused() {
    let system = system();
    free(&system, bytes(&system, b"gone").unwrap()).unwrap();
    let value = bytes(&system, b"bytes").unwrap();
    let invented = (0..64).map(|bit| value ^ 1 << bit).chain([0, NIL, u64::MAX, 1, value.wrapping_add(8)]);
    for invented in invented {
        assert_eq!(free(&system, invented), Err(Error::BadValue), "{invented:#x}");
        assert_eq!(system.runtime.write_value(1, invented, 0), Err(Error::BadValue), "{invented:#x}");
    }
    assert_eq!(system.value(value), b"bytes");
}

#[test]
fn a_string_is_no_byte_array() {
    let system = system();
    system.fake.add_file(c"file", b"text");
    let (address, _) = map(&system);
    let text = system.runtime.read_string(address, 0, 0).unwrap();
    let code = system.runtime.alloc_exec(16).unwrap() as i64;
    assert_eq!(system.runtime.write_value(code, text, 0), Err(Error::BadValue));
    let array = system.runtime.read_bytes(address, 0, 4).unwrap();
    assert_eq!(system.runtime.write_value(code, array, 0), Ok(4));
    assert_eq!(system.runtime.write_value(code, array, 13), Err(Error::NotOwned));
}

#[test]
fn empty_values_are_values() {
    let system = system();
    // SAFETY: no byte is read.
    let empty = unsafe { rt_value_bytes(&system.runtime, ptr::null(), 0) }.unwrap();
    assert_eq!(system.value(empty), b"");
    assert_eq!(free(&system, empty), Ok(true));
    // SAFETY: refused before anything is read.
    unsafe {
        assert_eq!(rt_value_bytes(&system.runtime, ptr::null(), 1), Err(Error::InvalidArgument));
        assert_eq!(rt_value_bytes(&system.runtime, b"x".as_ptr(), -1), Err(Error::InvalidArgument));
        assert_eq!(rt_value_bytes(&system.runtime, b"x".as_ptr(), i64::MIN), Err(Error::InvalidArgument));
    }
}

#[test]
fn without_memory_no_value_is_made_and_none_is_lost() {
    for nth in 0..4 {
        let system = system();
        system.fake.fail_from(nth, Error::NoMemory);
        let made = bytes(&system, &[7; 3000]);
        let failures = system.fake.clear_faults();
        assert!(made.is_ok() == (failures == 0), "{made:?} with {failures} failures");
        let retried = bytes(&system, &[8; 3000]).unwrap();
        assert_eq!(system.value(retried), [8; 3000]);
        assert_eq!(free(&system, retried), Ok(true));
        if let Ok(made) = made {
            assert_eq!(system.value(made), [7; 3000]);
        }
    }
}

#[test]
fn memory_of_freed_values_is_used_again() {
    let system = system();
    let rounds = if cfg!(miri) { 20 } else { 2000 };
    let large = vec![9; if cfg!(miri) { 20_000 } else { 300_000 }];
    let mut most = 0;
    for round in 0..rounds {
        let values: Vec<_> =
            [&large[..], b"small", &large[..1000]].map(|data| bytes(&system, data).unwrap()).into();
        values.into_iter().for_each(|value| assert_eq!(free(&system, value), Ok(true)));
        match round {
            0..4 => most = most.max(system.fake.live().bytes),
            _ => assert!(system.fake.live().bytes <= most),
        }
    }
}

#[test]
fn values_of_all_sizes_keep_their_bytes_while_others_come_and_go() {
    let system = system();
    let mut values: Vec<(RtValue, Vec<u8>)> = Vec::new();
    let (rounds, most_bits) = if cfg!(miri) { (60u64, 7) } else { (5000, 15) };
    for round in 0..rounds {
        let random = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let length = random as usize % (1 << (random >> 20 & most_bits)) + random as usize % 3;
        let contents = vec![round as u8; length];
        values.push((bytes(&system, &contents).unwrap(), contents));
        if values.len() == 50 {
            let (value, contents) = values.swap_remove(random as usize % 50);
            assert_eq!(system.value(value), contents);
            assert_eq!(free(&system, value), Ok(true));
        }
    }
    for (value, contents) in values {
        assert_eq!(system.value(value), contents);
    }
}

fn map(system: &System) -> (i64, usize) {
    let flags = MapFlags::PRIVATE;
    let request =
        MapRequest { path: Some(c"file"), protection: Protection::READ, flags, offset: 0, length: 0 };
    let (address, size) = system.runtime.map_file(request).unwrap();
    (address as i64, size)
}

/// Reads text of a file that holds `contents`, and compares it with what the standard library makes of it.
fn check_text(system: &System, contents: &[u8]) {
    system.fake.add_file(c"file", contents);
    let (address, size) = map(system);
    for (max_length, expected) in [
        (size as i64, contents),
        (i64::MAX, contents),
        (0, contents.split(|byte| *byte == 0).next().unwrap()),
        (1, &contents[..1]),
    ] {
        let value = system.runtime.read_string(address, 0, max_length).unwrap();
        assert_eq!(system.text(value), String::from_utf8_lossy(expected), "{contents:x?}");
        assert_eq!(free(system, value), Ok(true));
    }
    system.runtime.unmap(address, size as i64).unwrap();
}

#[test]
fn invalid_utf_8_becomes_what_the_standard_library_makes_of_it() {
    let system = system();
    let pieces: [&[u8]; 18] = [
        b"a",
        b"\0",
        "é".as_bytes(),
        "漢".as_bytes(),
        "🦀".as_bytes(),
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xc3",
        b"\xe2\x82",
        b"\xe2\x28\xa1",
        b"\xed\xa0\x80",
        b"\xf0\x9f\xa6",
        b"\xf0\x9f",
        b"\xf4\x90\x80\x80",
        b"\xf8",
        b"\xff",
        b"\xfe\xfe",
    ];
    for first in pieces {
        for &second in pieces.iter().step_by(if cfg!(miri) { 9 } else { 1 }) {
            check_text(&system, &[first, second].concat());
            if !cfg!(miri) {
                for third in pieces {
                    check_text(&system, &[first, second, third].concat());
                }
            }
        }
    }
}

#[test]
fn long_text_is_whole_also_where_it_needs_memory_of_its_own() {
    let system = system();
    let lengths = [511, 512, 513, 4095, 4096, 4097, 10_000];
    for length in lengths.into_iter().take(if cfg!(miri) { 3 } else { 7 }) {
        check_text(&system, &vec![b'x'; length]);
        // Each byte becomes three.
        check_text(&system, &vec![0xff; length]);
    }
}
