//! The BSD side of the kernel's memory: `mmap` and its family, by Apple's rules.

use crate::errno::*;
use crate::host::{self, Source};
use crate::jit;
use crate::regions::{Kind, Region, Regions};
use crate::rules::Rules;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

// sys/mman.h
const PROT_ALL: i32 = 7;
const WRITE_AND_EXEC: i32 = 6;
const EXEC: i32 = 4;
const MAP_SHARED: i32 = 1;
const MAP_PRIVATE: i32 = 2;
const MAP_FIXED: i32 = 0x10;
const MAP_JIT: i32 = 0x800;
const MAP_ANON: i32 = 0x1000;
const MS_ASYNC: i32 = 1;
const MS_SYNC: i32 = 0x10;
const MADV_DONTNEED: i32 = 4;

/// The machine: chosen once, before anything is loaded.
static RULES: OnceLock<Rules> = OnceLock::new();
static REGIONS: Mutex<Regions> = Mutex::new(Regions::new());

/// Chooses the machine.
pub fn start(rules: Rules) {
    RULES.set(rules).expect("a process models one machine");
    jit::catch_faults();
    // Registered before the library registers anything: runs last before a fork and first after it.
    // SAFETY: the functions fit.
    unsafe { libc::pthread_atfork(None, None, Some(lose_pages)) };
}

/// The machine.
pub fn rules() -> Rules {
    *RULES.get().expect("the machine is chosen first")
}

/// What the program has mapped.
pub fn regions() -> MutexGuard<'static, Regions> {
    REGIONS.lock().expect("nothing panics with the lock held")
}

/// Whether a child is to be a copy in all respects, to see it break a rule in its parent's stead.
static COPIES_ALL: AtomicBool = AtomicBool::new(false);

/// Lets children have `MAP_JIT` pages, whatever the machine's rules are.
pub fn copy_all_to_children(copy_all: bool) {
    COPIES_ALL.store(copy_all, Ordering::Relaxed);
}

/// A child may have no `MAP_JIT` pages, and has none that it is not to inherit.
extern "C" fn lose_pages() {
    if COPIES_ALL.load(Ordering::Relaxed) {
        return;
    }
    let is_lost =
        |region: &Region| region.is_withheld || matches!(region.kind, Kind::Jit) && !rules().inherits_jit();
    for region in regions().take_all(is_lost) {
        jit::forget(region.range.clone());
        host::unmap(region.range).expect("the pages are there");
    }
}

/// Whole pages: `length` is rounded up, `address` must be aligned.
pub fn pages(address: usize, length: usize) -> Result<Range<usize>, Errno> {
    let page_size = rules().page_size();
    let end = length.checked_next_multiple_of(page_size).and_then(|length| address.checked_add(length));
    match end {
        Some(end) if address.is_multiple_of(page_size) && length > 0 => Ok(address..end),
        _ => Err(EINVAL),
    }
}

fn linux(number: host::Number) -> Errno {
    Errno::from_linux(number)
}

/// mmap(2).
pub fn mmap(
    address: usize,
    length: usize,
    protection: i32,
    flags: i32,
    file: i32,
    offset: i64,
) -> Result<usize, Errno> {
    let page_size = rules().page_size();
    let is_shared = flags & MAP_SHARED != 0;
    let known = MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_JIT | MAP_ANON;
    let is_aligned = offset >= 0 && (offset as usize).is_multiple_of(page_size);
    if flags & !known != 0
        || is_shared == (flags & MAP_PRIVATE != 0)
        || protection & !PROT_ALL != 0
        || !is_aligned
    {
        return Err(EINVAL);
    }
    let is_jit = flags & MAP_JIT != 0;
    let is_anonymous = flags & MAP_ANON != 0;
    if is_jit && (!is_anonymous || is_shared || flags & MAP_FIXED != 0) {
        return Err(EINVAL);
    }
    if is_jit && !rules().allows_jit() {
        // The policy that checks entitlements is not asked why, the monitor of code signing is.
        return Err(if rules().is_strict { EPERM } else { EINVAL });
    }
    if !is_jit {
        check_protection(0, protection)?;
    }
    let length = pages(0, length)?.len();
    let start = match flags & MAP_FIXED {
        0 => host::reserve_near(address, length, page_size).map_err(linux)?,
        _ => {
            let replaced = pages(address, length)?;
            jit::forget(replaced.clone());
            replaced.start
        }
    };
    let kind = match (is_jit, is_anonymous, is_shared) {
        (true, ..) if rules().has_write_switch() => {
            jit::map_over(start, length).map(|()| Kind::Jit).map_err(linux)
        }
        (true, ..) => {
            host::map_over(start, length, protection, Source::Fresh).map(|()| Kind::Jit).map_err(linux)
        }
        (_, true, true) => map_shared_memory(start, length, protection),
        (_, true, false) => host::map_over(start, length, enforced(protection), Source::Fresh)
            .map(|()| Kind::Private)
            .map_err(linux),
        (_, false, _) => map_file(start, length, protection, is_shared, file, offset as usize),
    };
    let kind = kind.inspect_err(|_| {
        if flags & MAP_FIXED == 0 {
            host::unmap(start..start + length).expect("the reservation is ours");
        }
    })?;
    regions().insert(Region { range: start..start + length, protection, kind, is_withheld: false });
    Ok(start)
}

fn map_shared_memory(start: usize, length: usize, protection: i32) -> Result<Kind, Errno> {
    let memory = host::memory_file(length).map_err(linux)?;
    host::map_over(start, length, enforced(protection), Source::Shared(&memory, 0)).map_err(linux)?;
    Ok(Kind::Shared(Arc::new(memory), 0))
}

/// The bytes behind a file's end are zero up to the page's end, also where Linux's pages are smaller.
fn map_file(
    start: usize,
    length: usize,
    protection: i32,
    is_shared: bool,
    file: i32,
    offset: usize,
) -> Result<Kind, Errno> {
    // SAFETY: an open file of the program, or a number that the system calls below refuse.
    let file = unsafe { BorrowedFd::borrow_raw(file) }.as_fd().try_clone_to_owned();
    let file = file.map_err(|_| Errno(9))?;
    let source = if is_shared { Source::Shared(&file, offset) } else { Source::Copied(&file, offset) };
    let protection = enforced(protection);
    host::map_over(start, length, protection, source).map_err(linux)?;
    let size = std::fs::File::from(file).metadata().map_err(|_| EINVAL)?.len() as usize;
    let backed = size.saturating_sub(offset).next_multiple_of(4096).min(length);
    let last_page = backed.next_multiple_of(rules().page_size()).min(length);
    if backed > 0 && backed < last_page {
        host::map_over(start + backed, last_page - backed, protection, Source::Fresh).map_err(linux)?;
    }
    Ok(Kind::File)
}

/// What Linux is told of pages with this protection: it must fault where Apple's kernel kills.
pub fn enforced(protection: i32) -> i32 {
    if rules().kills_for_unsigned_code() { protection & !EXEC } else { protection }
}

/// W and X together need `MAP_JIT` except on Intel; a strict kernel lets nothing become executable under the
/// hardened runtime.
pub fn check_protection(before: i32, wanted: i32) -> Result<(), Errno> {
    let is_writable_code = wanted & WRITE_AND_EXEC == WRITE_AND_EXEC;
    let becomes_code = wanted & EXEC != 0 && before & EXEC == 0;
    if is_writable_code && !rules().allows_writable_code() || becomes_code && rules().refuses_unsigned_code()
    {
        return Err(EACCES);
    }
    Ok(())
}

/// munmap(2). A hole is no error.
pub fn munmap(address: usize, length: usize) -> Result<(), Errno> {
    let range = pages(address, length)?;
    let mut regions = regions();
    jit::forget(range.clone());
    regions.remove(range.clone());
    host::unmap(range).map_err(linux)
}

/// mprotect(2).
pub fn mprotect(address: usize, length: usize, protection: i32) -> Result<(), Errno> {
    let range = pages(address, length)?;
    let mut regions = regions();
    let parts = regions.parts(range.clone()).ok_or(ENOMEM)?;
    for part in &parts {
        if matches!(part.kind, Kind::Jit) {
            return Err(EACCES);
        }
        check_protection(part.protection, protection)?;
    }
    host::protect(range, enforced(protection)).map_err(linux)?;
    for part in parts {
        regions.insert(Region { protection, ..part });
    }
    Ok(())
}

fn mapped(address: usize, length: usize) -> Result<Range<usize>, Errno> {
    let range = pages(address, length)?;
    regions().parts(range.clone()).map(|_| range).ok_or(ENOMEM)
}

/// Whether any page that the program mapped is writable and executable at once. To every thread `MAP_JIT`
/// pages are one of the two, where there is a switch.
pub extern "C" fn has_writable_code() -> bool {
    let regions = regions().all();
    regions.iter().any(|region| match region.kind {
        Kind::Jit => !rules().has_write_switch(),
        _ => region.protection & WRITE_AND_EXEC == WRITE_AND_EXEC,
    })
}

/// msync(2).
pub fn msync(address: usize, length: usize, flags: i32) -> Result<(), Errno> {
    let range = mapped(address, length)?;
    let flags = match flags {
        MS_ASYNC => libc::MS_ASYNC,
        MS_SYNC => libc::MS_SYNC,
        _ => return Err(EINVAL),
    };
    // SAFETY: writes mapped pages back; changes nothing.
    check(unsafe { libc::msync(range.start as *mut _, range.len(), flags) })
}

/// mlock(2) and munlock(2).
pub fn lock(address: usize, length: usize, keep: bool) -> Result<(), Errno> {
    let range = mapped(address, length)?;
    // SAFETY: the pages are mapped; nothing in them changes.
    check(unsafe {
        match keep {
            true => libc::mlock(range.start as *const _, range.len()),
            false => libc::munlock(range.start as *const _, range.len()),
        }
    })
}

/// madvise(2). Darwin's DONTNEED drops nothing.
pub fn madvise(address: usize, length: usize, advice: i32) -> Result<(), Errno> {
    mapped(address, length)?;
    if (0..=MADV_DONTNEED).contains(&advice) { Ok(()) } else { Err(EINVAL) }
}

fn check(result: i32) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(linux(host::number())) }
}
