//! Mapping pages, also twice, and replacing them.

use crate::mach;
use crate::mappings::region;
use crate::{copy, jit, signing};
use core::ffi::c_int;
use core::ptr;
use execmem_core::platform::{Memory, PageRequest, Views};
use execmem_core::unix;
use execmem_core::unix::errno::{check, retried, translate};
use execmem_core::unix::pages::{native, pointer, span, unmap, with_second_view};
use execmem_core::{Advice, Error, Protection, Span};
use mach2::traps::mach_task_self;
use mach2::vm::{mach_vm_inherit, mach_vm_remap};
use mach2::vm_inherit::{VM_INHERIT_NONE, VM_INHERIT_SHARE, vm_inherit_t};
use mach2::vm_statistics::{VM_FLAGS_ANYWHERE, VM_FLAGS_FIXED, VM_FLAGS_OVERWRITE};

pub(crate) fn map(length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
    let only = |address| Views { address, writable: 0 };
    match memory {
        Memory::Private(protection) => mmap(length, protection, libc::MAP_PRIVATE, at).map(only),
        Memory::Shared(protection) => mmap(length, protection, libc::MAP_SHARED, at).map(only),
        Memory::Dual => map_dual(length, at),
        Memory::Jit => {
            jit::prepare()?;
            // The pages allow everything; each thread's switch takes one of W and X away.
            mmap(length, Protection::RWX, libc::MAP_PRIVATE | libc::MAP_JIT, at).map(only)
        }
    }
}

/// The system takes the address for a wish. The caller looks.
fn mmap(length: usize, protection: Protection, flags: c_int, at: Option<usize>) -> Result<usize, Error> {
    if flags & libc::MAP_JIT == 0 {
        signing::check(protection)?;
    }
    let mapped = map_new(at.unwrap_or(0), length, protection, flags | libc::MAP_ANON, -1, 0);
    mapped.map_err(|number| match translate(number) {
        // What code signing refuses is called an invalid argument (bsd/kern/kern_mman.c: "Entitlement check").
        Error::InvalidArgument if protection.contains(Protection::EXEC) => Error::Refused,
        other => other,
    })
}

/// `mmap(2)` itself, but never with MAP_FIXED: the address, or the kernel's own error number.
pub(crate) fn map_new(
    hint: usize,
    length: usize,
    protection: Protection,
    flags: c_int,
    file: c_int,
    offset: u64,
) -> Result<usize, i32> {
    let hint = ptr::without_provenance_mut(hint);
    let (protection, flags) = (native(protection), flags & !libc::MAP_FIXED);
    // SAFETY: the kernel replaces no mapping with one that is not MAP_FIXED (mmap(2)).
    let call = || unsafe { libc::mmap(hint, length, protection, flags, file, offset as libc::off_t) };
    retried(|| call().expose_provenance() as isize)
}

/// Two views of the same memory. Both are mapped without any protection and get theirs then, so that no
/// mapping goes from writable to executable. Shared memory, since a fork would give each view of private
/// memory a copy of its own.
fn map_dual(length: usize, at: Option<usize>) -> Result<Views, Error> {
    let address = mmap(length, Protection::NONE, libc::MAP_SHARED, at)?;
    let second = || {
        let base = span(address, length)?;
        // SAFETY: the first view is memory that this call has mapped.
        let writable = unsafe { remap(base, None, VM_INHERIT_SHARE) }?;
        let view = span(writable, length)?;
        // SAFETY: this call has mapped both views, and nobody else knows of them. If the second one can't be unmapped
        // it is lost.
        unsafe {
            let granted = protect(view, Protection::RW).and_then(|()| protect(base, Protection::RX));
            granted.map(|()| writable).inspect_err(|_| _ = unmap(view))
        }
    };
    // SAFETY: the first view was mapped above, so long, and nobody else knows of it.
    unsafe { with_second_view(address, length, second) }
}

/// Maps the memory of `source` once more, with the same protection: over the pages at `onto`, or anywhere. A forked child
/// gets what `inheritance` says.
///
/// # Safety
/// `source` and the pages at `onto`, which are as long, are ours. What `onto` showed until now is not needed there any
/// more.
unsafe fn remap(source: Span, onto: Option<usize>, inheritance: vm_inherit_t) -> Result<usize, Error> {
    let mut target = onto.unwrap_or(0) as u64;
    let flags = match onto {
        Some(_) => VM_FLAGS_FIXED | VM_FLAGS_OVERWRITE,
        None => VM_FLAGS_ANYWHERE,
    };
    let (mut current, mut maximum) = (0, 0);
    // SAFETY: by the caller's word the source is ours, and what is at `onto` may be replaced; without `onto` the
    // kernel replaces nothing.
    mach::check(unsafe {
        mach_vm_remap(
            mach_task_self(),
            &mut target,
            source.length() as u64,
            0,
            flags,
            mach_task_self(),
            source.start() as u64,
            0,
            &mut current,
            &mut maximum,
            inheritance,
        )
    })?;
    Ok(target as usize)
}

/// # Safety
/// As [`Pages::protect`](execmem_core::platform::Pages::protect).
pub(crate) unsafe fn protect(pages: Span, protection: Protection) -> Result<(), Error> {
    signing::check(protection)?;
    // SAFETY: the caller's promise, passed on.
    unsafe { unix::pages::protect(pages, protection) }
}

/// The new mapping takes the place of the old one under the lock of the address space (vm_map_remap in
/// osfmk/vm/vm_map.c), so that threads which execute at `onto` wait.
///
/// # Safety
/// As [`Pages::move_onto`](execmem_core::platform::Pages::move_onto).
pub(crate) unsafe fn move_onto(source: Span, onto: usize) -> Result<(), Error> {
    let is_withheld = region(source.start())?.is_some_and(|region| region.is_withheld);
    let inheritance = if is_withheld { VM_INHERIT_NONE } else { VM_INHERIT_SHARE };
    // SAFETY: the caller says that both are ours, and that what the target showed is not needed there any more.
    unsafe { remap(source, Some(onto), inheritance) }?;
    // SAFETY: the caller gives the source up: nobody else knows of it. If it can't be unmapped it is lost.
    let _ = unsafe { unmap(source) };
    Ok(())
}

/// # Safety
/// As [`Pages::request`](execmem_core::platform::Pages::request).
pub(crate) unsafe fn request(pages: Span, request: PageRequest) -> Result<(), Error> {
    match request {
        // SAFETY: the caller says that the pages are ours and that nothing relies on their contents.
        PageRequest::Advise(Advice::DontNeed) => unsafe { drop_contents(pages) },
        // SAFETY: the caller's promise, passed on.
        other => unsafe {
            unix::pages::request(
                pages,
                other,
                |_| copy::populate(pages),
                |inherited| inherit(pages, inherited),
            )
        },
    }
}

/// Whether a forked child gets pages: those that it is to get again are shared with it, as both views of dual memory are.
///
/// # Safety
/// The pages are ours, and stay so.
unsafe fn inherit(pages: Span, inherited: bool) -> Result<(), Error> {
    let inheritance = if inherited { VM_INHERIT_SHARE } else { VM_INHERIT_NONE };
    let (start, length) = (pages.start() as u64, pages.length() as u64);
    // SAFETY: the caller's promise; what the pages hold stays.
    mach::check(unsafe { mach_vm_inherit(mach_task_self(), start, length, inheritance) })
}

/// Darwin's MADV_DONTNEED keeps what is in the pages. The contract's drops it from memory of this process
/// alone, which is mapped anew for that; for other pages it is the hint that Darwin understands.
///
/// # Safety
/// The pages are mapped and ours, and nothing relies on their contents.
unsafe fn drop_contents(pages: Span) -> Result<(), Error> {
    let mut from = pages.start();
    while from < pages.end() {
        let region = region(from)?.ok_or(Error::Io)?;
        let start = region.mapping.start.max(from);
        from = region.mapping.end.min(pages.end());
        if start >= from {
            return Err(Error::Io);
        }
        let part = span(start, from - start)?;
        let replaced = match region.is_private_memory {
            // SAFETY: the caller says so of all the pages, and these are some of them.
            true => unsafe { replace(part, region.mapping.protection) },
            false => Err(Error::Refused),
        };
        match replaced {
            Err(Error::Refused) => {
                // SAFETY: Darwin keeps the contents, and the caller says that nothing relies on them.
                check(|| unsafe { libc::madvise(pointer(part), part.length(), libc::MADV_DONTNEED) })?;
            }
            other => other?,
        }
    }
    Ok(())
}

/// Maps empty private pages in place of others. *Refused* for `MAP_JIT` pages, which stay as they are: to the
/// kernel they are writable and executable at once, and no new ones may be.
///
/// # Safety
/// The pages are mapped and ours, and nothing relies on their contents.
unsafe fn replace(pages: Span, protection: Protection) -> Result<(), Error> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED;
    // SAFETY: by the caller's word the pages that it replaces are ours, and nothing relies on their contents.
    let call = || unsafe { libc::mmap(pointer(pages), pages.length(), native(protection), flags, -1, 0) };
    retried(|| call().expose_provenance() as isize).map(drop).map_err(translate)
}
