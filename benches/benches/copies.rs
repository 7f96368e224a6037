//! Bytes in and out beside memcpy and memmap2.

use execmem_benches::{compare, report};
use execmem_os_linux::*;
use std::hint::black_box;

const MIB: usize = 1 << 20;

fn main() {
    write_code();
    #[cfg(feature = "peers")]
    read_file();
}

fn write_code() {
    let source = vec![0x90u8; MIB];
    let mut target = vec![1u8; MIB];
    // SAFETY: a region of our own, large enough.
    let region = unsafe { rt_alloc_exec_memory(MIB as i64) };
    let found = compare(
        10,
        // SAFETY: as above.
        || assert_eq!(unsafe { rt_write_exec_bytes(region, source.as_ptr(), MIB as i64, 0) }, MIB as i64),
        || {
            target.copy_from_slice(&source);
            black_box(&mut target);
        },
    );
    report("rt_write_exec_bytes of 1 MiB", "memcpy", &found, "<= 1.05 (0.95 of memcpy's speed)");
}

#[cfg(feature = "peers")]
fn read_file() {
    use std::os::unix::ffi::OsStrExt;

    let path = std::env::temp_dir().join(format!("execmem-bench-{}", std::process::id()));
    std::fs::write(&path, vec![7u8; 16 * MIB]).unwrap();
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut target = vec![1u8; 16 * MIB];
    let mut other = vec![1u8; 16 * MIB];
    // SAFETY: the name is a C string; the target is as long as the file.
    let mapping = unsafe { rt_mmap_file(name.as_ptr(), 1, 2, 0, 0) };
    let file = std::fs::File::open(&path).unwrap();
    // SAFETY: nobody else changes the file.
    let mapped = unsafe { memmap2::Mmap::map(&file) }.unwrap();
    let found = compare(
        1,
        || {
            // SAFETY: as above.
            let read = unsafe { rt_mmap_read_into(mapping.address, 0, target.as_mut_ptr(), mapping.size) };
            assert_eq!(read, 16 * MIB as i64);
        },
        || {
            other.copy_from_slice(&mapped);
            black_box(&mut other);
        },
    );
    report(
        "rt_mmap_read_into of 16 MiB",
        "memcpy from memmap2's Mmap",
        &found,
        "<= 1.05 (0.95 of its speed)",
    );
    std::fs::remove_file(&path).unwrap();
}
