//! Measuring and mapping the files of an archive. Mappings are copies: the archive stays as it is.

use crate::archive::{self, DamagedArchive};
use crate::cores;
use crate::pages;
use crate::tables::PAGE_SIZE;
use core::ffi::CStr;
use execmem_core::platform::FilePart;
use execmem_core::{Error, Protection, icache};
use spin::Mutex;

static ARCHIVE: Mutex<Option<&'static [u8]>> = Mutex::new(None);

/// The files of this archive are what `rt_mmap_file` and `rt_file_size_for_mmap` find from now on: a cpio
/// archive in the "newc" format, as `cpio -H newc` writes it, with names in UTF-8. Replaces an earlier
/// one, whose mappings stay. If it is damaged the error says where, and the earlier one stays.
///
/// QEMU and boot loaders put such an archive into memory (`-initrd`); its address is in the device tree's
/// `/chosen` node.
pub fn set_archive(bytes: &'static [u8]) -> Result<(), DamagedArchive<'static>> {
    archive::check(bytes)?;
    *ARCHIVE.lock() = Some(bytes);
    Ok(())
}

fn contents(path: &CStr) -> Result<&'static [u8], Error> {
    let archive = *ARCHIVE.lock();
    archive::find(archive.unwrap_or_default(), path.to_bytes())
}

/// Maps what `choose` says of a file.
#[inline(always)] // Within its caller it takes less.
pub(crate) fn map(
    path: &CStr,
    for_write: bool,
    choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
) -> Result<usize, Error> {
    let contents = contents(path)?;
    if for_write {
        return Err(Error::Unsupported);
    }
    let part = choose(contents.len() as u64)?;
    let bytes = contents.get(part.offset as usize..).and_then(|rest| rest.get(..part.length));
    let bytes = bytes.ok_or(Error::OutOfRange)?;
    let length = part.length.next_multiple_of(PAGE_SIZE);
    let address = pages::map_filled(length, part.protection, None, false, bytes)?;
    if part.protection.contains(Protection::EXEC) {
        // SAFETY: the pages were mapped just now, and what can be executed can be read: `PageTables` says so. A kernel
        // may read what cache maintenance needs to know.
        unsafe { icache::make_coherent(address, address, length) };
        cores::synchronize()?;
    }
    Ok(address)
}

/// The size of a file.
pub(crate) fn size(path: &CStr) -> Result<u64, Error> {
    contents(path).map(|contents| contents.len() as u64)
}
