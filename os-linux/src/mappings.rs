//! What is mapped in this process: asked of the kernel one mapping at a time (`PROCMAP_QUERY`, since 6.11),
//! or read from the text of `/proc/self/maps`.

use crate::maps_text::Parser;
use core::ffi::{CStr, c_int};
use core::mem::MaybeUninit;
use core::ops::ControlFlow;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use execmem_core::platform::Mapping;
use execmem_core::unix::errno::{preserved, retried, translate};
use execmem_core::{Error, Protection};

type Visit<'a> = &'a mut dyn FnMut(Mapping) -> ControlFlow<()>;

/// Visits the mappings from the one at `from`, or the next one, in address order.
pub(crate) fn visit(mut from: usize, visit: Visit<'_>) -> Result<(), Error> {
    preserved(|| match visit_by_query(&mut from, visit) {
        Err(QueryRefused) => visit_text(from, visit),
        Ok(()) => Ok(()),
    })
}

/// The kernel doesn't know this query or can't answer it now, or a filter lets none through. Whatever the reason,
/// the text says the same, if it can be read.
struct QueryRefused;

/// `struct procmap_query` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

/// `_IOWR('f', 17, struct procmap_query)`.
const PROCMAP_QUERY: u64 = 0xc068_6611;
/// PROCMAP_QUERY_COVERING_OR_NEXT_VMA.
const COVERING_OR_NEXT: u64 = 0x10;
const _: () = assert!(size_of::<ProcmapQuery>() == 0x68);

/// Leaves in `from` where the next mapping has to be looked for.
fn visit_by_query(from: &mut usize, visit: Visit<'_>) -> Result<(), QueryRefused> {
    let mut file = maps_file()?;
    loop {
        let number = match query(file.number, *from) {
            Ok(mapping) if visit(mapping).is_break() => return Ok(()),
            Ok(mapping) => {
                *from = mapping.end;
                continue;
            }
            Err(number) => number,
        };
        match number {
            libc::ENOENT => return Ok(()),
            // A shortage passes.
            libc::ENOMEM => return Err(QueryRefused),
            // Perhaps not our file any more: the program closed it (as daemons close all they don't know), and
            // the number may be somebody else's now. Once more, with a file of our own.
            _ if !file.is_fresh => {
                forget_maps_file(file.number);
                file = maps_file()?;
            }
            number => {
                // A refusal stays. (ESRCH: the list is that of a main thread which has ended.)
                IS_REFUSED.store(number != libc::ESRCH, Ordering::Relaxed);
                forget_maps_file(file.number);
                // SAFETY: this call has opened the file. A thread that has seen its number asks a file that is closed
                // then, or one that doesn't know the question.
                unsafe { libc::close(file.number) };
                return Err(QueryRefused);
            }
        }
    }
}

/// The mapping at an address, or the next one; or an error number.
fn query(file: c_int, from: usize) -> Result<Mapping, i32> {
    let mut query = ProcmapQuery {
        size: size_of::<ProcmapQuery>() as u64,
        query_flags: COVERING_OR_NEXT,
        query_addr: from as u64,
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes as much as the structure says, which is its size, whatever file this is. (An
    // `ioctl` number is an int in musl, a long in glibc.)
    retried(|| unsafe { libc::ioctl(file, PROCMAP_QUERY as _, &raw mut query) } as isize)?;
    Ok(Mapping {
        start: query.vma_start as usize,
        end: query.vma_end as usize,
        protection: Protection::from_bits_truncate(query.vma_flags as u8 & 7),
    })
}

/// The open `/proc/self/maps`: process number in the upper half, file number in the lower; 0: none.
/// A forked child must not ask about its parent, so a file belongs to the process that opened it.
static MAPS_FILE: AtomicU64 = AtomicU64::new(0);
/// What tells that file from another one that has its number by now, another process's list too; 0: not known.
static MAPS_INODE: AtomicU64 = AtomicU64::new(0);
static IS_REFUSED: AtomicBool = AtomicBool::new(false);

struct MapsFile {
    number: c_int,
    /// Opened just now, so certainly ours.
    is_fresh: bool,
}

fn maps_file() -> Result<MapsFile, QueryRefused> {
    if IS_REFUSED.load(Ordering::Relaxed) {
        return Err(QueryRefused);
    }
    // SAFETY: getpid(2) has no preconditions.
    let process = unsafe { libc::getpid() } as u64;
    let known = MAPS_FILE.load(Ordering::Acquire);
    if known != 0 && known >> 32 == process && is_maps_file(known as c_int) {
        return Ok(MapsFile { number: known as c_int, is_fresh: false });
    }
    let number = open_maps(OF_PROCESS).map_err(|_| QueryRefused)?;
    let fresh = process << 32 | number as u64;
    match MAPS_FILE.compare_exchange(known, fresh, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            MAPS_INODE.store(inode(number), Ordering::Release);
            Ok(MapsFile { number, is_fresh: true })
        }
        Err(earlier) => {
            // SAFETY: this call has opened the file, and no other thread has seen its number.
            unsafe { libc::close(number) };
            Ok(MapsFile { number: earlier as c_int, is_fresh: false })
        }
    }
}

/// In a forked child: the file is its parent's, whose process may have had the same number (in another namespace). It
/// is closed if it is that file still: the program may have closed it, and the number be somebody else's.
pub(crate) fn forget_parent() {
    let file = MAPS_FILE.swap(0, Ordering::AcqRel) as c_int;
    if file != 0 && is_maps_file(file) && query(file, 0).is_ok() {
        // SAFETY: this library has opened the file; the child has one thread.
        unsafe { libc::close(file) };
    }
    MAPS_INODE.store(0, Ordering::Release);
}

fn is_maps_file(file: c_int) -> bool {
    let known = MAPS_INODE.load(Ordering::Acquire);
    known == 0 || known == inode(file)
}

/// The number of an open file's inode; 0: it can't be asked for.
fn inode(file: c_int) -> u64 {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the structure is borrowed, and of the type that fstat(2) fills in.
    match unsafe { libc::fstat(file, status.as_mut_ptr()) } {
        // SAFETY: it was filled in.
        0 => unsafe { status.assume_init() }.st_ino,
        _ => 0,
    }
}

fn forget_maps_file(file: c_int) {
    let known = MAPS_FILE.load(Ordering::Acquire);
    if known as c_int == file
        && MAPS_FILE.compare_exchange(known, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    {
        MAPS_INODE.store(0, Ordering::Release);
    }
}

const OF_PROCESS: &CStr = c"/proc/self/maps";
const OF_THREAD: &CStr = c"/proc/thread-self/maps";

fn open_maps(path: &CStr) -> Result<c_int, i32> {
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: a `CStr` ends with its zero.
    let file = retried(|| unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), flags) } as isize)?;
    Ok(file as c_int)
}

/// The list of the process is that of its main thread, which is empty or an error once that thread has ended;
/// this thread's is the same one then. (Not at first: qemu's user mode only translates the process's.)
fn visit_text(from: usize, visit: Visit<'_>) -> Result<(), Error> {
    match read_text(OF_PROCESS, from, visit) {
        Ok(Text::Mappings) => Ok(()),
        Ok(Text::Empty) | Err(_) => read_text(OF_THREAD, from, visit).map(drop),
    }
}

/// What a list of mappings holds.
enum Text {
    Mappings,
    Empty,
}

fn read_text(path: &CStr, from: usize, visit: Visit<'_>) -> Result<Text, Error> {
    let file = open_maps(path).map_err(translate)?;
    let mut parser = Parser::new();
    let mut buffer = [0u8; 4096];
    let mut text = Text::Empty;
    let result = 'file: loop {
        // SAFETY: the buffer is borrowed, and has room for as many bytes as the kernel is told.
        match retried(|| unsafe { libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()) }) {
            Ok(0) => break Ok(text),
            Ok(count) => {
                text = Text::Mappings;
                for byte in &buffer[..count.min(buffer.len())] {
                    if let Some(mapping) = parser.push(*byte)
                        && mapping.end > from
                        && visit(mapping).is_break()
                    {
                        break 'file Ok(text);
                    }
                }
            }
            Err(number) => break Err(translate(number)),
        }
    };
    // SAFETY: this call has opened the file, and nobody else has its number.
    unsafe { libc::close(file) };
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_and_the_query_say_the_same() {
        let here = &raw const MAPS_FILE as usize;
        let mut answers = [None; 2];
        let by_text: fn(usize, Visit<'_>) -> Result<(), Error> = visit_text;
        for (answer, way) in answers.iter_mut().zip([by_text, visit]) {
            let mut take = |mapping| {
                *answer = Some(mapping);
                ControlFlow::Break(())
            };
            way(here, &mut take).unwrap();
        }
        assert!(answers[0].is_some_and(|mapping| mapping.start <= here && here < mapping.end));
        assert_eq!(answers[0], answers[1]);
    }
}
