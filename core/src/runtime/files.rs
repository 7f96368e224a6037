//! Mapped files and anonymous mappings.

use super::Runtime;
use crate::error::{Error, Result};
use crate::platform::{FilePart, Memory, PageRequest, Platform};
use crate::protection::{Advice, MapFlags, Protection};
use crate::registry::{Access, Kind, Region, Wanted};
use crate::span::{Span, round_up};
use core::ffi::CStr;

/// What [`Runtime::map_file`] is asked for.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest<'a> {
    /// The file; `None` for anonymous memory, and where a descriptor stands for the file.
    pub path: Option<&'a CStr>,
    /// The pages' protection.
    pub protection: Protection,
    /// Exactly one of SHARED and PRIVATE; ANONYMOUS without a path.
    pub flags: MapFlags,
    /// Page-aligned offset into the file, in bytes.
    pub offset: i64,
    /// Length in bytes; 0 for all from the offset to the file's end.
    pub length: i64,
}

/// What a system asks of a file that it has opened: the part to map, given the file's size.
pub(crate) type Choose<'a> = dyn FnMut(u64) -> Result<FilePart> + 'a;

impl<P: Platform> Runtime<P> {
    /// Maps a file, or anonymous memory. Returns the address and the exact size in bytes.
    pub fn map_file(&self, request: MapRequest<'_>) -> Result<(usize, usize)> {
        let open = |path| {
            move |for_write, choose: &mut Choose<'_>| self.space.platform.map_file(path, for_write, choose)
        };
        self.map(request.path.map(open), request)
    }

    /// As [`map_file`](Self::map_file), with a file that is open, and stays so, in place of a path.
    pub fn map_descriptor(&self, descriptor: i32, request: MapRequest<'_>) -> Result<(usize, usize)> {
        if request.path.is_some() {
            return Err(Error::InvalidArgument);
        }
        let map = |_, choose: &mut Choose<'_>| self.space.platform.map_descriptor(descriptor, choose);
        self.map(Some(map), request)
    }

    /// Maps what `open` opens, or has open; without it, anonymous memory. Each caller has one of its own, so that a
    /// kernel which maps by paths alone doesn't pay for others.
    pub(crate) fn map(
        &self,
        open: Option<impl FnOnce(bool, &mut Choose<'_>) -> Result<usize>>,
        request: MapRequest<'_>,
    ) -> Result<(usize, usize)> {
        let MapRequest { protection, flags, offset, length, .. } = request;
        let shared = flags.contains(MapFlags::SHARED);
        if shared == flags.contains(MapFlags::PRIVATE)
            || flags.contains(MapFlags::ANONYMOUS) != open.is_none()
            || (open.is_none() && offset != 0)
            || offset < 0
            || length < 0
            || !(offset as usize).is_multiple_of(self.page_size())
        {
            return Err(Error::InvalidArgument);
        }
        self.check_protection(protection)?;
        let region = match open {
            Some(open) => {
                let (mut size, offset) = (0, offset as u64);
                let for_write = shared && protection.contains(Protection::WRITE);
                let base = open(for_write, &mut |file_size| {
                    size = part_of_file(file_size, offset, length as u64)?;
                    Ok(FilePart { offset, length: size, protection, shared })
                })?;
                Region::new(Kind::File, base, size)
            }
            None => {
                let size = self.space.allocation_size(length)?;
                // They differ only in what a forked child sees.
                let memory = if shared { Memory::Shared(protection) } else { Memory::Private(protection) };
                // Not hardened, and no reason to settle how regions are.
                let views = self.space.platform.map(round_up(size, self.page_size()), memory, None)?;
                Region::new(Kind::Anonymous, views.address, size)
            }
        };
        let base = self.space.register(region, protection)?;
        Ok((base, region.size))
    }

    /// The exact size of the mapping that starts at an address, in bytes.
    pub fn mapping_size(&self, address: i64) -> Result<usize> {
        let base = Span::new(address, 1)?.start();
        let registry = &self.space.registry;
        let page = registry.page(base).filter(|page| !page.is_other_view);
        let region = page.and_then(|page| registry.region_of(page));
        let mapping = region.filter(|region| region.kind.is_mapping() && region.base == base);
        mapping.map(|region| region.size).ok_or(Error::NotOwned)
    }

    /// Unmaps what [`map_file`](Self::map_file) gave: the exact pair.
    pub fn unmap(&self, address: i64, size: i64) -> Result {
        self.release(Wanted::Mapping(Span::new(address, size)?))
    }

    /// The size of a regular file in bytes.
    pub fn file_size(&self, path: &CStr) -> Result<u64> {
        self.space.platform.file_size(path)
    }

    /// Writes changes in the range's pages back to the file; waits for it unless `is_async`.
    pub fn sync(&self, address: i64, size: i64, is_async: bool) -> Result {
        self.request(address, size, PageRequest::Sync { is_async })
    }

    /// Keeps the range's pages in memory.
    pub fn lock(&self, address: i64, size: i64) -> Result {
        self.request(address, size, PageRequest::Lock)
    }

    /// No longer keeps the range's pages in memory.
    pub fn unlock(&self, address: i64, size: i64) -> Result {
        self.request(address, size, PageRequest::Unlock)
    }

    /// Tells the system how the range's pages will be used. [`Advice::DontFork`] is about all pages of a region.
    pub fn advise(&self, address: i64, size: i64, advice: Advice) -> Result {
        self.request(address, size, PageRequest::Advise(advice))
    }

    fn request(&self, address: i64, size: i64, request: PageRequest) -> Result {
        let Some(span) = self.page_range(address, size)? else { return Ok(()) };
        let mut claim = self.space.registry.claim(Wanted::Pages(span), Access::Shared)?;
        let pages = span.pages(self.page_size());
        if request == PageRequest::Advise(Advice::DontFork) {
            if pages.length() < claim.region().size {
                return Err(Error::InvalidArgument);
            }
            if P::CAN_FORK {
                self.space.check_changeable(claim.region())?;
                return claim.withhold();
            }
        }
        // SAFETY: the claim holds the pages' region. What DontNeed drops, the caller asked to drop.
        unsafe { self.space.platform.request(pages, request) }
    }
}

/// The number of bytes to map: `length` of them, or all up to the file's end.
fn part_of_file(file_size: u64, offset: u64, length: u64) -> Result<usize> {
    if file_size == 0 {
        return Err(Error::EmptyFile);
    }
    let rest = file_size.checked_sub(offset).filter(|rest| *rest > 0).ok_or(Error::OutOfRange)?;
    match length {
        0 => Ok(rest as usize),
        length if length <= rest => Ok(length as usize),
        _ => Err(Error::OutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_lies_inside_the_file_or_is_refused() {
        assert_eq!(part_of_file(0, 0, 0), Err(Error::EmptyFile));
        assert_eq!(part_of_file(12, 0, 0), Ok(12));
        assert_eq!(part_of_file(12, 0, 12), Ok(12));
        assert_eq!(part_of_file(12, 0, 13), Err(Error::OutOfRange));
        assert_eq!(part_of_file(4097, 4096, 0), Ok(1));
        assert_eq!(part_of_file(4096, 4096, 0), Err(Error::OutOfRange));
        assert_eq!(part_of_file(1, u64::MAX, 1), Err(Error::OutOfRange));
    }
}
