//! Mapping, unmapping, protecting and advising pages.

use crate::errno::{check, check_mach, last};
use crate::jit;
use crate::mappings::region;
use crate::signing;
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use execmem_core::platform::{Memory, PageRequest, Views};
use execmem_core::{Advice, Error, Protection, Span};
use libc::c_int;
use mach2::traps::mach_task_self;
use mach2::vm::{mach_vm_read_overwrite, mach_vm_remap};
use mach2::vm_inherit::VM_INHERIT_SHARE;
use mach2::vm_statistics::{VM_FLAGS_ANYWHERE, VM_FLAGS_FIXED, VM_FLAGS_OVERWRITE};

pub(crate) fn page_size() -> usize {
    // Asked once: a query in the registry should not cost a call into libSystem.
    static PAGE_SIZE: AtomicUsize = AtomicUsize::new(0);
    match PAGE_SIZE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: asks for a number.
            let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
            PAGE_SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    }
}

pub(crate) fn physical_memory() -> usize {
    // SAFETY: asks for a number.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    (pages.max(1) as usize).saturating_mul(page_size())
}

/// The contract's protection bits in Darwin's numbers.
pub(crate) fn native(protection: Protection) -> c_int {
    [
        (Protection::READ, libc::PROT_READ),
        (Protection::WRITE, libc::PROT_WRITE),
        (Protection::EXEC, libc::PROT_EXEC),
    ]
    .into_iter()
    .filter(|(bit, _)| protection.contains(*bit))
    .fold(libc::PROT_NONE, |bits, (_, bit)| bits | bit)
}

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

/// Without MAP_FIXED, which would replace what is there, an address is a wish. The caller looks.
fn mmap(length: usize, protection: Protection, flags: c_int, at: Option<usize>) -> Result<usize, Error> {
    if flags & libc::MAP_JIT == 0 {
        signing::check(protection)?;
    }
    let hint = ptr::without_provenance_mut(at.unwrap_or(0));
    let flags = flags | libc::MAP_ANON;
    // SAFETY: a new mapping, which replaces no other one.
    let start = unsafe { libc::mmap(hint, length, native(protection), flags, -1, 0) };
    if start != libc::MAP_FAILED {
        return Ok(start.expose_provenance());
    }
    Err(match last() {
        // What code signing refuses is called an invalid argument (bsd/kern/kern_mman.c: "Entitlement check").
        Error::InvalidArgument if protection.contains(Protection::EXEC) => Error::Refused,
        other => other,
    })
}

/// Two views of the same memory. Both are mapped without any protection and get theirs then, so that no
/// mapping goes from writable to executable. Shared memory, since a fork would give each view of private
/// memory a copy of its own.
fn map_dual(length: usize, at: Option<usize>) -> Result<Views, Error> {
    let address = mmap(length, Protection::NONE, libc::MAP_SHARED, at)?;
    let base = span(address, length)?;
    let views = remap(base, None).and_then(|writable| {
        let view = span(writable, length)?;
        // SAFETY: both are fresh, and nobody has seen them.
        let granted = unsafe { protect(view, Protection::RW).and_then(|()| protect(base, Protection::RX)) };
        if let Err(error) = granted {
            // SAFETY: as above. If it can't be unmapped it is lost.
            let _ = unsafe { unmap(view) };
            return Err(error);
        }
        Ok(Views { address, writable })
    });
    if views.is_err() {
        // SAFETY: as above.
        let _ = unsafe { unmap(base) };
    }
    views
}

/// Maps the memory of `source` once more, with the same protection: over the pages at `onto`, or anywhere.
fn remap(source: Span, onto: Option<usize>) -> Result<usize, Error> {
    let mut target = onto.unwrap_or(0) as u64;
    let flags = match onto {
        Some(_) => VM_FLAGS_FIXED | VM_FLAGS_OVERWRITE,
        None => VM_FLAGS_ANYWHERE,
    };
    let (mut current, mut maximum) = (0, 0);
    // SAFETY: shares memory, copies nothing; what it replaces the caller of `map_again` named.
    check_mach(unsafe {
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
            VM_INHERIT_SHARE,
        )
    })?;
    Ok(target as usize)
}

/// # Safety
/// As [`Pages::unmap`](execmem_core::platform::Pages::unmap).
pub(crate) unsafe fn unmap(pages: Span) -> Result<(), Error> {
    // SAFETY: the caller says that the pages are ours and unused.
    check(unsafe { libc::munmap(pointer(pages), pages.length()) })
}

/// # Safety
/// As [`Pages::protect`](execmem_core::platform::Pages::protect).
pub(crate) unsafe fn protect(pages: Span, protection: Protection) -> Result<(), Error> {
    signing::check(protection)?;
    // SAFETY: the caller says that the pages are ours and nothing relies on what they lose.
    check(unsafe { libc::mprotect(pointer(pages), pages.length(), native(protection)) })
}

/// # Safety
/// As [`Pages::map_again`](execmem_core::platform::Pages::map_again).
pub(crate) unsafe fn map_again(source: Span, onto: Option<usize>) -> Result<usize, Error> {
    remap(source, onto)
}

/// The new mapping takes the place of the old one under the lock of the address space (vm_map_remap in
/// osfmk/vm/vm_map.c), so that threads which execute at `onto` wait.
///
/// # Safety
/// As [`Pages::move_onto`](execmem_core::platform::Pages::move_onto).
pub(crate) unsafe fn move_onto(source: Span, onto: usize) -> Result<(), Error> {
    remap(source, Some(onto))?;
    // SAFETY: the caller gives the source up. If it can't be unmapped it is lost.
    let _ = unsafe { unmap(source) };
    Ok(())
}

/// # Safety
/// As [`Pages::request`](execmem_core::platform::Pages::request).
pub(crate) unsafe fn request(pages: Span, request: PageRequest) -> Result<(), Error> {
    let start = pointer(pages);
    // SAFETY: the caller says that the pages are ours, and that dropping them is wanted where it is asked.
    unsafe {
        match request {
            PageRequest::Sync { is_async: true } => check(libc::msync(start, pages.length(), libc::MS_ASYNC)),
            PageRequest::Sync { is_async: false } => check(libc::msync(start, pages.length(), libc::MS_SYNC)),
            PageRequest::Lock => check(libc::mlock(start, pages.length())),
            PageRequest::Unlock => check(libc::munlock(start, pages.length())),
            PageRequest::Advise(Advice::DontNeed) => drop_contents(pages),
            PageRequest::Advise(advice) => check(libc::madvise(start, pages.length(), native_advice(advice))),
            PageRequest::Populate { .. } => read_each_page(pages),
        }
    }
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
            // SAFETY: the caller's promise.
            true => unsafe { replace(part, region.mapping.protection) },
            false => Err(Error::Refused),
        };
        match replaced {
            Err(Error::Refused) => {
                // SAFETY: a hint about pages that are ours.
                check(unsafe { libc::madvise(pointer(part), part.length(), libc::MADV_DONTNEED) })?;
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
/// As [`drop_contents`].
unsafe fn replace(pages: Span, protection: Protection) -> Result<(), Error> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_FIXED;
    // SAFETY: replaces pages that are ours, by the caller's word.
    let start = unsafe { libc::mmap(pointer(pages), pages.length(), native(protection), flags, -1, 0) };
    if start == libc::MAP_FAILED { Err(last()) } else { Ok(()) }
}

fn native_advice(advice: Advice) -> c_int {
    match advice {
        Advice::Normal => libc::MADV_NORMAL,
        Advice::Random => libc::MADV_RANDOM,
        Advice::Sequential => libc::MADV_SEQUENTIAL,
        Advice::WillNeed => libc::MADV_WILLNEED,
        Advice::DontNeed => libc::MADV_DONTNEED,
    }
}

/// Lets the kernel read a byte of each page for us: an error, not a signal, where the file has shrunk. Pages
/// that can be read can also be stored to, as far as the file's length decides it.
fn read_each_page(pages: Span) -> Result<(), Error> {
    let mut byte = 0u8;
    let target = (&raw mut byte).expose_provenance() as u64;
    for page in pages.range().step_by(page_size()) {
        let mut read = 0;
        // SAFETY: reads one byte of this process into `byte`, or fails.
        let result = unsafe { mach_vm_read_overwrite(mach_task_self(), page as u64, 1, target, &mut read) };
        check_mach(result)?;
    }
    Ok(())
}

/// Lets the kernel copy: where a file has become too short for either side it is an error, not a signal.
///
/// # Safety
/// As [`Pages::copy_guarded`](execmem_core::platform::Pages::copy_guarded).
pub(crate) unsafe fn copy_guarded(source: usize, target: usize, length: usize) -> Result<(), Error> {
    let (source, target, length) = (source as u64, target as u64, length as u64);
    let mut copied = 0;
    // SAFETY: the caller's promise. The kernel takes its copy of the source before it stores to the target, so
    // that the two may overlap.
    check_mach(unsafe { mach_vm_read_overwrite(mach_task_self(), source, length, target, &mut copied) })
}

/// Never an error for what the kernel has mapped: user addresses end far below `i64::MAX`.
fn span(address: usize, length: usize) -> Result<Span, Error> {
    Span::new(address as i64, length as i64)
}

fn pointer(pages: Span) -> *mut libc::c_void {
    ptr::with_exposed_provenance_mut(pages.start())
}
