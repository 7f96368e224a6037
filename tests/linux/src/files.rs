//! Files for the rules to map, in a directory of the process's own that goes when it ends.

use execmem_core::abi::{RT_PROT_READ, RT_PROT_WRITE};
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// A directory that is removed when this is dropped.
pub struct Folder(());

impl Folder {
    /// Makes the directory in which all files of this module are. Before the first child is forked.
    pub fn make() -> Self {
        let path = std::env::temp_dir().join(format!("execmem-tests-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory for the tests' files");
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
    FOLDER.get().expect("the harness made the directory")
}

/// A path of C, which stays good for ever.
fn leaked(path: PathBuf) -> &'static CStr {
    let path = CString::new(path.into_os_string().into_vec()).expect("no NUL in a path");
    Box::leak(path.into_boxed_c_str())
}

/// In a long run a process has the number of one before it, whose files are still there.
fn fresh(prefix: &[u8]) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut name = prefix.to_vec();
        name.extend_from_slice(format!("{}-{number}", std::process::id()).as_bytes());
        let path = folder().join(OsStr::from_bytes(&name));
        if std::fs::symlink_metadata(&path).is_err() {
            return path;
        }
    }
}

/// The path of a C string.
pub fn path_of(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// A new regular file of these bytes.
pub fn file(bytes: &[u8]) -> &'static CStr {
    let path = fresh(b"file-");
    std::fs::write(&path, bytes).expect("a file for a test");
    leaked(path)
}

/// A new regular file of these bytes, whose name is not UTF-8.
pub fn file_with_odd_name(bytes: &[u8]) -> &'static CStr {
    let path = fresh(b"odd \xff\xfe name-");
    std::fs::write(&path, bytes).expect("a file for a test");
    leaked(path)
}

/// Opens what is at a path for READ, WRITE or both, at an offset. A FIFO has none.
pub fn open(path: &CStr, access: i32, offset: i64) -> i64 {
    let access = match access {
        RT_PROT_READ => libc::O_RDONLY,
        RT_PROT_WRITE => libc::O_WRONLY,
        _ => libc::O_RDWR,
    };
    // SAFETY: the path is a C string; the file is this call's own.
    unsafe {
        let descriptor = libc::open(path.as_ptr(), access | libc::O_CLOEXEC | libc::O_NONBLOCK);
        assert!(descriptor >= 0, "{path:?}: {}", std::io::Error::last_os_error());
        libc::lseek(descriptor, offset, libc::SEEK_SET);
        descriptor.into()
    }
}

/// Closes a descriptor, and gives its offset, 0 if it has none; -1 if it was not open.
pub fn close(descriptor: i64) -> i64 {
    // SAFETY: `open` gave it, or it is nobody's.
    unsafe {
        let offset = libc::lseek(descriptor as i32, 0, libc::SEEK_CUR);
        if libc::close(descriptor as i32) == 0 { offset.max(0) } else { -1 }
    }
}

/// Makes a file shorter.
pub fn shrink(path: &CStr, length: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path_of(path)).expect("the file is there");
    file.set_len(length).expect("a file can be shortened");
}

/// A path where there is nothing.
pub fn missing() -> &'static CStr {
    leaked(folder().join("nothing"))
}

/// The directory itself.
pub fn directory() -> &'static CStr {
    leaked(folder().to_owned())
}

/// A new FIFO that nobody has open.
pub fn fifo() -> &'static CStr {
    let path = leaked(fresh(b"fifo-"));
    // SAFETY: the path is a C string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "{}", std::io::Error::last_os_error());
    path
}

/// What this process writes to stderr goes nowhere from now on: `rt_exec_memory_dump_stats`, called too often to be read.
pub fn silence() {
    // SAFETY: opens a file, and gives its descriptor another number.
    unsafe {
        let nowhere = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        assert!(nowhere >= 0 && libc::dup2(nowhere, 2) == 2);
        libc::close(nowhere);
    }
}
