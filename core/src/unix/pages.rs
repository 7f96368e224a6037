//! Unmapping, protecting and advising pages, and what mapping them takes.

use super::errno::check;
use crate::header::RT_PROT_BTI;
use crate::platform::{PageRequest, Views};
use crate::sync::{AtomicUsize, Ordering};
use crate::{Advice, Error, Protection, Span};
use core::ffi::{c_int, c_void};
#[cfg(target_os = "linux")]
use core::mem::MaybeUninit;
use core::ptr;

/// A number of the system that never changes, asked for once: `sysconf` may cost a system call.
struct Constant {
    value: AtomicUsize,
    ask: fn() -> usize,
}

impl Constant {
    const fn new(ask: fn() -> usize) -> Self {
        Self { value: AtomicUsize::new(0), ask }
    }

    #[inline]
    fn get(&self) -> usize {
        match self.value.load(Ordering::Relaxed) {
            0 => {
                let value = (self.ask)().max(1);
                self.value.store(value, Ordering::Relaxed);
                value
            }
            value => value,
        }
    }
}

static PAGE_SIZE: Constant = Constant::new(|| {
    // SAFETY: has no preconditions (sysconf(3)).
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
});

/// A filter may keep it from us: then there is no limit but the system's.
static PHYSICAL_MEMORY: Constant = Constant::new(|| ask_physical_memory().unwrap_or(usize::MAX));

/// The kernel itself: where it refuses, `sysconf` of glibc and of musl tells what happened to be on the stack.
#[cfg(target_os = "linux")]
fn ask_physical_memory() -> Option<usize> {
    let mut answer = MaybeUninit::<libc::sysinfo>::uninit();
    // SAFETY: the structure is borrowed, and of the type that sysinfo(2) fills in.
    if unsafe { libc::sysinfo(answer.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: it was filled in.
    let answer = unsafe { answer.assume_init() };
    Some((answer.totalram as usize).saturating_mul(answer.mem_unit as usize))
}

#[cfg(not(target_os = "linux"))]
fn ask_physical_memory() -> Option<usize> {
    // SAFETY: has no preconditions (sysconf(3)).
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    (pages > 0).then(|| (pages as usize).saturating_mul(page_size()))
}

/// As [`Pages::page_size`](crate::platform::Pages::page_size).
pub fn page_size() -> usize {
    PAGE_SIZE.get()
}

/// As [`Pages::physical_memory`](crate::platform::Pages::physical_memory).
pub fn physical_memory() -> usize {
    PHYSICAL_MEMORY.get()
}

/// The contract's protection bits in the system's numbers.
pub fn native(protection: Protection) -> c_int {
    [
        (Protection::READ, libc::PROT_READ),
        (Protection::WRITE, libc::PROT_WRITE),
        (Protection::EXEC, libc::PROT_EXEC),
        // Linux's number on aarch64; others are never asked for it.
        (Protection::BTI, RT_PROT_BTI),
    ]
    .into_iter()
    .filter(|(bit, _)| protection.contains(*bit))
    .fold(libc::PROT_NONE, |bits, (_, bit)| bits | bit)
}

/// The view at `address` and a second one, which `map` maps; or neither.
///
/// # Safety
/// The caller has mapped the first view just now, so long, and nobody else knows of it.
pub unsafe fn with_second_view(
    address: usize,
    length: usize,
    map: impl FnOnce() -> Result<usize, Error>,
) -> Result<Views, Error> {
    let second = map();
    if second.is_err() {
        // SAFETY: the view is the caller's alone, by its word. If it can't be unmapped it is lost.
        _ = unsafe { unmap(span(address, length)?) };
    }
    second.map(|writable| Views { address, writable })
}

/// As [`Pages::unmap`](crate::platform::Pages::unmap).
///
/// # Safety
/// As there.
pub unsafe fn unmap(pages: Span) -> Result<(), Error> {
    // SAFETY: the caller says that the pages are ours and unused.
    check(|| unsafe { libc::munmap(pointer(pages), pages.length()) })
}

/// As [`Pages::protect`](crate::platform::Pages::protect).
///
/// # Safety
/// As there.
pub unsafe fn protect(pages: Span, protection: Protection) -> Result<(), Error> {
    // SAFETY: the caller says that the pages are ours and nothing relies on what they lose.
    check(|| unsafe { libc::mprotect(pointer(pages), pages.length(), native(protection)) })
}

/// As [`Pages::request`](crate::platform::Pages::request). Bringing pages in is each system's own: `populate` is told
/// whether it is for a store. So is what a child gets: `inherit` is told whether it gets them.
///
/// # Safety
/// As there.
pub unsafe fn request(
    pages: Span,
    request: PageRequest,
    populate: impl FnOnce(bool) -> Result<(), Error>,
    inherit: impl FnOnce(bool) -> Result<(), Error>,
) -> Result<(), Error> {
    let (start, length) = (pointer(pages), pages.length());
    // SAFETY: the caller says that the pages are ours, and that nothing relies on their contents where the advice
    // drops them; the other calls change no contents.
    unsafe {
        match request {
            PageRequest::Sync { is_async } => {
                let flags = if is_async { libc::MS_ASYNC } else { libc::MS_SYNC };
                check(|| libc::msync(start, length, flags))
            }
            PageRequest::Lock => check(|| libc::mlock(start, length)),
            PageRequest::Unlock => check(|| libc::munlock(start, length)),
            PageRequest::Advise(advice) => match native_advice(advice) {
                Some(number) => check(|| libc::madvise(start, length, number)),
                None => inherit(false),
            },
            PageRequest::Fork => inherit(true),
            PageRequest::Populate { for_write } => populate(for_write),
        }
    }
}

fn native_advice(advice: Advice) -> Option<c_int> {
    Some(match advice {
        Advice::Normal => libc::MADV_NORMAL,
        Advice::Random => libc::MADV_RANDOM,
        Advice::Sequential => libc::MADV_SEQUENTIAL,
        Advice::WillNeed => libc::MADV_WILLNEED,
        Advice::DontNeed => libc::MADV_DONTNEED,
        Advice::DontFork => return None,
    })
}

/// Never an error for what the system has mapped: user addresses end far below `i64::MAX`.
pub fn span(address: usize, length: usize) -> Result<Span, Error> {
    Span::new(address as i64, length as i64)
}

/// The first page, as system calls take it.
pub fn pointer(pages: Span) -> *mut c_void {
    ptr::with_exposed_provenance_mut(pages.start())
}
