//! What each symbol does: its arguments turned into a [`Runtime`] method's, and back. No decision is made here.
//!
//! All functions are `unsafe` alike, as their C callers are: pointers are valid as the contract says.
#![allow(
    missing_docs,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    reason = "the list of symbols documents each of them"
)]

use super::Symbol;
use super::types::*;
use crate::error::Error;
use crate::platform::Platform;
use crate::policy::{Policy, Trial};
use crate::protection::{Advice, MapFlags, Protection};
use crate::runtime::Runtime;
use crate::runtime::call::MAX_ARGUMENTS;
use crate::runtime::files::MapRequest;
use crate::value::ValueOperations;
use core::ffi::{CStr, c_char, c_void};
use core::mem::offset_of;

pub use super::code_calls::*;

pub(super) type Outcome<T> = Result<T, Error>;

/// A path or a name; NULL is an invalid argument.
unsafe fn text<'a>(pointer: *const c_char) -> Outcome<&'a CStr> {
    if pointer.is_null() {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: the C caller gave a string that ends with NUL.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// For methods that fail or have nothing to say: the `bool` of the C interface.
pub(super) fn done(outcome: Outcome<()>) -> Outcome<bool> {
    outcome.map(|()| true)
}

pub(super) fn number(outcome: Outcome<usize>) -> Outcome<i64> {
    outcome.map(|number| number as i64)
}

pub unsafe fn rt_mmap_file<P: Platform>(
    runtime: &Runtime<P>,
    path: *const c_char,
    prot: i32,
    flags: i32,
    offset: i64,
    length: i64,
) -> Outcome<RtMapping> {
    let (address, size) = runtime.map_file(MapRequest {
        // SAFETY: as the C caller promises.
        path: if path.is_null() { None } else { Some(unsafe { text(path) }?) },
        protection: Protection::from_number(prot)?,
        flags: MapFlags::from_number(flags)?,
        offset,
        length,
    })?;
    Ok(RtMapping { address: address as i64, size: size as i64 })
}

pub unsafe fn rt_munmap<P: Platform>(runtime: &Runtime<P>, address: i64, size: i64) -> Outcome<bool> {
    done(runtime.unmap(address, size))
}

pub unsafe fn rt_mmap_read_bytes<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    offset: i64,
    length: i64,
) -> RtValue {
    runtime.read_bytes(address, offset, length).unwrap_or_else(|error| {
        runtime.note_failure(error);
        runtime.values.empty_bytes()
    })
}

pub unsafe fn rt_mmap_read_string<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    offset: i64,
    max_length: i64,
) -> RtValue {
    runtime.read_string(address, offset, max_length).unwrap_or_else(|error| {
        runtime.note_failure(error);
        runtime.values.empty_string()
    })
}

pub unsafe fn rt_file_size_for_mmap<P: Platform>(runtime: &Runtime<P>, path: *const c_char) -> Outcome<i64> {
    // SAFETY: as the C caller promises.
    let path = unsafe { text(path) }?;
    runtime.file_size(path).map(|size| size as i64)
}

pub unsafe fn rt_get_page_size<P: Platform>(runtime: &Runtime<P>) -> i64 {
    runtime.page_size() as i64
}

pub unsafe fn rt_msync<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    size: i64,
    is_async: bool,
) -> Outcome<bool> {
    done(runtime.sync(address, size, is_async))
}

pub unsafe fn rt_mlock<P: Platform>(runtime: &Runtime<P>, address: i64, size: i64) -> Outcome<bool> {
    done(runtime.lock(address, size))
}

pub unsafe fn rt_munlock<P: Platform>(runtime: &Runtime<P>, address: i64, size: i64) -> Outcome<bool> {
    done(runtime.unlock(address, size))
}

pub unsafe fn rt_madvise<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    size: i64,
    advice: i32,
) -> Outcome<bool> {
    done(runtime.advise(address, size, Advice::from_number(advice)?))
}

pub unsafe fn rt_alloc_exec_memory<P: Platform>(runtime: &Runtime<P>, size: i64) -> Outcome<i64> {
    number(runtime.alloc_exec(size))
}

pub unsafe fn rt_alloc_rw_memory<P: Platform>(runtime: &Runtime<P>, size: i64) -> Outcome<i64> {
    number(runtime.alloc_rw(size))
}

pub unsafe fn rt_free_exec_memory<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    size: i64,
) -> Outcome<bool> {
    done(runtime.free_exec(address, size))
}

pub unsafe fn rt_write_exec_memory<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    code: RtValue,
    offset: i64,
) -> Outcome<i64> {
    number(runtime.write_value(address, code, offset))
}

pub unsafe fn rt_make_executable<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    size: i64,
) -> Outcome<bool> {
    done(runtime.make_executable(address, size))
}

pub unsafe fn rt_flush_icache<P: Platform>(runtime: &Runtime<P>, address: i64, size: i64) -> Outcome<()> {
    runtime.flush_icache(address, size)
}

pub unsafe fn rt_get_function_pointer<P: Platform>(_: &Runtime<P>, address: i64) -> Outcome<i64> {
    if address > 0 { Ok(address) } else { Err(Error::InvalidArgument) }
}

macro_rules! call_functions {
    ($($name:ident($($argument:ident),*);)*) => {$(
        pub unsafe fn $name<P: Platform>(
            runtime: &Runtime<P>,
            function: i64,
            $($argument: i64),*
        ) -> Outcome<i64> {
            // SAFETY: as the C caller promises.
            unsafe { runtime.call(function, &[$($argument),*]) }
        }
    )*};
}

call_functions! {
    rt_call_function_0();
    rt_call_function_1(a);
    rt_call_function_2(a, b);
    rt_call_function_3(a, b, c);
    rt_call_function_4(a, b, c, d);
    rt_call_function_5(a, b, c, d, e);
    rt_call_function_6(a, b, c, d, e, f);
}

pub unsafe fn rt_try_call<P: Platform>(
    runtime: &Runtime<P>,
    function: i64,
    args: *const i64,
    count: i64,
    result: *mut i64,
) -> Outcome<bool> {
    let arguments = match count {
        0 => &[],
        1..=MAX_ARGUMENTS if !args.is_null() => {
            // SAFETY: the C caller gave `count` arguments.
            unsafe { core::slice::from_raw_parts(args, count as usize) }
        }
        _ => return Err(Error::InvalidArgument),
    };
    // SAFETY: as the C caller promises.
    let returned = unsafe { runtime.call(function, arguments) }?;
    if !result.is_null() {
        // SAFETY: the C caller gave room for a result.
        unsafe { result.write(returned) };
    }
    Ok(true)
}

pub unsafe fn rt_is_executable<P: Platform>(runtime: &Runtime<P>, address: i64) -> bool {
    runtime.is_executable(address).unwrap_or(false)
}

pub unsafe fn rt_get_protection<P: Platform>(runtime: &Runtime<P>, address: i64) -> i32 {
    match runtime.protection_at(address) {
        Ok(Some(protection)) => protection.bits().into(),
        Ok(None) | Err(_) => -1,
    }
}

pub unsafe fn rt_set_protection<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    size: i64,
    prot: i32,
) -> Outcome<bool> {
    done(runtime.set_protection(address, size, Protection::from_number(prot)?))
}

pub unsafe fn rt_exec_memory_total<P: Platform>(runtime: &Runtime<P>) -> i64 {
    runtime.requested_bytes()
}

pub unsafe fn rt_exec_memory_count<P: Platform>(runtime: &Runtime<P>) -> i64 {
    runtime.region_count()
}

pub unsafe fn rt_exec_memory_dump_stats<P: Platform>(runtime: &Runtime<P>) {
    runtime.dump();
}

pub unsafe fn rt_set_value_ops<P: Platform>(runtime: &Runtime<P>, ops: *const RtValueOps) -> Outcome<bool> {
    // SAFETY: a table begins with its size, and has at least so many bytes.
    if ops.is_null() || unsafe { (&raw const (*ops).size).read() } < size_of::<RtValueOps>() as i64 {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: it is as large as the table that we know.
    let ops = unsafe { ops.read() };
    let (Some(make_bytes), Some(make_string), Some(borrow_bytes)) =
        (ops.make_bytes, ops.make_string, ops.borrow_bytes)
    else {
        return Err(Error::InvalidArgument);
    };
    runtime.values.set_operations(ValueOperations { make_bytes, make_string, borrow_bytes });
    Ok(true)
}

pub unsafe fn rt_value_bytes<P: Platform>(
    runtime: &Runtime<P>,
    data: *const u8,
    length: i64,
) -> Outcome<RtValue> {
    if length < 0 || (data.is_null() && length > 0) {
        return Err(Error::InvalidArgument);
    }
    let data = if data.is_null() { core::ptr::dangling() } else { data };
    // SAFETY: the C caller gave `length` bytes.
    unsafe { runtime.values.make_bytes(data, length) }
}

pub unsafe fn rt_value_data<P: Platform>(runtime: &Runtime<P>, value: RtValue) -> Outcome<*const u8> {
    runtime.values.data_of(value).map(|(data, _)| data)
}

pub unsafe fn rt_value_len<P: Platform>(runtime: &Runtime<P>, value: RtValue) -> Outcome<i64> {
    runtime.values.data_of(value).map(|(_, length)| length as i64)
}

pub unsafe fn rt_value_free<P: Platform>(runtime: &Runtime<P>, value: RtValue) -> Outcome<bool> {
    done(runtime.values.free(value))
}

pub unsafe fn rt_write_exec_bytes<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    src: *const u8,
    length: i64,
    offset: i64,
) -> Outcome<i64> {
    // SAFETY: as the C caller promises.
    number(unsafe { runtime.write(address, src, length, offset) })
}

pub unsafe fn rt_mmap_read_into<P: Platform>(
    runtime: &Runtime<P>,
    address: i64,
    offset: i64,
    dst: *mut u8,
    length: i64,
) -> Outcome<i64> {
    // SAFETY: as the C caller promises.
    number(unsafe { runtime.read_into(address, offset, dst, length) })
}

pub unsafe fn rt_abi_version<P: Platform>(_: &Runtime<P>) -> i32 {
    1
}

pub unsafe fn rt_symbol_lookup(symbols: &[Symbol], name: *const c_char) -> Outcome<i64> {
    // SAFETY: as the C caller promises.
    let name = unsafe { text(name) }?;
    let symbol = symbols.iter().find(|symbol| symbol.name == name);
    Ok(symbol.ok_or(Error::NotFound)?.function as usize as i64)
}

pub unsafe fn rt_register_symbols(symbols: &[Symbol], each: RtEachSymbol, ctx: *mut c_void) -> Outcome<i64> {
    let each = each.ok_or(Error::InvalidArgument)?;
    for symbol in symbols {
        // SAFETY: the C caller's own function, with its own context.
        unsafe { each(ctx, symbol.name.as_ptr(), symbol.function as usize as i64) };
    }
    Ok(symbols.len() as i64)
}

pub unsafe fn rt_make_writable<P: Platform>(runtime: &Runtime<P>, address: i64, size: i64) -> Outcome<bool> {
    done(runtime.make_writable(address, size))
}

pub unsafe fn rt_alloc_exec_memory_near<P: Platform>(
    runtime: &Runtime<P>,
    size: i64,
    target: i64,
    max_distance: i64,
) -> Outcome<i64> {
    number(runtime.alloc_exec_near(size, target, max_distance))
}

pub unsafe fn rt_exec_memory_policy<P: Platform>(runtime: &Runtime<P>) -> Outcome<i32> {
    runtime.policy().map(|policy| policy as i32)
}

pub unsafe fn rt_exec_memory_set_policy<P: Platform>(runtime: &Runtime<P>, policy: i32) -> Outcome<bool> {
    done(runtime.set_policy(Policy::from_number(policy)?))
}

pub unsafe fn rt_exec_memory_set_limit<P: Platform>(runtime: &Runtime<P>, bytes: i64) -> Outcome<bool> {
    if bytes <= 0 {
        return Err(Error::InvalidArgument);
    }
    runtime.set_limit(bytes as usize);
    Ok(true)
}

pub unsafe fn rt_exec_memory_stats<P: Platform>(
    runtime: &Runtime<P>,
    out: *mut RtExecMemoryStats,
) -> Outcome<bool> {
    if out.is_null() {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: the structure begins with its size, which the C caller has set.
    let size = unsafe { (&raw const (*out).size).read() };
    if size < offset_of!(RtExecMemoryStats, regions_by_protection) as i64 {
        return Err(Error::InvalidArgument);
    }
    let statistics = runtime.statistics();
    let all = RtExecMemoryStats {
        size,
        regions: statistics.regions,
        requested_bytes: statistics.requested_bytes,
        regions_by_protection: statistics.regions_by_protection,
        bytes_by_protection: statistics.bytes_by_protection,
        mapped_bytes: statistics.mapped_bytes,
        peak_mapped_bytes: statistics.peak_mapped_bytes,
        failed_calls: statistics.failed_calls,
        policy: runtime.policy().map_or(-1, |policy| policy as i64),
        policy_trials: statistics.policy_trials.map(|trial| match trial {
            Trial::NotTried => -1,
            Trial::Granted => 0,
            Trial::Failed(error) => error as i64,
        }),
        record_bytes: statistics.record_bytes,
        code_blocks: statistics.code_blocks,
        code_bytes: statistics.code_bytes,
        code_chunks: statistics.code_chunks,
        code_chunk_bytes: statistics.code_chunk_bytes,
        code_reservations: statistics.code_reservations,
    };
    let known = size_of::<RtExecMemoryStats>().min(size as usize);
    // SAFETY: the caller's structure has at least `known` bytes, and so has ours.
    unsafe { core::ptr::copy_nonoverlapping((&raw const all).cast::<u8>(), out.cast(), known) };
    Ok(true)
}

pub unsafe fn rt_last_error<P: Platform>(runtime: &Runtime<P>) -> i32 {
    runtime.last_error()
}

pub unsafe fn rt_error_message<P: Platform>(_: &Runtime<P>, code: i32) -> *const c_char {
    let message = match Error::from_code(code) {
        Some(error) => error.message(),
        None if code == RT_ERROR_NONE => c"no error",
        None => c"unknown error code",
    };
    message.as_ptr()
}
