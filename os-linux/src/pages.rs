//! Mapping, unmapping, protecting and advising pages.

use crate::copy::populate;
use crate::errno::{check, number, retried, translate};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use execmem_core::platform::{Memory, PageRequest, Views};
use execmem_core::{Advice, Error, Protection, Span};
use libc::c_int;

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
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
});

static PHYSICAL_MEMORY: Constant = Constant::new(|| {
    // SAFETY: asks for a number.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    (pages.max(1) as usize).saturating_mul(page_size())
});

pub(crate) fn page_size() -> usize {
    PAGE_SIZE.get()
}

pub(crate) fn physical_memory() -> usize {
    PHYSICAL_MEMORY.get()
}

/// The contract's protection bits in Linux's numbers.
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
    let anonymous = |protection, flags| {
        let address = mmap(length, protection, flags | libc::MAP_ANONYMOUS, -1, at)?;
        Ok(Views { address, writable: 0 })
    };
    match memory {
        Memory::Private(protection) => anonymous(protection, libc::MAP_PRIVATE),
        Memory::Shared(protection) => anonymous(protection, libc::MAP_SHARED),
        Memory::Dual => map_dual(length, at),
        Memory::Jit => Err(Error::Unsupported),
    }
}

fn mmap(
    length: usize,
    protection: Protection,
    flags: c_int,
    file: c_int,
    at: Option<usize>,
) -> Result<usize, Error> {
    let (hint, fixed) = match at {
        // Kernels before 4.17 ignore the flag and take the address as a hint; the caller looks.
        Some(address) => (address, libc::MAP_FIXED_NOREPLACE),
        None => (0, 0),
    };
    match map_new(hint, length, protection, flags | fixed, file, 0) {
        // Somebody was faster: let the kernel choose, the caller looks and tries again.
        Err(libc::EEXIST) if at.is_some() => mmap(length, protection, flags, file, None),
        mapped => mapped.map_err(translate),
    }
}

/// `mmap(2)` itself, of anything but MAP_FIXED: the address, or the kernel's own error number. The function of
/// musl calls the EPERM of an anonymous mapping ENOMEM, and a refusal is something else than a shortage.
pub(crate) fn map_new(
    hint: usize,
    length: usize,
    protection: Protection,
    flags: c_int,
    file: c_int,
    offset: u64,
) -> Result<usize, i32> {
    debug_assert!(flags & libc::MAP_FIXED == 0);
    // All six as wide as a register: the function that makes the call reads them so.
    let [hint, length, offset] = [hint as i64, length as i64, offset as i64];
    let [protection, flags, file] = [native(protection), flags, file].map(i64::from);
    // SAFETY: a new mapping: without MAP_FIXED it replaces no other one.
    let call = || unsafe { libc::syscall(libc::SYS_mmap, hint, length, protection, flags, file, offset) };
    retried(|| call() as isize)
}

/// Two views of the same shared pages. Each is executable from its start or never, and no page is ever writable
/// and executable. Without a file if that can be: limits of file sizes and of descriptors, and systems where no
/// memory file may be executed (`vm.memfd_noexec`), are about files. Else of a memory file.
fn map_dual(length: usize, at: Option<usize>) -> Result<Views, Error> {
    // If neither works, the reason why the first doesn't is the one that says something of this system.
    map_dual_without_file(length, at).or_else(|error| map_dual_of_file(length, at).map_err(|_| error))
}

/// An old size of 0 makes `mremap` map shared memory a second time (mremap(2)), with the same protection. That
/// view goes from read-execute to read-write before anybody has its address.
fn map_dual_without_file(length: usize, at: Option<usize>) -> Result<Views, Error> {
    let address = mmap(length, Protection::RX, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, at)?;
    with_second_view(address, length, || {
        // SAFETY: the first view is fresh shared memory.
        let writable = unsafe { map_again(span(address, length)?, None) }?;
        let view = span(writable, length)?;
        // SAFETY: the second view is as fresh: nobody has seen it. If it can't be unmapped it is lost.
        unsafe { protect(view, Protection::RW).map(|()| writable).inspect_err(|_| _ = unmap(view)) }
    })
}

/// Where memory without a file may not be executed: SELinux asks for `execmem` then, and for `execute` on a file
/// (security/selinux/hooks.c, file_map_prot_check). And where `mremap` takes an old size of 0 for a mistake, as
/// qemu's user mode does.
fn map_dual_of_file(length: usize, at: Option<usize>) -> Result<Views, Error> {
    let file = memory_file(length)?;
    let views = mmap(length, Protection::RX, libc::MAP_SHARED, file, at).and_then(|address| {
        with_second_view(address, length, || mmap(length, Protection::RW, libc::MAP_SHARED, file, None))
    });
    // SAFETY: the file is ours; the mappings keep the memory.
    unsafe { libc::close(file) };
    views
}

/// The view at `address`, which nobody has seen, and a second one; or neither.
fn with_second_view(
    address: usize,
    length: usize,
    map: impl FnOnce() -> Result<usize, Error>,
) -> Result<Views, Error> {
    let second = map();
    if second.is_err() {
        // SAFETY: nobody has seen it. If it can't be unmapped it is lost.
        _ = unsafe { unmap(span(address, length)?) };
    }
    second.map(|writable| Views { address, writable })
}

/// A memory file of this length that may be executed. `MFD_EXEC` says so to kernels that know it (6.3);
/// others need no saying and refuse the flag.
fn memory_file(length: usize) -> Result<c_int, Error> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is ours.
    check(|| unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) })?;
    if limit.rlim_cur < length as libc::rlim_t {
        // Making the file so long would raise SIGXFSZ.
        return Err(Error::Refused);
    }
    let create = |flags: libc::c_uint| {
        // SAFETY: the name is a C string. Called directly: old C libraries lack the function.
        unsafe { libc::syscall(libc::SYS_memfd_create, c"execmem".as_ptr(), flags) as c_int }
    };
    let mut file = create(libc::MFD_CLOEXEC | libc::MFD_EXEC);
    if file < 0 && number() == libc::EINVAL {
        file = create(libc::MFD_CLOEXEC);
    }
    if file < 0 {
        return Err(translate(number()));
    }
    // SAFETY: the file is ours.
    check(|| unsafe { libc::ftruncate(file, length as libc::off_t) }).map(|()| file).inspect_err(|_| {
        // SAFETY: the file is ours.
        unsafe { libc::close(file) };
    })
}

/// # Safety
/// As [`Pages::unmap`](execmem_core::platform::Pages::unmap).
pub(crate) unsafe fn unmap(pages: Span) -> Result<(), Error> {
    // SAFETY: the caller says that the pages are ours and unused.
    check(|| unsafe { libc::munmap(pointer(pages), pages.length()) })
}

/// # Safety
/// As [`Pages::protect`](execmem_core::platform::Pages::protect).
pub(crate) unsafe fn protect(pages: Span, protection: Protection) -> Result<(), Error> {
    // SAFETY: the caller says that the pages are ours and nothing relies on what they lose.
    check(|| unsafe { libc::mprotect(pointer(pages), pages.length(), native(protection)) })
}

/// An old size of 0 makes `mremap` map shared memory a second time (mremap(2)).
///
/// # Safety
/// As [`Pages::map_again`](execmem_core::platform::Pages::map_again).
pub(crate) unsafe fn map_again(source: Span, onto: Option<usize>) -> Result<usize, Error> {
    let target: *mut libc::c_void = ptr::with_exposed_provenance_mut(onto.unwrap_or(0));
    let flags = libc::MREMAP_MAYMOVE | if onto.is_some() { libc::MREMAP_FIXED } else { 0 };
    // SAFETY: the caller says that the source is shared memory of ours, and so are the pages at `onto`, which
    // the new mapping replaces.
    let call = || unsafe { libc::mremap(pointer(source), 0, source.length(), flags, target) };
    retried(|| call().expose_provenance() as isize).map_err(translate)
}

/// The kernel holds the address space's lock over all of it, so that threads which execute at `onto` wait, and it
/// checks its limits before it takes the old pages away (mm/mremap.c).
///
/// # Safety
/// As [`Pages::move_onto`](execmem_core::platform::Pages::move_onto).
pub(crate) unsafe fn move_onto(source: Span, onto: usize) -> Result<(), Error> {
    let target: *mut libc::c_void = ptr::with_exposed_provenance_mut(onto);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let length = source.length();
    // SAFETY: the caller says that both are ours, and that what the target showed is not needed there any more.
    let call = || unsafe { libc::mremap(pointer(source), length, length, flags, target) };
    retried(|| call().expose_provenance() as isize).map(drop).map_err(translate)
}

/// # Safety
/// As [`Pages::request`](execmem_core::platform::Pages::request).
pub(crate) unsafe fn request(pages: Span, request: PageRequest) -> Result<(), Error> {
    let (start, length) = (pointer(pages), pages.length());
    // SAFETY: the caller says that the pages are ours, and that dropping them is wanted where it is asked.
    unsafe {
        match request {
            PageRequest::Sync { is_async: true } => check(|| libc::msync(start, length, libc::MS_ASYNC)),
            PageRequest::Sync { is_async: false } => check(|| libc::msync(start, length, libc::MS_SYNC)),
            PageRequest::Lock => check(|| libc::mlock(start, length)),
            PageRequest::Unlock => check(|| libc::munlock(start, length)),
            PageRequest::Advise(advice) => check(|| libc::madvise(start, length, native_advice(advice))),
            PageRequest::Populate { for_write } => populate(pages, for_write),
        }
    }
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

/// Never an error for what the kernel has mapped: user addresses end far below `i64::MAX`.
fn span(address: usize, length: usize) -> Result<Span, Error> {
    Span::new(address as i64, length as i64)
}

pub(crate) fn pointer(pages: Span) -> *mut libc::c_void {
    ptr::with_exposed_provenance_mut(pages.start())
}
