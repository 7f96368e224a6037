//! The Mach side of the kernel: regions, shared mappings, safe copies, threads.

use crate::host::{self, Source};
use crate::kernel::{check_protection, enforced, pages, regions, rules};
use crate::regions::{Kind, Region};
use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A Mach result (`mach/kern_return.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kern(pub i32);

/// No such address.
pub const INVALID_ADDRESS: Kern = Kern(1);
/// The protection is refused.
pub const PROTECTION_FAILURE: Kern = Kern(2);
/// The place is taken.
pub const NO_SPACE: Kern = Kern(3);
/// Invalid argument.
pub const INVALID_ARGUMENT: Kern = Kern(4);
/// Memory behind the address is gone.
pub const MEMORY_ERROR: Kern = Kern(10);
/// No such port.
pub const INVALID_NAME: Kern = Kern(15);

/// This process's task port.
pub const TASK: u32 = 0x103;

// mach/vm_statistics.h and mach/vm_inherit.h
const ANYWHERE: i32 = 1;
const OVERWRITE: i32 = 0x4000;
const SHARE: u32 = 0;
const COPY: u32 = 1;
const NONE: u32 = 2;

/// The arguments of mach_vm_remap that vary.
pub struct Remap {
    /// Where to; a wish with ANYWHERE.
    pub target: usize,
    /// How many bytes.
    pub size: usize,
    /// VM_FLAGS_….
    pub flags: i32,
    /// What to map again.
    pub source: usize,
    /// Whether to copy instead of sharing.
    pub copy: bool,
    /// What a forked child gets.
    pub inheritance: u32,
}

/// mach_vm_remap: the address, and the protection that all pages have in common. Only memory that was
/// mapped shared can be mapped again here, and a child shares it or has none of it: more the library doesn't ask for.
pub fn remap(request: Remap) -> Result<(usize, i32), Kern> {
    let source = pages(request.source, request.size).map_err(|_| INVALID_ARGUMENT)?;
    if request.copy || ![SHARE, NONE].contains(&request.inheritance) {
        return Err(INVALID_ARGUMENT);
    }
    let mut regions = regions();
    let parts = regions.parts(source.clone()).ok_or(INVALID_ADDRESS)?;
    let start = match request.flags {
        ANYWHERE => host::reserve_near(request.target, source.len(), rules().page_size()),
        OVERWRITE => Ok(pages(request.target, request.size).map_err(|_| INVALID_ARGUMENT)?.start),
        0 => return Err(NO_SPACE),
        _ => return Err(INVALID_ARGUMENT),
    };
    let start = start.map_err(|_| NO_SPACE)?;
    let mut common = 7;
    for part in parts {
        let Kind::Shared(memory, offset) = &part.kind else { return Err(PROTECTION_FAILURE) };
        let at = start + (part.range.start - source.start);
        // A new mapping that is executable at once is as unsigned as one that becomes so.
        check_protection(0, part.protection).map_err(|_| PROTECTION_FAILURE)?;
        host::map_over(at, part.range.len(), enforced(part.protection), Source::Shared(memory, *offset))
            .map_err(|_| NO_SPACE)?;
        common &= part.protection;
        let is_withheld = request.inheritance == NONE;
        regions.insert(Region { range: at..at + part.range.len(), is_withheld, ..part });
    }
    Ok((start, common))
}

/// mach_vm_inherit. What is shared already can be shared again, and else a child lacks it: more the library doesn't ask for.
pub fn inherit(address: usize, size: usize, inheritance: u32) -> Result<(), Kern> {
    let range = pages(address, size).map_err(|_| INVALID_ARGUMENT)?;
    let mut regions = regions();
    for part in regions.parts(range).ok_or(INVALID_ADDRESS)? {
        let is_withheld = match (inheritance, &part.kind) {
            (NONE, _) => true,
            (SHARE, Kind::Shared(..)) => false,
            _ => return Err(INVALID_ARGUMENT),
        };
        regions.insert(Region { is_withheld, ..part });
    }
    Ok(())
}

/// What mach_vm_region_recurse says of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The addresses.
    pub range: Range<usize>,
    /// Darwin's protection bits.
    pub protection: i32,
    /// Whether a file is behind it.
    pub has_pager: bool,
    /// VM_INHERIT_….
    pub inheritance: u32,
    /// Whether several mappings show it. Shared memory that is mapped once counts as private.
    pub has_several_views: bool,
}

impl Found {
    fn of_region(region: Region) -> Self {
        let is_same_memory = |other: &Region| match (&region.kind, &other.kind) {
            (Kind::Shared(memory, _), Kind::Shared(other, _)) => Arc::ptr_eq(memory, other),
            _ => false,
        };
        Self {
            // `MAP_JIT` allows everything in the kernel's eyes.
            protection: if matches!(region.kind, Kind::Jit) { 7 } else { region.protection },
            has_pager: matches!(region.kind, Kind::File),
            inheritance: match region.kind {
                _ if region.is_withheld => NONE,
                Kind::Shared(..) => SHARE,
                _ => COPY,
            },
            has_several_views: regions().all().iter().filter(|other| is_same_memory(other)).count() > 1,
            range: region.range,
        }
    }

    /// A file, for all that the program may know.
    fn of_line(line: host::Line) -> Self {
        let host::Line { range, protection } = line;
        Self { range, protection, has_pager: true, inheritance: COPY, has_several_views: false }
    }
}

/// mach_vm_region_recurse: the region at an address, or the next one. What the model didn't map itself
/// (the loader, the library, stacks) is there as Linux sees it.
pub fn region(address: usize) -> Result<Found, Kern> {
    let known = regions().at_or_behind(address);
    let foreign = host::mappings().into_iter().find(|line| line.range.end > address);
    match (known, foreign) {
        (Some(known), Some(mut foreign)) if foreign.range.start.max(address) < known.range.start => {
            // Neighbours may be one mapping to Linux.
            foreign.range.end = foreign.range.end.min(known.range.start);
            Ok(Found::of_line(foreign))
        }
        (Some(known), _) => Ok(Found::of_region(known)),
        (None, Some(foreign)) => Ok(Found::of_line(foreign)),
        (None, None) => Err(INVALID_ADDRESS),
    }
}

/// mach_vm_read_overwrite: a copy that fails instead of faulting. All is read before anything is stored.
pub fn read_overwrite(address: usize, size: usize, target: usize) -> Result<(), Kern> {
    let mut copy = vec![0; size];
    let between = (&raw mut *copy.as_mut_slice()).addr();
    copy_by_kernel(address, between, size)?;
    copy_by_kernel(between, target, size)
}

/// Copies through a pipe: Linux reads and stores the bytes, and fails where it can't.
fn copy_by_kernel(source: usize, target: usize, size: usize) -> Result<(), Kern> {
    // A pipe holds 64 KiB.
    const PIECE: usize = 4096;
    let (reader, writer) = std::io::pipe().map_err(|_| MEMORY_ERROR)?;
    for start in (0..size).step_by(PIECE) {
        let length = PIECE.min(size - start);
        let expect_all = |count: isize, address: usize| match count == length as isize {
            true => Ok(()),
            false if host::mappings().iter().any(|line| line.range.contains(&address)) => Err(MEMORY_ERROR),
            false => Err(INVALID_ADDRESS),
        };
        let (from, to) = (source + start, target + start);
        // SAFETY: the program's memory, which it gave for this; what isn't there is an error.
        expect_all(unsafe { libc::write(writer.as_raw_fd(), from as *const _, length) }, from)?;
        // SAFETY: the same is true of this side. So many bytes are in the pipe.
        expect_all(unsafe { libc::read(reader.as_raw_fd(), to as *mut _, length) }, to)?;
    }
    Ok(())
}

/// Ports and lists that the program was given and has not given back.
static OWED: Mutex<Option<HashMap<usize, usize>>> = Mutex::new(None);
/// How often a thread was asked for its registers.
static INTERRUPTIONS: AtomicUsize = AtomicUsize::new(0);

fn owed<R>(work: impl FnOnce(&mut HashMap<usize, usize>) -> R) -> R {
    work(OWED.lock().expect("nothing panics with the lock held").get_or_insert_default())
}

/// What the program still has to give back: ports and lists of threads.
pub fn leaked() -> usize {
    owed(|owed| owed.values().sum())
}

/// How often any thread was asked for its registers.
pub fn interruptions() -> usize {
    INTERRUPTIONS.load(Ordering::Relaxed)
}

/// task_threads: a list of ports, each of which the caller gets a right to.
pub fn task_threads() -> Result<(usize, u32), Kern> {
    let folder = std::fs::read_dir("/proc/self/task").map_err(|_| MEMORY_ERROR)?;
    let threads: Vec<u32> =
        folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let length = threads.len() * 4;
    let list = host::map_anywhere(length.next_multiple_of(rules().page_size()), rules().page_size(), 3)
        .map_err(|_| NO_SPACE)?;
    // SAFETY: the list was mapped just now and has room.
    unsafe { (list as *mut u32).copy_from_nonoverlapping(threads.as_ptr(), threads.len()) };
    owed(|owed| {
        owed.insert(list, 1);
        for thread in &threads {
            *owed.entry(*thread as usize).or_default() += 1;
        }
    });
    Ok((list, threads.len() as u32))
}

/// thread_get_register_pointer_values. What it does to a thread's core can't be shown here.
pub fn interrupt(thread: u32) -> Result<(), Kern> {
    match owed(|owed| owed.get(&(thread as usize)).is_some_and(|rights| *rights > 0)) {
        true => {
            INTERRUPTIONS.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        false => Err(INVALID_NAME),
    }
}

/// mach_port_deallocate.
pub fn give_back_port(port: u32) -> Result<(), Kern> {
    owed(|owed| match owed.get_mut(&(port as usize)) {
        Some(rights) if *rights > 0 => {
            *rights -= 1;
            Ok(())
        }
        _ => Err(INVALID_NAME),
    })
}

/// mach_vm_deallocate, of a list.
pub fn give_back_list(list: usize, size: usize) -> Result<(), Kern> {
    let page_size = rules().page_size();
    match owed(|owed| owed.remove(&list)) {
        Some(_) => host::unmap(list..list + size.next_multiple_of(page_size)).map_err(|_| INVALID_ADDRESS),
        None => Err(INVALID_ADDRESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_any_size_and_says_what_is_not_there() {
        let source: Vec<u8> = (0..200_000).map(|place| (place % 251) as u8).collect();
        let mut target = vec![0u8; source.len()];
        let (from, to) = (source.as_ptr().expose_provenance(), target.as_mut_ptr().expose_provenance());
        assert_eq!(read_overwrite(from, source.len(), to), Ok(()));
        assert!(source == target);
        assert_eq!(read_overwrite(8, 1, to), Err(INVALID_ADDRESS));
        assert_eq!(read_overwrite(from, 1, 8), Err(INVALID_ADDRESS));
        assert!(source == target, "a copy that fails stores nothing");
    }
}
