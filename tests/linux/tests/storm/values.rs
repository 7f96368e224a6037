//! Values: those of the built-in store and, once they are registered, those of a language runtime. Each says which it
//! is, so that both may be about at the same time.

use crate::calls::{Checked, did, holds, same};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;

const OPERATIONS: RtValueOps = RtValueOps {
    size: size_of::<RtValueOps>() as i64,
    make_bytes: Some(make),
    make_string: Some(make),
    borrow_bytes: Some(borrow),
};

/// Registers the runtime's operations, in place of the same ones from the second time on.
pub fn register() -> Checked {
    holds(did!(rt_set_value_ops: set_value_ops(Some(&OPERATIONS))), &"rt_set_value_ops")
}

fn is_of_the_store(value: RtValue) -> bool {
    value & 7 == 7
}

fn our_own(value: RtValue) -> *mut Vec<u8> {
    std::ptr::with_exposed_provenance_mut(value as usize)
}

unsafe extern "C" fn make(data: *const u8, length: i64) -> RtValue {
    let bytes = match length {
        0 => Vec::new(),
        // SAFETY: the library lends so many bytes for the call.
        _ => unsafe { std::slice::from_raw_parts(data, length as usize) }.to_vec(),
    };
    Box::into_raw(Box::new(bytes)).expose_provenance() as RtValue
}

unsafe extern "C" fn borrow(value: RtValue, data: *mut *const u8, length: *mut i64) -> bool {
    let lent = if is_of_the_store(value) {
        (rt_value_data(value), rt_value_len(value))
    } else {
        // SAFETY: a word that `make` made; whoever passes it to the library frees it later.
        let bytes = unsafe { &*our_own(value) };
        (bytes.as_ptr(), bytes.len() as i64)
    };
    // SAFETY: the library gives room for both.
    unsafe { (*data, *length) = lent };
    true
}

/// A value holds these bytes, and is freed.
pub fn expect(value: RtValue, wanted: &[u8]) -> Checked {
    let bytes = if is_of_the_store(value) {
        same(did!(rt_value_len(value)), wanted.len() as i64, &"rt_value_len")?;
        // SAFETY: the store lends so many bytes until the value is freed.
        unsafe { std::slice::from_raw_parts(did!(rt_value_data(value)), wanted.len()) }
    } else {
        // SAFETY: a word that `make` made, which is freed below.
        unsafe { &**our_own(value) }
    };
    holds(bytes == wanted, &"a value holds what was read")?;
    free(value)
}

pub fn free(value: RtValue) -> Checked {
    if is_of_the_store(value) {
        return holds(did!(rt_value_free(value)), &"rt_value_free");
    }
    // SAFETY: a word that `make` made, and nobody uses any more.
    drop(unsafe { Box::from_raw(our_own(value)) });
    Ok(())
}
