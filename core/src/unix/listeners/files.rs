//! Files for profilers: `perf-PID.map` and `jit-PID.dump` in `/tmp`, as `perf` looks for them.
//!
//! The formats are those of the kernel's `tools/perf/Documentation/jit-interface.txt` and `jitdump-specification.txt`. No
//! descriptor stays open: a program may close those that it doesn't know, and open others in their place.

use super::super::errno::{check, retried, translate};
use crate::Error;
use crate::span::Span;
use crate::sync::{AtomicU64, Ordering};
use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;

/// Which file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line for each name.
    Map,
    /// A record for each name, with the time and the code.
    Dump,
}

/// Each record of code has a number of its own.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Which process has begun its files.
pub(super) struct Files([i32; 2]);

impl Files {
    pub(super) const fn new() -> Self {
        Self([0; 2])
    }

    pub(super) fn is_begun(&self, kind: Kind) -> bool {
        self.0[kind as usize] == process()
    }

    pub(super) fn set_begun(&mut self, kind: Kind) {
        self.0[kind as usize] = process();
    }
}

fn process() -> i32 {
    // SAFETY: has no preconditions (getpid(2)).
    unsafe { libc::getpid() }
}

/// Whether the program has rights that whoever started it may not have.
pub(super) fn is_privileged() -> bool {
    // SAFETY: has no preconditions (getauxval(3)).
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

const MACHINE: u32 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else {
    243
};

#[repr(C)]
struct DumpHeader {
    magic: u32,
    version: u32,
    total_size: u32,
    machine: u32,
    unused: u32,
    process: u32,
    time: u64,
    flags: u64,
}

#[repr(C)]
struct CodeLoaded {
    record: u32,
    total_size: u32,
    time: u64,
    process: u32,
    thread: u32,
    address: u64,
    code_address: u64,
    size: u64,
    index: u64,
}

/// Makes a file. A map goes on where another JIT of this process has begun it; a dump is this library's alone. Of that,
/// `perf` sees where it is by an executable mapping of it, which stays.
pub(super) fn begin(kind: Kind) -> Result<(), Error> {
    let file = Open::new(kind, libc::O_CREAT)?;
    if kind == Kind::Map {
        return Ok(());
    }
    // SAFETY: an open file of this process's user, and of nobody else's.
    check(|| unsafe { libc::ftruncate(file.0, 0) })?;
    let header = DumpHeader {
        magic: 0x4a69_5444,
        version: 1,
        total_size: size_of::<DumpHeader>() as u32,
        machine: MACHINE,
        unused: 0,
        process: process() as u32,
        time: now(),
        flags: 0,
    };
    file.write([bytes_of(&header), &[], &[]])?;
    let access = libc::PROT_READ | libc::PROT_EXEC;
    // SAFETY: a fresh mapping, which nobody uses.
    let mark = unsafe { libc::mmap(ptr::null_mut(), 1, access, libc::MAP_PRIVATE, file.0, 0) };
    if mark == libc::MAP_FAILED { Err(translate(super::super::errno::number())) } else { Ok(()) }
}

/// Adds code to a file.
pub(super) fn append(kind: Kind, code: Span, name: &[u8]) -> Result<(), Error> {
    // Whoever tidies up /tmp may have taken a map away; a dump without its beginning is none.
    let file = Open::new(kind, if kind == Kind::Map { libc::O_CREAT } else { 0 })?;
    match kind {
        Kind::Map => {
            let mut line = Line::new();
            line.hexadecimal(code.start()).byte(b' ');
            line.hexadecimal(code.length()).byte(b' ');
            file.write([line.bytes(), name, b"\n"])
        }
        Kind::Dump => {
            let size = size_of::<CodeLoaded>() + name.len() + 1 + code.length();
            let record = CodeLoaded {
                record: 0,
                total_size: u32::try_from(size).map_err(|_| Error::OverLimit)?,
                time: now(),
                process: process() as u32,
                // SAFETY: has no preconditions (gettid(2)).
                thread: unsafe { libc::syscall(libc::SYS_gettid) } as u32,
                address: code.start() as u64,
                code_address: code.start() as u64,
                size: code.length() as u64,
                index: NEXT.fetch_add(1, Ordering::Relaxed),
            };
            file.write_code(&record, name, code)
        }
    }
}

/// `perf record -k 1` goes by the same clock.
fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is there to be written.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The bytes of a structure without padding.
fn bytes_of<T>(structure: &T) -> &[u8] {
    // SAFETY: both structures of this file have no padding, and are borrowed.
    unsafe { core::slice::from_raw_parts(ptr::from_ref(structure).cast(), size_of::<T>()) }
}

/// A file that is open for as long as this.
struct Open(c_int);

impl Open {
    fn new(kind: Kind, more: c_int) -> Result<Self, Error> {
        let mut path = Line::new();
        path.text(if kind == Kind::Map { b"/tmp/perf-" } else { b"/tmp/jit-" });
        path.decimal(process() as u32).text(if kind == Kind::Map { b".map\0" } else { b".dump\0" });
        // Others can write to the folder: a link there is none of ours, and waiting for a FIFO's reader neither.
        let flags = libc::O_RDWR | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        // SAFETY: the path ends with a NUL.
        let open = || unsafe { libc::open(path.bytes().as_ptr().cast(), flags | more, 0o600) } as isize;
        let file = retried(open).map(|file| Self(file as c_int)).map_err(translate)?;
        if file.is_private()? { Ok(file) } else { Err(Error::Refused) }
    }

    /// Whether it is a file of this user's, by one name, to which nobody else may write: others may have made one of the
    /// name that we want, or a link to another file of ours.
    fn is_private(&self) -> Result<bool, Error> {
        let mut status = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: room for the structure.
        check(|| unsafe { libc::fstat(self.0, status.as_mut_ptr()) })?;
        // SAFETY: the system filled it in. The call has no preconditions (geteuid(2)).
        let (status, user) = unsafe { (status.assume_init(), libc::geteuid()) };
        let is_regular = status.st_mode & libc::S_IFMT == libc::S_IFREG;
        let is_ours = status.st_uid == user && status.st_nlink == 1 && status.st_mode & 0o022 == 0;
        Ok(is_regular && is_ours)
    }

    fn write(&self, parts: [&[u8]; 3]) -> Result<(), Error> {
        self.write_all(parts.map(|part| (part.as_ptr().cast(), part.len())))
    }

    /// The kernel reads the code: where it can't, that is an error and no signal.
    fn write_code(&self, record: &CodeLoaded, name: &[u8], code: Span) -> Result<(), Error> {
        let head = bytes_of(record);
        self.write_all([
            (head.as_ptr().cast(), head.len()),
            // With the NUL behind it.
            (name.as_ptr().cast(), name.len() + 1),
            (ptr::with_exposed_provenance(code.start()), code.length()),
        ])
    }

    /// In one piece, so that what several threads write doesn't mix.
    fn write_all(&self, parts: [(*const c_void, usize); 3]) -> Result<(), Error> {
        let vectors =
            parts.map(|(start, length)| libc::iovec { iov_base: start.cast_mut(), iov_len: length });
        // SAFETY: the vectors are borrowed; what they lead to is only read, and by the kernel.
        let written = retried(|| unsafe { libc::writev(self.0, vectors.as_ptr(), vectors.len() as c_int) });
        let length = parts.iter().map(|(_, length)| length).sum::<usize>();
        match written {
            Ok(written) if written == length => Ok(()),
            Ok(written) => {
                self.take_back(written);
                Err(Error::Io)
            }
            Err(libc::EFBIG) => Err(Error::Io),
            Err(number) => Err(translate(number)),
        }
    }

    /// Takes a part of a record off the file's end, unless somebody has written behind it: what comes next would be read as
    /// the rest of it.
    fn take_back(&self, written: usize) {
        // SAFETY: an open file of this library's; no memory is named.
        unsafe {
            let end = libc::lseek(self.0, 0, libc::SEEK_CUR);
            if end >= 0 && libc::lseek(self.0, 0, libc::SEEK_END) == end {
                libc::ftruncate(self.0, end - written as libc::off_t);
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: this value opened it, and nobody else has its number.
        unsafe { libc::close(self.0) };
    }
}

/// A short text.
struct Line {
    bytes: [u8; 48],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { bytes: [0; 48], length: 0 }
    }

    fn byte(&mut self, byte: u8) -> &mut Self {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
        self
    }

    fn text(&mut self, text: &[u8]) -> &mut Self {
        text.iter().fold(self, |line, byte| line.byte(*byte))
    }

    fn hexadecimal(&mut self, number: usize) -> &mut Self {
        if number >= 16 {
            self.hexadecimal(number / 16);
        }
        self.byte(b"0123456789abcdef"[number % 16])
    }

    fn decimal(&mut self, number: u32) -> &mut Self {
        if number >= 10 {
            self.decimal(number / 10);
        }
        self.byte(b'0' + (number % 10) as u8)
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
