//! Values: the built-in store, and a runtime's own operations.

use crate::memory::*;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("built-in values carry the low bits 111, and nil is 0x3", tags),
    Rule::new("a built-in value has exactly the bytes that it was made from, its own copy of them", copies),
    Rule::new("a freed value is gone: freeing or reading it again fails", freed),
    Rule::new("words that are no value of the store are refused", invented),
    Rule::new("a new value never looks like an old one that was freed", generations),
    Rule::new("values are independent of each other, however many live at once", many),
    Rule::new("a value can't be made of NULL or of a negative length", bad_sources),
];

fn tags(_: &World) -> Verdict {
    check_eq!(RT_VALUE_NIL, 0x3);
    let address = map_anonymous(4, RW)?;
    store(address, b"text");
    for value in [
        value_of(b"bytes"),
        value_of(b""),
        rt_mmap_read_bytes(address, 0, 4),
        rt_mmap_read_string(address, 0, 4),
        rt_mmap_read_bytes(0, 0, 0),
        rt_mmap_read_string(0, 0, 0),
    ] {
        check_eq!(value & 0b111, 0b111);
        check!(rt_value_free(value));
    }
    unmap(address, 4)
}

fn copies(_: &World) -> Verdict {
    let mut source = [0u8; 9000];
    for (index, byte) in source.iter_mut().enumerate() {
        *byte = (index * 7) as u8;
    }
    for length in [1, 2, 15, 16, 17, 255, 4095, 4096, 4097, 9000] {
        let value = value_of(&source[..length]);
        check!(rt_value_data(value) != source.as_ptr());
        let first = source[0];
        source[0] = !first;
        check_eq!(byte(rt_value_data(value).addr() as i64), first);
        source[0] = first;
        check!(is_value(value, &source[..length]));
    }
    let empty = value_of(b"");
    check_eq!(rt_value_len(empty), 0);
    check!(!rt_value_data(empty).is_null());
    check!(rt_value_free(empty));
    check!(is_value(value_of_null(0), b""));
    Ok(())
}

fn refuse(value: RtValue) -> Verdict {
    check_fails!(rt_value_data(value), core::ptr::null(), RT_ERROR_BAD_VALUE);
    check_fails!(rt_value_len(value), -1, RT_ERROR_BAD_VALUE);
    check_fails!(rt_value_free(value), false, RT_ERROR_BAD_VALUE);
    Ok(())
}

fn freed(_: &World) -> Verdict {
    let (kept, value) = (value_of(b"kept"), value_of(b"freed"));
    check!(rt_value_free(value));
    refuse(value)?;
    check!(is_value(kept, b"kept"));
    refuse(kept)
}

fn invented(_: &World) -> Verdict {
    let value = value_of(b"real");
    let bad =
        [0, 1, 2, RT_VALUE_NIL, 0b1001, 0xffff_fff9, u64::MAX, u64::MAX - 6, 1 << 63 | 1, value ^ 0b010];
    for word in bad.into_iter().filter(|word| *word != value) {
        refuse(word)?;
    }
    // One bit aside.
    for bit in 0..64 {
        if value ^ 1 << bit != RT_VALUE_NIL {
            refuse(value ^ 1 << bit)?;
        }
    }
    check!(is_value(value, b"real"));
    Ok(())
}

fn generations(_: &World) -> Verdict {
    let old = value_of(b"old");
    check!(rt_value_free(old));
    for _ in 0..100 {
        let new = value_of(b"new");
        check!(new != old);
        refuse(old)?;
        check!(is_value(new, b"new"));
    }
    Ok(())
}

fn many(_: &World) -> Verdict {
    const COUNT: usize = 1000;
    let mut values = [0; COUNT];
    for (index, value) in values.iter_mut().enumerate() {
        *value = value_of(&(index as u32).to_le_bytes());
    }
    // Freed out of order: every third, then the rest.
    for turn in [0, 1, 2] {
        for (index, value) in values.iter().enumerate().filter(|(index, _)| index % 3 == turn) {
            check!(is_value(*value, &(index as u32).to_le_bytes()));
        }
    }
    values.iter().try_for_each(|value| refuse(*value))
}

fn bad_sources(_: &World) -> Verdict {
    for length in [1, -1, i64::MIN, i64::MAX] {
        check_fails!(value_of_null(length), RT_VALUE_NIL, RT_ERROR_INVALID_ARGUMENT);
    }
    Ok(())
}
