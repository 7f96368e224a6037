//! Opening, measuring and mapping files.

use super::errno::{check, number, retried, translate};
use crate::Error;
use crate::platform::FilePart;
use core::ffi::{CStr, c_int};
use core::mem::MaybeUninit;

/// As [`Pages::map_file`](crate::platform::Pages::map_file). `map_part` maps a part of an open file.
pub fn map(
    path: &CStr,
    for_write: bool,
    choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    map_part: impl FnOnce(c_int, FilePart) -> Result<usize, Error>,
) -> Result<usize, Error> {
    // Opening a FIFO or a device must neither wait nor make it our terminal.
    let access = if for_write { libc::O_RDWR } else { libc::O_RDONLY };
    let flags = access | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    // SAFETY: a `CStr` ends with its zero.
    let file = retried(|| unsafe { libc::open(path.as_ptr(), flags) } as isize).map_err(translate)? as c_int;
    let mapped = map_descriptor(file, choose, map_part);
    // SAFETY: this call opened the file, and nobody else has its number; a mapping stays without its file.
    unsafe { libc::close(file) };
    mapped
}

/// As [`Pages::map_descriptor`](crate::platform::Pages::map_descriptor). `map_part` maps a part of an open file.
pub fn map_descriptor(
    file: c_int,
    choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    map_part: impl FnOnce(c_int, FilePart) -> Result<usize, Error>,
) -> Result<usize, Error> {
    // SAFETY: `regular_size` gives room for the structure; a number that is no file's is an error to the system.
    let size = regular_size(|status| unsafe { libc::fstat(file, status) })?;
    let part = choose(size)?;
    // The number is an open file's, as `fstat` has seen: one that is open for nothing (`O_PATH`, open(2)).
    map_part(file, part).map_err(|error| if number() == libc::EBADF { Error::Refused } else { error })
}

/// As [`Pages::file_size`](crate::platform::Pages::file_size).
pub fn size(path: &CStr) -> Result<u64, Error> {
    // SAFETY: a `CStr` ends with its zero, and `regular_size` gives room for the structure.
    regular_size(|status| unsafe { libc::stat(path.as_ptr(), status) })
}

fn regular_size(mut ask: impl FnMut(*mut libc::stat) -> c_int) -> Result<u64, Error> {
    let mut status = MaybeUninit::uninit();
    check(|| ask(status.as_mut_ptr()))?;
    // SAFETY: the system filled the structure in, as it does where `stat` and `fstat` succeed.
    let status = unsafe { status.assume_init() };
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err(Error::NotRegularFile);
    }
    Ok(status.st_size as u64)
}
