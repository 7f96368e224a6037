//! Mapping, unmapping, protecting and advising pages.

use crate::errno::{check, last, number};
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
        Some(address) => (ptr::without_provenance_mut(address), libc::MAP_FIXED_NOREPLACE),
        None => (ptr::null_mut(), 0),
    };
    // SAFETY: a new mapping: MAP_FIXED_NOREPLACE never replaces another one.
    let start = unsafe { libc::mmap(hint, length, native(protection), flags | fixed, file, 0) };
    if start == libc::MAP_FAILED {
        return match number() {
            // Somebody was faster: let the kernel choose, the caller looks and tries again.
            libc::EEXIST => mmap(length, protection, flags, file, None),
            _ => Err(last()),
        };
    }
    Ok(start.expose_provenance())
}

/// Two views of a memory file. Each is mapped with its final protection, so that a system which refuses
/// to add EXEC to a mapping still grants it.
fn map_dual(length: usize, at: Option<usize>) -> Result<Views, Error> {
    let file = memory_file(length)?;
    let views = (|| {
        let address = mmap(length, Protection::RX, libc::MAP_SHARED, file, at)?;
        match mmap(length, Protection::RW, libc::MAP_SHARED, file, None) {
            Ok(writable) => Ok(Views { address, writable }),
            Err(error) => {
                // SAFETY: mapped above, and nobody has seen it.
                unsafe { libc::munmap(ptr::with_exposed_provenance_mut(address), length) };
                Err(error)
            }
        }
    })();
    // SAFETY: the file is ours; the mappings keep the memory.
    unsafe { libc::close(file) };
    views
}

/// A memory file of this length that may be executed. `MFD_EXEC` says so to kernels that know it (6.3);
/// others need no saying and refuse the flag.
fn memory_file(length: usize) -> Result<c_int, Error> {
    let create = |flags: libc::c_uint| {
        // SAFETY: the name is a C string. Called directly: old C libraries lack the function.
        unsafe { libc::syscall(libc::SYS_memfd_create, c"execmem".as_ptr(), flags) as c_int }
    };
    let mut file = create(libc::MFD_CLOEXEC | libc::MFD_EXEC);
    if file < 0 && number() == libc::EINVAL {
        file = create(libc::MFD_CLOEXEC);
    }
    if file < 0 {
        return Err(last());
    }
    // SAFETY: the file is ours.
    if unsafe { libc::ftruncate(file, length as libc::off_t) } != 0 {
        let error = last();
        // SAFETY: the file is ours.
        unsafe { libc::close(file) };
        return Err(error);
    }
    Ok(file)
}

/// # Safety
/// As [`Platform::unmap`](execmem_core::Platform::unmap).
pub(crate) unsafe fn unmap(pages: Span) -> Result<(), Error> {
    // SAFETY: the caller says that the pages are ours and unused.
    check(unsafe { libc::munmap(pointer(pages), pages.length()) })
}

/// # Safety
/// As [`Platform::protect`](execmem_core::Platform::protect).
pub(crate) unsafe fn protect(pages: Span, protection: Protection) -> Result<(), Error> {
    // SAFETY: the caller says that the pages are ours and nothing relies on what they lose.
    check(unsafe { libc::mprotect(pointer(pages), pages.length(), native(protection)) })
}

/// An old size of 0 makes `mremap` map shared memory a second time (mremap(2)).
///
/// # Safety
/// As [`Platform::map_again`](execmem_core::Platform::map_again).
pub(crate) unsafe fn map_again(source: Span, onto: Option<usize>) -> Result<usize, Error> {
    // SAFETY: the caller says that the source is shared memory of ours, and that the pages at `onto`, which
    // the new mapping replaces, are another view of it.
    let view = unsafe {
        match onto {
            Some(target) => {
                let target: *mut libc::c_void = ptr::with_exposed_provenance_mut(target);
                let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
                libc::mremap(pointer(source), 0, source.length(), flags, target)
            }
            None => libc::mremap(pointer(source), 0, source.length(), libc::MREMAP_MAYMOVE),
        }
    };
    if view == libc::MAP_FAILED { Err(last()) } else { Ok(view.expose_provenance()) }
}

/// # Safety
/// As [`Platform::request`](execmem_core::Platform::request).
pub(crate) unsafe fn request(pages: Span, request: PageRequest) -> Result<(), Error> {
    let start = pointer(pages);
    // SAFETY: the caller says that the pages are ours, and that dropping them is wanted where it is asked.
    unsafe {
        match request {
            PageRequest::Sync { is_async: true } => check(libc::msync(start, pages.length(), libc::MS_ASYNC)),
            PageRequest::Sync { is_async: false } => check(libc::msync(start, pages.length(), libc::MS_SYNC)),
            PageRequest::Lock => check(libc::mlock(start, pages.length())),
            PageRequest::Unlock => check(libc::munlock(start, pages.length())),
            PageRequest::Advise(advice) => check(libc::madvise(start, pages.length(), native_advice(advice))),
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

/// Faults the pages in; where an access would raise SIGBUS the kernel says EFAULT instead.
///
/// # Safety
/// The pages are mapped.
unsafe fn populate(pages: Span, for_write: bool) -> Result<(), Error> {
    let advice = if for_write { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    loop {
        // SAFETY: the caller says that the pages are mapped; their contents stay.
        if unsafe { libc::madvise(pointer(pages), pages.length(), advice) } == 0 {
            return Ok(());
        }
        match number() {
            libc::EINTR | libc::EAGAIN => {}
            // Kernels before 5.14: a byte of each page is asked for in a way that can't fault.
            libc::EINVAL => return read_each_page(pages),
            _ => return Err(last()),
        }
    }
}

/// Lets the kernel read a byte of each page for us: EFAULT where the file has shrunk.
fn read_each_page(pages: Span) -> Result<(), Error> {
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut page = pages.start();
    while page < pages.end() {
        let remote = libc::iovec { iov_base: ptr::with_exposed_provenance_mut(page), iov_len: 1 };
        // SAFETY: reads one byte of this process into `byte`, or fails.
        let read = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        if read != 1 {
            return Err(last());
        }
        page += page_size();
    }
    Ok(())
}

fn pointer(pages: Span) -> *mut libc::c_void {
    ptr::with_exposed_provenance_mut(pages.start())
}
