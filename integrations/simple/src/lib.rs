//! The names that the loader of the Simple language calls, each with whole registers, over execmem. README.md says what
//! each of them does, `include/execmem_simple.h` declares them for C.
//!
//! A failure is noted as the library's own calls note theirs: `rt_last_error` says why.
#![no_std]

use core::mem::transmute;
use core::ptr::with_exposed_provenance;
use execmem::{Advice, ErrorKind as Error, MapFlags, MapRequest, Protection, runtime};

/// What `msync(2)` calls them on Linux.
const MS_ASYNC: i64 = 1;
const MS_INVALIDATE: i64 = 2;
const MS_SYNC: i64 = 4;

/// The number that says that a call failed.
const FAILED: i64 = -1;

fn noted<T>(result: Result<T, Error>, failed: T) -> T {
    result.unwrap_or_else(|error| {
        runtime().note_failure(error);
        failed
    })
}

/// As the system's calls say it: 0, or -1.
fn status(result: Result<(), Error>) -> i64 {
    noted(result.map(|()| 0), FAILED)
}

fn narrow(number: i64) -> Result<i32, Error> {
    i32::try_from(number).map_err(|_| Error::InvalidArgument)
}

fn pages(size: i64) -> Option<usize> {
    usize::try_from(size).ok()?.checked_next_multiple_of(runtime().page_size())
}

/// Maps `length` bytes of an open file, or anonymous memory. The address; -1 on failure. `addr` is a hint that nobody
/// needs.
#[unsafe(no_mangle)]
pub extern "C" fn rt_mmap_raw(_addr: i64, length: i64, prot: i64, flags: i64, fd: i64, offset: i64) -> i64 {
    let map = || {
        let request = MapRequest {
            path: None,
            protection: Protection::from_number(narrow(prot)?)?,
            flags: MapFlags::from_number(narrow(flags)?)?,
            offset,
            length: if length > 0 { length } else { return Err(Error::InvalidArgument) },
        };
        if request.flags.contains(MapFlags::ANONYMOUS) {
            return runtime().map_file(request);
        }
        let fd = narrow(fd)?;
        match runtime().map_descriptor(fd, request) {
            // The file may end inside the last page: what is behind its end is zero.
            Err(Error::OutOfRange) => {
                let (address, size) = runtime().map_descriptor(fd, MapRequest { length: 0, ..request })?;
                if pages(size as i64) == pages(length) {
                    return Ok((address, size));
                }
                runtime().unmap(address as i64, size as i64).and(Err(Error::OutOfRange))
            }
            other => other,
        }
    };
    noted(map().map(|(address, _)| address as i64), FAILED)
}

/// Unmaps what [`rt_mmap_raw`] mapped at `addr`: all of it, with `length` as it was or rounded up to pages.
#[unsafe(no_mangle)]
pub extern "C" fn rt_munmap_raw(addr: i64, length: i64) -> i64 {
    let unmap = || {
        let size = runtime().mapping_size(addr)? as i64;
        if length <= 0 || pages(size) != pages(length) {
            return Err(Error::WrongSize);
        }
        runtime().unmap(addr, size)
    };
    status(unmap())
}

/// Sets the protection of the pages that a range touches. EXEC makes caches coherent.
#[unsafe(no_mangle)]
pub extern "C" fn rt_mprotect(addr: i64, length: i64, prot: i64) -> i64 {
    let protection = narrow(prot).and_then(Protection::from_number);
    status(protection.and_then(|protection| runtime().set_protection(addr, length, protection)))
}

/// Tells how the pages that a range touches will be used.
#[unsafe(no_mangle)]
pub extern "C" fn rt_madvise_raw(addr: i64, length: i64, advice: i64) -> i64 {
    let advice = narrow(advice).and_then(Advice::from_number);
    status(advice.and_then(|advice| runtime().advise(addr, length, advice)))
}

/// Writes changed pages back to their file; exactly one of Linux's MS_SYNC and MS_ASYNC.
#[unsafe(no_mangle)]
pub extern "C" fn rt_msync_flags(addr: i64, length: i64, flags: i64) -> i64 {
    // Mappings of one file are always alike: there is nothing to invalidate.
    status(match flags & !MS_INVALIDATE {
        MS_SYNC => runtime().sync(addr, length, false),
        MS_ASYNC => runtime().sync(addr, length, true),
        _ => Err(Error::InvalidArgument),
    })
}

/// Bytes in a page.
#[unsafe(no_mangle)]
pub extern "C" fn rt_page_size() -> i64 {
    runtime().page_size() as i64
}

/// Copies `len` bytes at `src` to `addr + offset` in memory of the library. Their number; 0 if they don't all fit, or
/// can't be written.
///
/// # Safety
/// `src` is readable for so many bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rt_ptr_write_bytes_raw(addr: i64, offset: i64, src: i64, len: i64) -> i64 {
    let source = with_exposed_provenance(if src > 0 { src as usize } else { 0 });
    // SAFETY: the caller's promise, passed on; NULL is refused.
    let written = unsafe { runtime().write(addr, source, len, offset) };
    noted(written.map(|count| count as i64), 0)
}

macro_rules! calls {
    ($($checked:ident, $unchecked:ident($($argument:ident),*);)*) => { $(
        calls!(checked $checked($($argument),*));
        calls!(unchecked $unchecked($($argument),*));
    )* };
    (checked none($($argument:ident),*)) => {};
    (checked $name:ident($($argument:ident),*)) => {
        /// Calls the function at an address. -1, with nothing jumped to, if that can't be executed.
        ///
        /// # Safety
        /// A function of so many integers starts there, and stays until it returns.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(addr: i64 $(, $argument: i64)*) -> i64 {
            // SAFETY: the caller's promise, passed on.
            noted(unsafe { runtime().call(addr, &[$($argument),*]) }, FAILED)
        }
    };
    (unchecked $name:ident($($argument:ident),*)) => {
        /// Calls a function of any library, without a look at its address: -1 for one that isn't positive.
        ///
        /// # Safety
        /// A function of so many integers starts there.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(r#fn: i64 $(, $argument: i64)*) -> i64 {
            if r#fn <= 0 {
                runtime().note_failure(Error::NotExecutable);
                return FAILED;
            }
            type Function = unsafe extern "C" fn($(calls!(word $argument)),*) -> i64;
            // SAFETY: by the caller's word a function of that type starts there.
            unsafe { transmute::<*const (), Function>(with_exposed_provenance(r#fn as usize))($($argument),*) }
        }
    };
    (word $argument:ident) => { i64 };
}

calls! {
    rt_call_ptr_0, rt_dyncall_0();
    rt_call_ptr_1, rt_dyncall_1(a);
    rt_call_ptr_2, rt_dyncall_2(a, b);
    rt_call_ptr_3, rt_dyncall_3(a, b, c);
    none, rt_dyncall_4(a, b, c, d);
    none, rt_dyncall_5(a, b, c, d, e);
    none, rt_dyncall_6(a, b, c, d, e, f);
}
