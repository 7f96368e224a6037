//! What the symbols do, as functions over any [`Runtime`]: those of the list, and the few that take more than a line.
//!
//! All functions are `unsafe` alike, as their C callers are: pointers are valid as the contract says, and code that is
//! called or replaced is the caller's own.
#![allow(
    missing_docs,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    reason = "the list of symbols documents each of them"
)]

use super::Symbol;
use crate::error::{Error, Result};
use crate::header::*;
use crate::platform::Platform;
use crate::policy::Policy;
use crate::protection::{Advice, Hardening, MapFlags, Protection};
use crate::runtime::Runtime;
use crate::runtime::call::MAX_ARGUMENTS;
use crate::runtime::files::{Choose, MapRequest};
use crate::value::Values;
use core::ffi::{CStr, c_char, c_void};
use core::mem::offset_of;
use core::slice;

/// What a method says, as the C interface has it.
trait IntoC<T> {
    fn into_c(self) -> T;
}

impl<T> IntoC<T> for T {
    fn into_c(self) -> T {
        self
    }
}

impl IntoC<bool> for () {
    fn into_c(self) -> bool {
        true
    }
}

impl IntoC<i64> for usize {
    fn into_c(self) -> i64 {
        self as i64
    }
}

impl IntoC<RtMapping> for (usize, usize) {
    fn into_c(self) -> RtMapping {
        RtMapping { address: self.0 as i64, size: self.1 as i64 }
    }
}

macro_rules! functions {
    (() $runtime:ident $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)? $(=> $call:expr)?;
    )*) => {
        $(function!($runtime $name($($argument: $type),*) -> $result $(, else $failure)? $(=> $call)?);)*
    };
}

macro_rules! function {
    ($runtime:ident $name:ident $arguments:tt -> $result:ty $(, else $failure:expr)?) => {};
    ($runtime:ident $name:ident $arguments:tt -> $result:ty, else $failure:expr => $call:expr) => {
        function!($runtime $name $arguments -> Result<$result> => ($call).map(IntoC::into_c));
    };
    ($runtime:ident $name:ident($($argument:ident: $type:ty),*) -> $result:ty => $call:expr) => {
        #[allow(unused_variables, unused_unsafe, reason = "not every call needs them")]
        pub unsafe fn $name<P: Platform>($runtime: &Runtime<P>, $($argument: $type),*) -> $result {
            // SAFETY: what the method asks for, the C caller has promised: the symbol's contract says it.
            IntoC::into_c(unsafe { $call })
        }
    };
}

crate::for_each_symbol!(functions!());

/// A path or a name; NULL is an invalid argument.
///
/// # Safety
/// Else it is a string that ends with NUL, and stays as it is.
unsafe fn text<'a>(pointer: *const c_char) -> Result<&'a CStr> {
    if pointer.is_null() {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: the caller says that it is a string.
    Ok(unsafe { CStr::from_ptr(pointer) })
}

/// What is mapped, if it isn't anonymous memory.
enum File<'a> {
    Path(&'a CStr),
    Descriptor(i32),
}

/// Maps what numbers that fill their registers say: protection, flags, offset and length. The address alone.
#[inline(never)]
fn map_for_register<P: Platform>(
    runtime: &Runtime<P>,
    file: Option<File<'_>>,
    [prot, flags, offset, length]: [i64; 4],
) -> Result<i64> {
    let narrow = |number| i32::try_from(number).map_err(|_| Error::InvalidArgument);
    let protection = Protection::from_number(narrow(prot)?)?;
    let flags = MapFlags::from_number(narrow(flags)?)?;
    let request = MapRequest { path: None, protection, flags, offset, length };
    let open = |file| {
        move |for_write, choose: &mut Choose<'_>| match file {
            File::Path(path) => runtime.space.platform.map_file(path, for_write, choose),
            File::Descriptor(number) => runtime.space.platform.map_descriptor(number, choose),
        }
    };
    runtime.map(file.map(open), request).map(|(address, _)| address as i64)
}

pub unsafe fn rt_mmap_fd<P: Platform>(
    runtime: &Runtime<P>,
    fd: i64,
    prot: i64,
    flags: i64,
    offset: i64,
    length: i64,
) -> Result<i64> {
    let file = match i32::try_from(fd) {
        Ok(-1) => None,
        Ok(descriptor) if descriptor >= 0 => Some(File::Descriptor(descriptor)),
        _ => return Err(Error::InvalidArgument),
    };
    map_for_register(runtime, file, [prot, flags, offset, length])
}

pub unsafe fn rt_mmap_path<P: Platform>(
    runtime: &Runtime<P>,
    path: *const c_char,
    path_length: i64,
    prot: i64,
    flags: i64,
    offset: i64,
    length: i64,
) -> Result<i64> {
    if path_length < 0 || (path.is_null() && path_length > 0) {
        return Err(Error::InvalidArgument);
    }
    let mut text;
    let path = if path.is_null() {
        None
    } else {
        let bytes = path_length as usize;
        // Systems want a NUL behind it.
        text = runtime.values.draft(bytes + 1)?;
        let text = text.bytes();
        // SAFETY: the C caller gave so many bytes; the draft has one more, and is nobody else's.
        unsafe { core::ptr::copy_nonoverlapping(path.cast(), text.as_mut_ptr(), bytes) };
        if let Some(last) = text.last_mut() {
            *last = 0;
        }
        Some(File::Path(CStr::from_bytes_with_nul(text).map_err(|_| Error::InvalidArgument)?))
    };
    map_for_register(runtime, path, [prot, flags, offset, length])
}

fn positive(number: i64) -> Result<usize> {
    usize::try_from(number).ok().filter(|number| *number > 0).ok_or(Error::InvalidArgument)
}

/// A value that was read, or an empty one.
fn or_empty<P: Platform>(
    read: Result<RtValue>,
    runtime: &Runtime<P>,
    empty: impl FnOnce(&Values<P>) -> RtValue,
) -> RtValue {
    read.unwrap_or_else(|error| {
        runtime.note_failure(error);
        empty(&runtime.values)
    })
}

pub unsafe fn rt_try_call<P: Platform>(
    runtime: &Runtime<P>,
    function: i64,
    args: *const i64,
    count: i64,
    result: *mut i64,
) -> Result<bool> {
    let arguments = match count {
        0 => &[],
        // SAFETY: the C caller gave `count` arguments.
        1..=MAX_ARGUMENTS if !args.is_null() => unsafe { slice::from_raw_parts(args, count as usize) },
        _ => return Err(Error::InvalidArgument),
    };
    // SAFETY: the C caller says that the function takes so many arguments and returns.
    let returned = unsafe { runtime.call(function, arguments) }?;
    if !result.is_null() {
        // SAFETY: the C caller gave room for a result.
        unsafe { result.write(returned) };
    }
    Ok(true)
}

pub unsafe fn rt_set_value_ops<P: Platform>(runtime: &Runtime<P>, ops: *const RtValueOps) -> Result<bool> {
    // SAFETY: a table begins with its size, and has at least so many bytes.
    if ops.is_null() || unsafe { (&raw const (*ops).size).read() } < size_of::<RtValueOps>() as i64 {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: it is as large as the table that we know, and its functions are what the contract says.
    unsafe { runtime.values.set_operations(ops.read()) }.map(|()| true)
}

pub unsafe fn rt_value_bytes<P: Platform>(
    runtime: &Runtime<P>,
    data: *const u8,
    length: i64,
) -> Result<RtValue> {
    if length < 0 || (data.is_null() && length > 0) {
        return Err(Error::InvalidArgument);
    }
    let data = if data.is_null() { core::ptr::dangling() } else { data };
    // SAFETY: the C caller gave `length` bytes.
    unsafe { runtime.values.make_bytes(data, length) }
}

pub unsafe fn rt_symbol_lookup(symbols: &[Symbol], name: *const c_char) -> Result<i64> {
    // SAFETY: the C caller gave NULL or a string.
    let name = unsafe { text(name) }?;
    let symbol = symbols.iter().find(|symbol| symbol.name == name);
    Ok(symbol.ok_or(Error::NotFound)?.function as usize as i64)
}

pub unsafe fn rt_register_symbols(symbols: &[Symbol], each: RtEachSymbol, ctx: *mut c_void) -> Result<i64> {
    let each = each.ok_or(Error::InvalidArgument)?;
    for symbol in symbols {
        // SAFETY: the C caller's own function, with its own context.
        unsafe { each(ctx, symbol.name.as_ptr(), symbol.function as usize as i64) };
    }
    Ok(symbols.len() as i64)
}

pub unsafe fn rt_exec_memory_stats<P: Platform>(
    runtime: &Runtime<P>,
    out: *mut RtExecMemoryStats,
) -> Result<bool> {
    if out.is_null() {
        return Err(Error::InvalidArgument);
    }
    // SAFETY: the structure begins with its size, which the C caller has set.
    let size = unsafe { (&raw const (*out).size).read() };
    if size < offset_of!(RtExecMemoryStats, regions_by_protection) as i64 {
        return Err(Error::InvalidArgument);
    }
    let all = RtExecMemoryStats { size, ..runtime.statistics() };
    let known = size_of::<RtExecMemoryStats>().min(size as usize);
    // SAFETY: the caller's structure has at least `known` bytes, and so has ours.
    unsafe { core::ptr::copy_nonoverlapping((&raw const all).cast::<u8>(), out.cast(), known) };
    Ok(true)
}

pub unsafe fn rt_code_publish_all<P: Platform>(
    runtime: &Runtime<P>,
    addresses: *const i64,
    sizes: *const i64,
    count: i64,
) -> Result<bool> {
    if count == 0 {
        return Ok(true);
    }
    if count < 0 || addresses.is_null() || sizes.is_null() {
        return Err(Error::InvalidArgument);
    }
    let count = count as usize;
    // SAFETY: the C caller gave `count` addresses and as many sizes.
    let (addresses, sizes) =
        unsafe { (slice::from_raw_parts(addresses, count), slice::from_raw_parts(sizes, count)) };
    let ranges = addresses.iter().copied().zip(sizes.iter().copied());
    runtime.code_heap().publish_all(ranges).map(|()| true)
}

pub unsafe fn rt_code_find<P: Platform>(runtime: &Runtime<P>, address: i64, out: *mut RtCodeBlock) -> bool {
    let found = runtime.find_block(address).filter(|_| !out.is_null());
    if let Some(block) = found {
        // SAFETY: the C caller gave room for a block.
        unsafe { out.write(RtCodeBlock { address: block.address as i64, size: block.size as i64 }) };
    }
    found.is_some()
}

pub unsafe fn rt_error_message<P: Platform>(_: &Runtime<P>, code: i32) -> *const c_char {
    let message = match Error::from_code(code) {
        Some(error) => error.message(),
        None if code == RT_ERROR_NONE => c"no error",
        None => c"unknown error code",
    };
    message.as_ptr()
}
