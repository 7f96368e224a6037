//! Linux below the model: raw mappings, at the model's page size.

use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// A Linux error number.
pub type Number = i32;

/// The number of the thread's last failed system call.
pub fn number() -> Number {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(result: i32) -> Result<(), Number> {
    if result == 0 { Ok(()) } else { Err(number()) }
}

/// What is behind a mapping.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Zeroed memory of its own.
    Fresh,
    /// A file, from an offset on; stores reach it.
    Shared(&'a OwnedFd, usize),
    /// As above; stores stay here.
    Copied(&'a OwnedFd, usize),
}

/// Reserves addresses that are aligned to `alignment`, without access.
fn reserve(length: usize, alignment: usize) -> Result<usize, Number> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), length + alignment, libc::PROT_NONE, flags, -1, 0) } as usize;
    if start == libc::MAP_FAILED as usize {
        return Err(number());
    }
    let aligned = start.next_multiple_of(alignment);
    unmap(start..aligned)?;
    unmap(aligned + length..start + length + alignment)?;
    Ok(aligned)
}

/// Maps memory over what is at `start`.
pub fn map_over(start: usize, length: usize, protection: i32, source: Source<'_>) -> Result<(), Number> {
    let (flags, file, offset) = match source {
        Source::Fresh => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        Source::Shared(file, offset) => (libc::MAP_SHARED, file.as_raw_fd(), offset),
        Source::Copied(file, offset) => (libc::MAP_PRIVATE, file.as_raw_fd(), offset),
    };
    let (at, flags) = (start as *mut libc::c_void, flags | libc::MAP_FIXED);
    // SAFETY: the callers own what is there: a reservation, or a mapping that the program wants replaced.
    let mapped = unsafe { libc::mmap(at, length, protection, flags, file, offset as libc::off_t) };
    if mapped == libc::MAP_FAILED { Err(number()) } else { Ok(()) }
}

/// Reserves addresses at `wish` if they are free, else anywhere.
pub fn reserve_near(wish: usize, length: usize, alignment: usize) -> Result<usize, Number> {
    let wish = wish & !(alignment - 1);
    if wish != 0 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
        let start = unsafe { libc::mmap(wish as *mut _, length, libc::PROT_NONE, flags, -1, 0) } as usize;
        if start == wish {
            return Ok(wish);
        }
        if start != libc::MAP_FAILED as usize {
            unmap(start..start + length)?;
        }
    }
    reserve(length, alignment)
}

/// Maps fresh memory anywhere.
pub fn map_anywhere(length: usize, alignment: usize, protection: i32) -> Result<usize, Number> {
    let start = reserve(length, alignment)?;
    map_over(start, length, protection, Source::Fresh).map(|()| start)
}

/// Unmaps whatever is there.
pub fn unmap(range: Range<usize>) -> Result<(), Number> {
    if range.is_empty() {
        return Ok(());
    }
    // SAFETY: the callers own what is there.
    check(unsafe { libc::munmap(range.start as *mut _, range.len()) })
}

/// Changes protection.
pub fn protect(range: Range<usize>, protection: i32) -> Result<(), Number> {
    // SAFETY: the callers own what is there.
    check(unsafe { libc::mprotect(range.start as *mut _, range.len(), protection) })
}

/// Memory that can be mapped several times.
pub fn memory_file(length: usize) -> Result<OwnedFd, Number> {
    // SAFETY: the name is a C string, and the number is a new file's.
    let file = unsafe {
        let number = libc::memfd_create(c"darwin".as_ptr(), libc::MFD_CLOEXEC);
        if number < 0 {
            return Err(self::number());
        }
        OwnedFd::from_raw_fd(number)
    };
    // SAFETY: the file is ours.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), length as libc::off_t) })?;
    Ok(file)
}

/// A mapping of this process, as `/proc/self/maps` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its addresses.
    pub range: Range<usize>,
    /// Linux's protection bits, which are Darwin's too.
    pub protection: i32,
}

/// All mappings in address order.
pub fn mappings() -> Vec<Line> {
    let text = std::fs::read("/proc/self/maps").unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let (start, end) = words.next()?.split_once('-')?;
    let letters = words.next()?;
    let bits = [('r', libc::PROT_READ), ('w', libc::PROT_WRITE), ('x', libc::PROT_EXEC)];
    let protection =
        bits.into_iter().filter(|(letter, _)| letters.contains(*letter)).map(|(_, bit)| bit).sum();
    Some(Line {
        range: usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?,
        protection,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_a_range_and_its_protection() {
        let line = parse_line("7f00-8000 r-xp 00000000 fe:00 12  /usr/lib/a b.so");
        assert_eq!(line, Some(Line { range: 0x7f00..0x8000, protection: 5 }));
        assert_eq!(parse_line("nonsense"), None);
    }

    #[test]
    fn reserved_addresses_are_aligned_and_a_taken_wish_is_passed_over() {
        let first = map_anywhere(0x4000, 0x4000, 3).unwrap();
        assert!(first.is_multiple_of(0x4000));
        let second = reserve_near(first, 0x4000, 0x4000).unwrap();
        assert_ne!(first, second);
        unmap(first..first + 0x4000).unwrap();
        assert_eq!(reserve_near(first, 0x4000, 0x4000), Ok(first));
    }
}
