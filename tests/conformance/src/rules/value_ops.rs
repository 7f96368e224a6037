//! A runtime's own value operations. They can't be taken back, so these rules come last.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use core::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("a table that is NULL, too small or incomplete is refused, and the old one stays", bad_tables),
    Rule::new("registered operations make every value, with the right bytes", making),
    Rule::new("registered operations lend the bytes of a byte array to rt_write_exec_memory", borrowing),
    Rule::new(
        "what the operations refuse to lend, or lend badly, is a bad value and writes nothing",
        refusing,
    ),
    Rule::new("an operation may unmap and free what is being read, and read on", calling_back),
    Rule::new("the table is copied, may be larger than the library knows, and can be replaced", copied),
];

/// The last value that was made: how, and of what.
static MADE: AtomicU64 = AtomicU64::new(0);
static LENGTH: AtomicI64 = AtomicI64::new(-1);
static BYTES: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

const BYTE_ARRAY: RtValue = 0xb17e_5000;
const STRING: RtValue = 0x57f1_4600;

fn remember(kind: RtValue, data: *const u8, length: i64) -> RtValue {
    LENGTH.store(length, Ordering::Relaxed);
    for (index, slot) in BYTES.iter().enumerate().take(length as usize) {
        // SAFETY: the library lends `length` bytes.
        slot.store(unsafe { *data.add(index) } as u64, Ordering::Relaxed);
    }
    kind + MADE.fetch_add(1, Ordering::Relaxed) % 256
}

unsafe extern "C" fn make_bytes(data: *const u8, length: i64) -> RtValue {
    remember(BYTE_ARRAY, data, length)
}

unsafe extern "C" fn make_string(data: *const u8, length: i64) -> RtValue {
    remember(STRING, data, length)
}

/// What `borrow_bytes` lends for [`LENT`].
const LENT: RtValue = 0x1e47;
static LENT_DATA: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static LENT_LENGTH: AtomicI64 = AtomicI64::new(0);

unsafe extern "C" fn borrow_bytes(value: RtValue, data: *mut *const u8, length: *mut i64) -> bool {
    if value != LENT {
        return false;
    }
    // SAFETY: the library gives room for both.
    unsafe {
        data.write(LENT_DATA.load(Ordering::Relaxed));
        length.write(LENT_LENGTH.load(Ordering::Relaxed));
    }
    true
}

fn lend(bytes: &[u8]) {
    LENT_DATA.store(bytes.as_ptr().cast_mut(), Ordering::Relaxed);
    LENT_LENGTH.store(bytes.len() as i64, Ordering::Relaxed);
}

const OWN: RtValueOps = RtValueOps {
    size: size_of::<RtValueOps>() as i64,
    make_bytes: Some(make_bytes),
    make_string: Some(make_string),
    borrow_bytes: Some(borrow_bytes),
};

fn was_made(value: RtValue, kind: RtValue, bytes: &[u8]) -> bool {
    value & !0xff == kind
        && value & 0xff == (MADE.load(Ordering::Relaxed) - 1) % 256
        && LENGTH.load(Ordering::Relaxed) == bytes.len() as i64
        && bytes.iter().zip(&BYTES).all(|(byte, slot)| slot.load(Ordering::Relaxed) == *byte as u64)
}

fn bad_tables(_: &World) -> Verdict {
    for bad in [
        RtValueOps { size: 0, ..OWN },
        RtValueOps { size: 8, ..OWN },
        RtValueOps { size: OWN.size - 1, ..OWN },
        RtValueOps { size: -1, ..OWN },
        RtValueOps { size: i64::MIN, ..OWN },
        RtValueOps { make_bytes: None, ..OWN },
        RtValueOps { make_string: None, ..OWN },
        RtValueOps { borrow_bytes: None, ..OWN },
    ] {
        check_fails!(set_value_ops(Some(&bad)), false, RT_ERROR_INVALID_ARGUMENT);
    }
    check_fails!(set_value_ops(None), false, RT_ERROR_INVALID_ARGUMENT);
    check!(is_value(value_of(b"still built in"), b"still built in"));
    check!(set_value_ops(Some(&OWN)));
    for bad in [RtValueOps { size: 8, ..OWN }, RtValueOps { make_bytes: None, ..OWN }] {
        check_fails!(set_value_ops(Some(&bad)), false, RT_ERROR_INVALID_ARGUMENT);
    }
    check!(was_made(value_of(b"own"), BYTE_ARRAY, b"own"));
    Ok(())
}

fn making(_: &World) -> Verdict {
    check!(set_value_ops(Some(&OWN)));
    let address = map_anonymous(8, RW)?;
    store(address, b"abc\0d\xffe!");
    check!(was_made(rt_mmap_read_bytes(address, 0, 8), BYTE_ARRAY, b"abc\0d\xffe!"));
    check!(was_made(rt_mmap_read_bytes(address, 1, 1), BYTE_ARRAY, b"b"));
    check!(was_made(rt_mmap_read_bytes(address, 0, 0), BYTE_ARRAY, b""));
    check!(was_made(rt_mmap_read_string(address, 0, 0), STRING, b"abc"));
    check!(was_made(rt_mmap_read_string(address, 2, 3), STRING, b"c\0d"));
    check!(was_made(rt_mmap_read_string(address, 3, 0), STRING, b""));
    check!(was_made(rt_mmap_read_string(address, 4, 0), STRING, "d\u{fffd}e!".as_bytes()));
    check!(was_made(value_of(b"xyz"), BYTE_ARRAY, b"xyz"));
    // Failures give the runtime's own empty values.
    check_fails!(was_made(rt_mmap_read_bytes(address, 0, 9), BYTE_ARRAY, b""), true, RT_ERROR_NOT_OWNED);
    check_fails!(was_made(rt_mmap_read_string(address, 0, -1), STRING, b""), true, RT_ERROR_INVALID_ARGUMENT);
    unmap(address, 8)
}

fn borrowing(_: &World) -> Verdict {
    check!(set_value_ops(Some(&OWN)));
    let code = returning(42);
    let address = alloc_exec(page())?;
    lend(&code);
    check_eq!(rt_write_exec_memory(address, LENT, 16), code.len() as i64);
    rt_flush_icache(address, page());
    check_eq!(call(address + 16, &[]), 42);
    lend(b"");
    check_eq!(rt_write_exec_memory(address, LENT, 16), 0);
    LENT_DATA.store(core::ptr::null_mut(), Ordering::Relaxed);
    check_eq!(rt_write_exec_memory(address, LENT, 16), 0);
    free(address, page())
}

fn refusing(_: &World) -> Verdict {
    let built_in = value_of(b"built in");
    check!(set_value_ops(Some(&OWN)));
    let address = alloc_exec(page())?;
    let watched = [(address, page())];
    for value in [0, 1, RT_VALUE_NIL, u64::MAX, built_in, BYTE_ARRAY] {
        check_harmless!(&watched, rt_write_exec_memory(address, value, 0), -1, RT_ERROR_BAD_VALUE);
    }
    let bytes = [1u8; 8];
    for (data, length) in [
        (core::ptr::null(), 1),
        (core::ptr::null(), i64::MAX),
        (bytes.as_ptr(), -1),
        (bytes.as_ptr(), i64::MIN),
    ] {
        LENT_DATA.store(data.cast_mut(), Ordering::Relaxed);
        LENT_LENGTH.store(length, Ordering::Relaxed);
        check_harmless!(&watched, rt_write_exec_memory(address, LENT, 0), -1, RT_ERROR_BAD_VALUE);
    }
    // More than the region holds.
    LENT_DATA.store(bytes.as_ptr().cast_mut(), Ordering::Relaxed);
    LENT_LENGTH.store(page() + 1, Ordering::Relaxed);
    check_harmless!(&watched, rt_write_exec_memory(address, LENT, 0), -1, RT_ERROR_NOT_OWNED);
    free(address, page())
}

/// The mapping that an operation unmaps, as a collector's finalizer may; 0: none.
static DOOMED: AtomicI64 = AtomicI64::new(0);

unsafe extern "C" fn unmap_and_make(data: *const u8, length: i64) -> RtValue {
    let address = DOOMED.swap(0, Ordering::Relaxed);
    if address != 0 && (!rt_munmap(address, 8) || rt_mmap_read_bytes(address, 0, 8) & !0xff != BYTE_ARRAY) {
        return 0;
    }
    remember(BYTE_ARRAY, data, length)
}

fn calling_back(_: &World) -> Verdict {
    let ops = RtValueOps { make_bytes: Some(unmap_and_make), make_string: Some(unmap_and_make), ..OWN };
    check!(set_value_ops(Some(&ops)));
    for read in [
        |address| rt_mmap_read_bytes(address, 0, 8),
        |address| rt_mmap_read_string(address, 0, 8),
        |address| rt_mmap_read_string(address, 0, 0),
    ] {
        let address = map_anonymous(8, RW)?;
        store(address, b"the text");
        DOOMED.store(address, Ordering::Relaxed);
        check!(was_made(read(address), BYTE_ARRAY, b"the text"));
        check_fails!(rt_munmap(address, 8), false, RT_ERROR_NOT_OWNED);
    }
    check!(set_value_ops(Some(&OWN)));
    Ok(())
}

unsafe extern "C" fn make_other(_: *const u8, _: i64) -> RtValue {
    0x07e4
}

fn copied(_: &World) -> Verdict {
    // A table of a later version, with a further operation at its end.
    #[repr(C)]
    struct Larger {
        known: RtValueOps,
        further: i64,
    }
    let mut larger = Larger { known: OWN, further: -1 };
    larger.known.size = size_of::<Larger>() as i64;
    check!(set_value_ops(Some(&larger.known)));
    check_eq!(larger.further, -1);
    larger.known.make_bytes = None;
    core::hint::black_box(&mut larger.known);
    check!(was_made(value_of(b"copied"), BYTE_ARRAY, b"copied"));

    check!(set_value_ops(Some(&RtValueOps { make_bytes: Some(make_other), ..OWN })));
    check_eq!(value_of(b"replaced"), 0x07e4);
    check!(set_value_ops(Some(&OWN)));
    check!(was_made(value_of(b"back"), BYTE_ARRAY, b"back"));
    Ok(())
}
