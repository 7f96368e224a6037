//! Files for the suite's rules to map, in a directory that goes when the run ends.

use execmem_core::abi::{RT_PROT_READ, RT_PROT_WRITE};
use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A directory that is removed when this is dropped.
pub struct Folder(());

impl Folder {
    /// Makes the directory, before the first child is forked.
    ///
    /// # Panics
    /// If it can't be made, or was made already.
    pub fn make() -> Self {
        let path = std::env::temp_dir().join(format!("execmem-darwin-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory for the tests' files");
        let fifo = CString::new(path.join("fifo").into_os_string().into_vec()).expect("no NUL in a path");
        // SAFETY: the path is a C string.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0, "a FIFO");
        FOLDER.set(path).expect("only one directory is made");
        Self(())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies among temporary files: what can't be removed now goes later.
        let _ = std::fs::remove_dir_all(folder());
    }
}

fn folder() -> &'static Path {
    FOLDER.get().expect("the directory was made")
}

/// A path of C, which stays good for ever.
fn leaked(path: PathBuf) -> &'static CStr {
    Box::leak(CString::new(path.into_os_string().into_vec()).expect("no NUL in a path").into_boxed_c_str())
}

/// A new regular file.
///
/// # Safety
/// So many bytes are readable.
pub unsafe extern "C" fn file(bytes: *const u8, length: usize, has_odd_name: bool) -> *const c_char {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let mut name = if has_odd_name { b"odd \xff\xfe name-".to_vec() } else { b"file-".to_vec() };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    name.extend_from_slice(format!("{}-{number}", std::process::id()).as_bytes());
    let path = folder().join(OsStr::from_bytes(&name));
    // SAFETY: the suite gives readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes, length) };
    std::fs::write(&path, bytes).expect("a file for a rule");
    leaked(path).as_ptr()
}

/// Opens a file for READ, WRITE or both, at an offset. A FIFO has none.
///
/// # Safety
/// The path is a C string.
pub unsafe extern "C" fn open(path: *const c_char, access: i32, offset: i64) -> i64 {
    let access = match access {
        RT_PROT_READ => libc::O_RDONLY,
        RT_PROT_WRITE => libc::O_WRONLY,
        _ => libc::O_RDWR,
    };
    // SAFETY: the suite gives a C string; the file is this call's own.
    unsafe {
        let descriptor = libc::open(path, access | libc::O_CLOEXEC | libc::O_NONBLOCK);
        libc::lseek(descriptor, offset, libc::SEEK_SET);
        descriptor.into()
    }
}

/// Closes a descriptor: the offset that it had, 0 if it has none, or -1.
pub extern "C" fn close(descriptor: i64) -> i64 {
    // SAFETY: `open` gave it.
    unsafe {
        let offset = libc::lseek(descriptor as i32, 0, libc::SEEK_CUR);
        if libc::close(descriptor as i32) == 0 { offset.max(0) } else { -1 }
    }
}

/// Makes a file shorter.
///
/// # Safety
/// The path is a C string.
pub unsafe extern "C" fn shrink(path: *const c_char, size: u64) {
    // SAFETY: the suite gives a C string.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    let file = std::fs::File::options().write(true).open(path).expect("the file is there");
    file.set_len(size).expect("a file can be shortened");
}

/// A path where there is nothing.
pub fn missing() -> &'static CStr {
    leaked(folder().join("nothing"))
}

/// The directory itself.
pub fn directory() -> &'static CStr {
    leaked(folder().to_owned())
}

/// A FIFO that nobody writes to.
pub fn fifo() -> &'static CStr {
    leaked(folder().join("fifo"))
}
