//! Files, in Darwin's numbers and structures.

use crate::errno::{EINVAL, ENXIO, EOPNOTSUPP, Errno};
use crate::host;
use crate::violation::violation;
use std::ffi::c_char;

/// `struct stat` with 64-bit inodes (`sys/stat.h`), as far as it is filled in here.
#[repr(C)]
pub struct Stat {
    device: i32,
    mode: u16,
    links: u16,
    inode: u64,
    owner: [u32; 2],
    special_device: i32,
    padding: i32,
    times: [i64; 8],
    size: i64,
    rest: [u8; 40],
}

const _: () = assert!(size_of::<Stat>() == 144);
const _: () = assert!(std::mem::offset_of!(Stat, size) == 96);

/// Darwin's number of each flag, and Linux's.
const OPEN_FLAGS: [(i32, i32); 5] = [
    (0x0001, libc::O_WRONLY),
    (0x0002, libc::O_RDWR),
    (0x0004, libc::O_NONBLOCK),
    (0x0002_0000, libc::O_NOCTTY),
    (0x0100_0000, libc::O_CLOEXEC),
];
const O_CREAT: i32 = 0x200;

fn checked(result: isize) -> Result<isize, Errno> {
    if result < 0 { Err(Errno::from_linux(host::number())) } else { Ok(result) }
}

/// open(2), without the argument that only creating a file would need: it would come on the stack.
pub fn open(path: *const c_char, flags: i32) -> Result<i32, Errno> {
    if flags & O_CREAT != 0 {
        violation("a variadic argument");
    }
    let known = OPEN_FLAGS.iter().filter(|(darwin, _)| flags & darwin != 0);
    if known.clone().map(|(darwin, _)| darwin).sum::<i32>() != flags {
        return Err(EINVAL);
    }
    let flags = known.map(|(_, linux)| linux).sum::<i32>();
    // SAFETY: the program gave a C string.
    checked(unsafe { libc::open(path, flags) } as isize).map(|file| file as i32).map_err(|error| {
        // Of FIFOs without a reader both systems say so; of sockets Darwin says that it can't do that.
        if error == ENXIO && is_socket(path) { EOPNOTSUPP } else { error }
    })
}

fn is_socket(path: *const c_char) -> bool {
    // SAFETY: a structure of numbers.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the program gave a C string; the structure is ours.
    unsafe { libc::stat(path, &mut found) == 0 && found.st_mode & libc::S_IFMT == libc::S_IFSOCK }
}

/// stat(2).
pub fn stat(path: *const c_char, out: *mut Stat) -> Result<(), Errno> {
    // SAFETY: the program gave a C string; the structure is ours.
    fill(out, |found| unsafe { libc::stat(path, found) })
}

/// fstat(2).
pub fn fstat(file: i32, out: *mut Stat) -> Result<(), Errno> {
    // SAFETY: the structure is ours.
    fill(out, |found| unsafe { libc::fstat(file, found) })
}

fn fill(out: *mut Stat, ask: impl FnOnce(*mut libc::stat) -> i32) -> Result<(), Errno> {
    // SAFETY: a structure of numbers.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    checked(ask(&mut found) as isize)?;
    // SAFETY: the program gave room; both are structures of numbers. File types are the same on both systems.
    unsafe {
        out.write(std::mem::zeroed());
        (*out).mode = found.st_mode as u16;
        (*out).size = found.st_size;
    }
    Ok(())
}

/// write(2).
pub fn write(file: i32, source: *const u8, length: usize) -> Result<isize, Errno> {
    // SAFETY: the program gave readable bytes.
    checked(unsafe { libc::write(file, source.cast(), length) })
}

/// close(2).
pub fn close(file: i32) -> Result<i32, Errno> {
    // SAFETY: a file of the program's.
    checked(unsafe { libc::close(file) } as isize).map(|_| 0)
}
