//! Mapping files.

use crate::pages::map_new;
use crate::signing;
use core::ffi::c_int;
use execmem_core::Error;
use execmem_core::platform::FilePart;
use execmem_core::unix::errno::translate;

/// Maps a part of an open file.
pub(crate) fn map_part(file: c_int, part: FilePart) -> Result<usize, Error> {
    // A signed file's pages too are unsigned as long as nobody has shown the kernel its signature.
    signing::check(part.protection)?;
    let flags = if part.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    map_new(0, part.length, part.protection, flags, file, part.offset).map_err(translate)
}
