//! Files for the rules: those of QEMU's archive, and new ones, in an archive that grows in memory.

use crate::c_setup;
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::{AtomicUsize, Ordering};
use execmem_os_baremetal::set_archive;

const ROOM: usize = 2 << 20;

/// Two archives: while the library uses one, the other becomes the next.
struct Archives([UnsafeCell<[u8; ROOM]>; 2]);

// SAFETY: one core makes files.
unsafe impl Sync for Archives {}

static ARCHIVES: Archives = Archives([const { UnsafeCell::new([0; ROOM]) }; 2]);
/// Bytes of entries in the archive in use, without its trailer.
static LENGTH: AtomicUsize = AtomicUsize::new(0);
/// How many files were made.
static FILES: AtomicUsize = AtomicUsize::new(0);

const MOST_FILES: usize = 1000;
struct Paths(UnsafeCell<[[u8; 16]; MOST_FILES]>);

// SAFETY: one core makes files, and a path is never changed again.
unsafe impl Sync for Paths {}

static PATHS: Paths = Paths(UnsafeCell::new([[0; 16]; MOST_FILES]));

/// An archive's bytes as they are put together.
struct Builder<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Builder<'_> {
    fn append(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn pad(&mut self) {
        while !self.length.is_multiple_of(4) {
            self.append(&[0]);
        }
    }

    /// An entry as `cpio -H newc` writes it.
    fn entry(&mut self, name: &str, mode: u32, number: u32, contents: &[u8]) {
        self.append(b"070701");
        let sizes = (contents.len() as u32, name.len() as u32 + 1);
        for field in [number, mode, 0, 0, 1, 0, sizes.0, 0, 0, 0, 0, sizes.1, 0] {
            // The room was found to be enough when its size was chosen; `append` checks.
            let _ = write!(self, "{field:08x}");
        }
        self.append(name.as_bytes());
        self.append(&[0]);
        self.pad();
        self.append(contents);
        self.pad();
    }
}

impl Write for Builder<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.append(text.as_bytes());
        Ok(())
    }
}

/// Puts the next archive together: what was in use, and `add`. Then the library uses it.
fn replace(add: impl FnOnce(&mut Builder<'_>)) {
    let turn = FILES.load(Ordering::Relaxed);
    let (next, current) = (ARCHIVES.0[turn % 2].get(), ARCHIVES.0[(turn + 1) % 2].get());
    // SAFETY: the library has used `current` since the last turn, so nobody looks at `next` any more; what it
    // mapped are copies.
    let archive = unsafe {
        let mut next = Builder { bytes: &mut *next, length: 0 };
        next.append(&(&*current)[..LENGTH.load(Ordering::Relaxed)]);
        add(&mut next);
        LENGTH.store(next.length, Ordering::Relaxed);
        next.entry("TRAILER!!!", 0, 0, b"");
        let length = next.length;
        core::slice::from_raw_parts(ARCHIVES.0[turn % 2].get().cast::<u8>(), length)
    };
    FILES.fetch_add(1, Ordering::Relaxed);
    // Whoever sets it last: both ways lead to the same place.
    let is_sound = if turn.is_multiple_of(2) {
        c_setup::set_archive(archive).is_none()
    } else {
        set_archive(archive).is_ok()
    };
    assert!(is_sound, "the archive is damaged");
}

/// Takes over the entries of QEMU's archive.
pub fn take_over(archive: &[u8]) {
    let trailer = b"TRAILER!!!";
    let name = archive.windows(trailer.len()).rposition(|bytes| bytes == trailer).expect("a trailer");
    replace(|next| next.append(&archive[..name - 110]));
}

/// A new file of these bytes.
pub fn file(contents: &[u8]) -> &'static CStr {
    let number = FILES.load(Ordering::Relaxed);
    // SAFETY: one core makes files, and no other has this number.
    let path = unsafe { &mut (*PATHS.0.get())[number] };
    let mut name = Builder { bytes: path, length: 0 };
    let _ = write!(name, "/made/{number}\0");
    let path = CStr::from_bytes_until_nul(path).expect("a NUL was written");
    let name = path.to_str().expect("the name is text");
    replace(|next| next.entry(&name[1..], 0o100644, 1000 + number as u32, contents));
    path
}
