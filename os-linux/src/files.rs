//! Opening, measuring and mapping files.

use crate::errno::{retried, translate};
use crate::pages::map_new;
use core::ffi::CStr;
use core::mem::MaybeUninit;
use execmem_core::Error;
use execmem_core::platform::FilePart;
use libc::c_int;

/// Opens a regular file, maps what `choose` says of it, and closes it.
pub(crate) fn map(
    path: &CStr,
    for_write: bool,
    choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
) -> Result<usize, Error> {
    // Opening a FIFO or a device must neither wait nor make it our terminal.
    let access = if for_write { libc::O_RDWR } else { libc::O_RDONLY };
    let flags = access | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: the path is a C string.
    let file = retried(|| unsafe { libc::open(path.as_ptr(), flags) } as isize).map_err(translate)? as c_int;
    let mapped = regular_size(|status| {
        // SAFETY: the file is open and the structure is ours.
        unsafe { libc::fstat(file, status) }
    })
    .and_then(choose)
    .and_then(|part| map_part(file, part));
    // SAFETY: opened above; a mapping stays without its file.
    unsafe { libc::close(file) };
    mapped
}

fn map_part(file: c_int, part: FilePart) -> Result<usize, Error> {
    let flags = if part.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    map_new(0, part.length, part.protection, flags, file, part.offset).map_err(translate)
}

/// The size of a regular file.
pub(crate) fn size(path: &CStr) -> Result<u64, Error> {
    // SAFETY: the path is a C string and the structure is ours.
    regular_size(|status| unsafe { libc::stat(path.as_ptr(), status) })
}

fn regular_size(mut ask: impl FnMut(*mut libc::stat) -> c_int) -> Result<u64, Error> {
    let mut status = MaybeUninit::uninit();
    retried(|| ask(status.as_mut_ptr()) as isize).map_err(translate)?;
    // SAFETY: the call succeeded, so it filled the structure in.
    let status = unsafe { status.assume_init() };
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::NotRegularFile);
    }
    Ok(status.st_size as u64)
}
