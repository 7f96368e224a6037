//! What the code heap's symbols do: see [`super::calls`].
#![allow(missing_docs, clippy::missing_safety_doc, reason = "the list of symbols documents each of them")]

use super::calls::{Outcome, done, number};
use super::types::*;
use crate::error::Error;
use crate::platform::Platform;
use crate::runtime::Runtime;

pub unsafe fn rt_code_alloc<P: Platform>(runtime: &Runtime<P>, size: i64) -> Outcome<i64> {
    number(runtime.code_heap().alloc(size))
}

pub unsafe fn rt_code_alloc_near<P: Platform>(
    runtime: &Runtime<P>,
    size: i64,
    target: i64,
    max_distance: i64,
) -> Outcome<i64> {
    number(runtime.code_heap().alloc_near(size, target, max_distance))
}

pub unsafe fn rt_code_write<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    src: *const u8,
    length: i64,
    offset: i64,
) -> Outcome<i64> {
    // SAFETY: as the C caller promises.
    number(unsafe { runtime.code_heap().write(address, src, length, offset) })
}

pub unsafe fn rt_code_write_view<P: Platform>(runtime: &Runtime<P>, address: i64) -> Outcome<i64> {
    number(runtime.code_heap().write_view(address))
}

pub unsafe fn rt_code_publish<P: Platform>(runtime: &Runtime<P>, address: i64, size: i64) -> Outcome<bool> {
    done(runtime.code_heap().publish(address, size))
}

pub unsafe fn rt_code_publish_all<P: Platform>(
    runtime: &Runtime<P>,
    addresses: *const i64,
    sizes: *const i64,
    count: i64,
) -> Outcome<bool> {
    if count == 0 {
        return Ok(true);
    }
    if count < 0 || addresses.is_null() || sizes.is_null() {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: the C caller gave `count` addresses and as many sizes.
    let (addresses, sizes) = unsafe {
        let count = count as usize;
        (core::slice::from_raw_parts(addresses, count), core::slice::from_raw_parts(sizes, count))
    };
    let ranges = addresses.iter().copied().zip(sizes.iter().copied());
    done(runtime.code_heap().publish_all(ranges))
}

pub unsafe fn rt_code_patch<P: Platform>(runtime: &Runtime<P>, address: i64, word: u64) -> Outcome<bool> {
    done(runtime.code_heap().patch(address, word))
}

pub unsafe fn rt_code_free<P: Platform>(runtime: &Runtime<P>, address: i64) -> Outcome<bool> {
    done(runtime.code_heap().free(address))
}

pub unsafe fn rt_code_find<P: Platform>(runtime: &Runtime<P>, address: i64, out: *mut RtCodeBlock) -> bool {
    let found = runtime.find_block(address).filter(|_| !out.is_null());
    if let Some(block) = found {
        // SAFETY: the C caller gave room for a block.
        unsafe { out.write(RtCodeBlock { address: block.address as i64, size: block.size as i64 }) };
    }
    found.is_some()
}

pub unsafe fn rt_code_set_limit<P: Platform>(runtime: &Runtime<P>, bytes: i64) -> Outcome<bool> {
    if bytes <= 0 {
        return Err(Error::InvalidArgument);
    }
    runtime.code_heap().set_limit(bytes as usize);
    Ok(true)
}
