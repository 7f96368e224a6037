//! Copying where pages of a mapped file may go: a file that somebody truncates takes them away from under a
//! load or a store, which then ends the process by SIGBUS.

use core::ffi::{c_int, c_void};
use core::ptr;
use execmem_core::unix::errno::{retried, translate};
use execmem_core::unix::pages::{page_size, pointer, span};
use execmem_core::{Error, Span};

/// Lets the kernel copy, with `process_vm_readv(2)` of this process: it holds each page of the source while it
/// copies out of it, and its stores to the target fail instead of raising a signal, as those of every system
/// call do. So neither side can fault, at any moment. That costs a microsecond more than `memmove` for a few
/// bytes or a page, and for many pages little more than bringing them in first.
///
/// The kernel can't hold pages of devices: they count as [`Error::Io`].
///
/// # Safety
/// As [`Pages::copy_guarded`](execmem_core::platform::Pages::copy_guarded).
pub(crate) unsafe fn guarded(source: usize, target: usize, length: usize) -> Result<(), Error> {
    if source.abs_diff(target) < length {
        // SAFETY: the caller says that the source is mapped readable and the target writable for so many bytes.
        return unsafe { overlapping(source, target, length) };
    }
    let mut done = 0;
    while done < length {
        // SAFETY: what is left lies inside of both ranges, of which the caller says that they are mapped; they don't
        // overlap.
        match unsafe { kernel_copy(source + done, target + done, length - done) } {
            Ok(0) | Err(libc::EFAULT) => return Err(Error::Io),
            Ok(copied) => done += copied,
            Err(libc::ENOMEM) => return Err(Error::NoMemory),
            // Refused by a filter, or missing: ENOSYS where the kernel was built without it, and in qemu's
            // user mode.
            // SAFETY: what is left lies inside of both ranges, of which the caller says that they are mapped; they
            // don't overlap.
            Err(_) => return unsafe { in_pieces(source + done, target + done, length - done) },
        }
    }
    Ok(())
}

/// As `memmove`: piece by piece by way of a buffer, in the order in which no piece overwrites what a later one
/// has to read.
///
/// # Safety
/// The source is mapped readable and the target writable for `length` bytes.
unsafe fn overlapping(source: usize, target: usize, length: usize) -> Result<(), Error> {
    let mut buffer = [0u8; 4096];
    let between = buffer.as_mut_ptr().expose_provenance();
    let pieces = length.div_ceil(buffer.len());
    for piece in 0..pieces {
        let piece = if target > source { pieces - 1 - piece } else { piece };
        let start = piece * buffer.len();
        let size = buffer.len().min(length - start);
        // SAFETY: a piece lies inside of both ranges, of which the caller says that they are mapped; the buffer is
        // this call's own, and no smaller.
        unsafe {
            guarded(source + start, between, size)?;
            guarded(between, target + start, size)?;
        }
    }
    Ok(())
}

/// The number of bytes that were copied, or the kernel's error number.
///
/// # Safety
/// The source is mapped readable and the target writable for `length` bytes, and they don't overlap.
unsafe fn kernel_copy(source: usize, target: usize, length: usize) -> Result<usize, i32> {
    let from = libc::iovec { iov_base: ptr::with_exposed_provenance_mut(source), iov_len: length };
    let to = libc::iovec { iov_base: ptr::with_exposed_provenance_mut(target), iov_len: length };
    // SAFETY: gettid(2) has no preconditions. (The process's number is its main thread's, which may have ended.)
    let this = unsafe { libc::syscall(libc::SYS_gettid) } as libc::pid_t;
    // SAFETY: both vectors have one range, which the caller says is mapped; for what is no longer there the kernel
    // answers with an error.
    retried(|| unsafe { libc::process_vm_readv(this, &to, 1, &from, 1, 0) })
}

/// How many bytes are brought in at a time before they are copied.
const PIECE: usize = 64 * 1024;

/// Where the kernel doesn't copy: the pages are brought in and copied at once, in pieces. A file that is
/// truncated between the two steps, one to two microseconds for a piece, still ends the process.
///
/// # Safety
/// The source is mapped readable and the target writable for `length` bytes, and they don't overlap.
unsafe fn in_pieces(source: usize, target: usize, length: usize) -> Result<(), Error> {
    for start in (0..length).step_by(PIECE) {
        let size = PIECE.min(length - start);
        let [from, to] = [source, target].map(|side| side + start);
        // SAFETY: a piece lies inside of both ranges, of which the caller says that they are mapped and don't overlap.
        unsafe {
            populate(pages(from, size)?, false)?;
            populate(pages(to, size)?, true)?;
            let (from, to) = (ptr::with_exposed_provenance::<u8>(from), ptr::with_exposed_provenance_mut(to));
            ptr::copy_nonoverlapping(from, to, size);
        }
    }
    Ok(())
}

fn pages(start: usize, length: usize) -> Result<Span, Error> {
    Ok(span(start, length)?.pages(page_size()))
}

/// Faults the pages in; where an access would raise SIGBUS the kernel says EFAULT instead.
///
/// # Safety
/// The pages are mapped.
pub(crate) unsafe fn populate(pages: Span, for_write: bool) -> Result<(), Error> {
    let advice = if for_write { libc::MADV_POPULATE_WRITE } else { libc::MADV_POPULATE_READ };
    // SAFETY: the caller says that the pages are mapped; this advice leaves their contents as they are (madvise(2)).
    match retried(|| unsafe { libc::madvise(pointer(pages), pages.length(), advice) } as isize) {
        Ok(_) => Ok(()),
        // The kernel's own answers (madvise(2)).
        Err(number @ (libc::EFAULT | libc::ENOMEM | libc::EHWPOISON)) => Err(translate(number)),
        // Unknown before 5.14, or refused by a filter: each page is read in a way that can't fault.
        Err(_) => read_each_page(pages),
    }
}

/// Lets the kernel read some bytes of each page: EFAULT where the file has shrunk. Any system call that reads
/// the program's memory would do; this one changes nothing, since it is asked for something unknown (EINVAL),
/// and no filter refuses it, since signals and threads need it.
fn read_each_page(pages: Span) -> Result<(), Error> {
    const UNKNOWN: c_int = -1;
    const SET_SIZE: usize = size_of::<u64>();
    let nothing: *mut c_void = ptr::null_mut();
    for page in pages.range().step_by(page_size()) {
        let set: *const c_void = ptr::with_exposed_provenance(page);
        // SAFETY: the kernel reads a set of signals from the page, or fails, and does nothing with it: it knows no such
        // change.
        let ask = || unsafe { libc::syscall(libc::SYS_rt_sigprocmask, UNKNOWN, set, nothing, SET_SIZE) };
        if retried(|| ask() as isize) == Err(libc::EFAULT) {
            return Err(Error::Io);
        }
    }
    Ok(())
}
