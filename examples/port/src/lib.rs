//! A platform as small as it can be, to start a port from: `docs/porting.md` goes through it.
//!
//! The system is made up: it refuses pages that are writable and executable, shows no memory twice, has no files and
//! no forks. Linux plays it, so that all of this runs. A real adapter does without `std`, for the C libraries.
#![cfg(target_os = "linux")]

mod exports {
    use crate::RUNTIME;
    use core::ffi::{c_char, c_void};
    use execmem_core::abi::*;

    execmem_core::export_symbols!(RUNTIME);
}

use execmem_core::platform::{FilePart, Mapping, Memory, PageRequest, Pages, Process, Views};
use execmem_core::{Advice, Error, Protection, Runtime, Span};
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_long, c_void};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::ptr;

pub use exports::*;

/// The process's runtime: the one that the `rt_*` symbols use.
pub static RUNTIME: Runtime<Port> = Runtime::new(Port);

/// The system. A handle that is copied about: what a port has to remember is in statics.
#[derive(Clone, Copy, Debug)]
pub struct Port;

// SAFETY: mmap(2) gives zeroed pages that nobody else uses, and mprotect(2) changes exactly those that it is given.
// A page has 4 to 64 KiB, as long as the system runs. Every other method that the trait speaks of is its own.
unsafe impl Pages for Port {
    fn page_size(self) -> usize {
        system_constant(libc::_SC_PAGESIZE)
    }

    fn physical_memory(self) -> usize {
        system_constant(libc::_SC_PHYS_PAGES).saturating_mul(self.page_size())
    }

    fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
        let (protection, sharing) = match memory {
            Memory::Private(protection) => (native(protection)?, libc::MAP_PRIVATE),
            Memory::Shared(protection) => (native(protection)?, libc::MAP_SHARED),
            Memory::Dual | Memory::Jit => return Err(Error::Unsupported),
        };
        let (place, flags) = (ptr::without_provenance_mut(at.unwrap_or(0)), sharing | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping that is not MAP_FIXED replaces none: the place is a hint.
        let start = unsafe { libc::mmap(place, length, protection, flags, -1, 0) };
        check(if start == libc::MAP_FAILED { -1 } else { 0 })?;
        Ok(Views { address: start.expose_provenance(), writable: 0 })
    }

    unsafe fn unmap(self, pages: Span) -> Result<(), Error> {
        // SAFETY: the core says that the pages are its own, and that nothing uses them any more.
        check(unsafe { libc::munmap(pointer(pages), pages.length()) }.into())
    }

    unsafe fn protect(self, pages: Span, protection: Protection) -> Result<(), Error> {
        // SAFETY: the core says that the pages are its own, and that nothing relies on the access that they lose.
        check(unsafe { libc::mprotect(pointer(pages), pages.length(), native(protection)?) }.into())
    }

    fn mappings(self, from: usize, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error> {
        let mut maps = File::open("/proc/self/maps").map_err(|_| Error::Unsupported)?;
        // A signal handler may ask, so nothing is allocated. (An adapter leaves `errno` alone as well, if this fails.)
        // `7f00-8f00 r-xp 0000 08:01 17 /name`
        let (mut text, mut field, mut range, mut protection) = ([0; 1024], 0, [0; 2], Protection::NONE);
        loop {
            let length = maps.read(&mut text).map_err(|_| Error::Io)?;
            if length == 0 {
                return Ok(());
            }
            for letter in &text[..length] {
                match (field, letter) {
                    (0, b'-') | (1 | 2, b' ') => field += 1,
                    (0 | 1, digit) => {
                        range[field] =
                            range[field] << 4 | char::from(*digit).to_digit(16).unwrap_or(0) as usize;
                    }
                    (2, b'r') => protection |= Protection::READ,
                    (2, b'w') => protection |= Protection::WRITE,
                    (2, b'x') => protection |= Protection::EXEC,
                    (_, b'\n') => {
                        let [start, end] = range;
                        if end > from && visit(Mapping { start, end, protection }).is_break() {
                            return Ok(());
                        }
                        (field, range, protection) = (0, [0; 2], Protection::NONE);
                    }
                    _ => {}
                }
            }
        }
    }

    fn map_file(
        self,
        _path: &CStr,
        _for_write: bool,
        _choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        Err(Error::Unsupported)
    }

    fn file_size(self, _path: &CStr) -> Result<u64, Error> {
        Err(Error::Unsupported)
    }

    unsafe fn request(self, pages: Span, request: PageRequest) -> Result<(), Error> {
        match request {
            PageRequest::Advise(Advice::DontNeed) => {
                // SAFETY: the core says that the pages are its own, and that nothing relies on their contents.
                check(unsafe { libc::madvise(pointer(pages), pages.length(), libc::MADV_DONTNEED) }.into())
            }
            // Pages of this system have memory as long as they are mapped, and there are no files.
            _ => Ok(()),
        }
    }

    fn synchronize_cores(self) -> Result<(), Error> {
        // SAFETY: membarrier(2) takes no pointers.
        let call = |command: c_int| check(unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) });
        // Register this process, then synchronise its cores: linux/membarrier.h.
        call(1 << 6).and_then(|()| call(1 << 5))
    }
}

thread_local! {
    static LAST_ERROR: Cell<i32> = const { Cell::new(0) };
}

// SAFETY: the default `wait` never says *held for fork*.
unsafe impl Process for Port {
    const CAN_FORK: bool = false;

    fn print(self, line: &[u8]) {
        let _ = io::stderr().write_all(line); // What stderr refuses is lost.
    }

    fn set_last_error(self, code: i32) {
        LAST_ERROR.set(code);
    }

    fn last_error(self) -> i32 {
        LAST_ERROR.get()
    }
}

/// The contract's bits are Linux's numbers; other systems have their own.
fn native(protection: Protection) -> Result<c_int, Error> {
    if protection.is_writable_code() { Err(Error::Refused) } else { Ok(protection.bits().into()) }
}

/// The one place where the system's errors become the contract's.
fn check(result: c_long) -> Result<(), Error> {
    if result >= 0 {
        return Ok(());
    }
    Err(match io::Error::last_os_error().kind() {
        ErrorKind::OutOfMemory => Error::NoMemory,
        ErrorKind::PermissionDenied => Error::Refused,
        ErrorKind::Unsupported => Error::Unsupported,
        ErrorKind::InvalidInput => Error::InvalidArgument,
        _ => Error::Io,
    })
}

fn system_constant(name: c_int) -> usize {
    // SAFETY: has no preconditions (sysconf(3)).
    unsafe { libc::sysconf(name) }.max(1) as usize
}

fn pointer(pages: Span) -> *mut c_void {
    ptr::with_exposed_provenance_mut(pages.start())
}
