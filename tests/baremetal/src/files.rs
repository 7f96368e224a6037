//! Files of QEMU's archive, what a machine without disks says of pages, and the console.

use crate::c_setup;
use crate::report::{Report, check, check_eq};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use execmem_conformance::memory::*;
use execmem_conformance::symbols::*;
use execmem_conformance::verdict::Verdict;
use execmem_core::abi::*;
use execmem_os_baremetal::set_archive;

/// What the archive's `etc/greeting` holds. It is written by whoever starts QEMU.
const GREETING: &[u8] = b"hello from the archive\n";

/// Runs all of them.
pub fn run(report: &mut Report, archive: Range<usize>) {
    // SAFETY: QEMU put the archive there and the tables map it read-only.
    let archive = unsafe {
        core::slice::from_raw_parts(core::ptr::with_exposed_provenance(archive.start), archive.len())
    };
    report.test("files: an entry of QEMU's archive is found, measured and mapped", greeting);
    report.test("files: a private copy can be written, and the archive stays as it is", private_copy);
    report.test("files: stores into a file are unsupported, and so are descriptors", shared_writes);
    report.test("files: lock, advice and sync are as without swap: true", requests);
    report.test("files: a damaged archive is an error that names the entry", || damaged(archive));
    report.test("console: the dump arrives line by line, in one piece each", dump);
}

fn greeting() -> Verdict {
    for path in [c"/etc/greeting", c"etc/greeting", c"./etc/greeting"] {
        check_eq!(file_size(Some(path)), GREETING.len() as i64);
        let mapping = map_file(Some(path), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0);
        check_eq!(mapping.size, GREETING.len() as i64);
        check!(holds(mapping.address, GREETING));
        unmap(mapping.address, mapping.size)?;
    }
    Ok(())
}

fn private_copy() -> Verdict {
    let map = || map_file(Some(c"/etc/greeting"), RW, RT_MAP_PRIVATE, 0, 0);
    let first = map();
    store(first.address, b"J");
    check_eq!(write_bytes(first.address, b"ELL", 1), 3);
    let second = map();
    check!(holds(first.address, b"JELLo") && holds(second.address, GREETING));
    unmap(first.address, first.size)?;
    unmap(second.address, second.size)
}

fn shared_writes() -> Verdict {
    check_eq!(map_file(Some(c"/etc/greeting"), RW, RT_MAP_SHARED, 0, 0), RtMapping::NONE);
    check_eq!(rt_last_error(), RT_ERROR_UNSUPPORTED);
    check_eq!(rt_mmap_fd(0, RT_PROT_READ.into(), RT_MAP_PRIVATE.into(), 0, 0), 0);
    check_eq!(rt_last_error(), RT_ERROR_UNSUPPORTED);
    let mapping = map_file(Some(c"/etc/greeting"), RT_PROT_READ, RT_MAP_SHARED, 0, 0);
    check!(holds(mapping.address, GREETING));
    unmap(mapping.address, mapping.size)
}

fn requests() -> Verdict {
    let mapping = map_file(Some(c"/etc/greeting"), RW, RT_MAP_PRIVATE, 0, 0);
    let (address, size) = (mapping.address, mapping.size);
    check!(rt_msync(address, size, false) && rt_msync(address, size, true));
    check!(rt_mlock(address, size) && rt_munlock(address, size));
    check!((0..=3).all(|advice| rt_madvise(address, size, advice)));
    check!(holds(address, GREETING));
    unmap(address, size)
}

fn damaged(archive: &[u8]) -> Verdict {
    static BYTES: Bytes = Bytes(UnsafeCell::new([0; 4096]));
    // SAFETY: only this test uses it, once.
    let copy: &'static mut [u8] = unsafe { &mut *BYTES.0.get() };
    let copy = &mut copy[..archive.len()];
    copy.copy_from_slice(archive);
    let name = b"etc/greeting\0";
    let at = archive.windows(name.len()).position(|bytes| bytes == name);
    let entry = at.unwrap_or_default() - 110;
    // A letter in the field of the file's size.
    copy[entry + 54] = b'?';
    let copy: &'static [u8] = copy;
    check_eq!(c_setup::set_archive(copy), Some(entry as i64));
    let error = set_archive(copy).err();
    check_eq!(error.and_then(|error| error.entry), Some("etc/greeting"));
    check_eq!(error.map(|error| error.offset), Some(entry));
    // The one in use stays.
    greeting()
}

struct Bytes(UnsafeCell<[u8; 4096]>);

// SAFETY: see its uses.
unsafe impl Sync for Bytes {}

/// What was printed last, for `dump`.
static PRINTED: Bytes = Bytes(UnsafeCell::new([0; 4096]));
static PRINTED_LENGTH: AtomicUsize = AtomicUsize::new(NOT_LISTENING);
const NOT_LISTENING: usize = usize::MAX;

/// Is shown every line that is printed. The console's lock is held.
pub fn listen(line: &[u8]) {
    let length = PRINTED_LENGTH.load(Ordering::Relaxed);
    if length != NOT_LISTENING {
        // SAFETY: the console's lock is held.
        let bytes: &mut [u8] = unsafe { &mut *PRINTED.0.get() };
        let count = line.len().min(bytes.len() - length);
        bytes[length..length + count].copy_from_slice(&line[..count]);
        PRINTED_LENGTH.store(length + count, Ordering::Relaxed);
    }
}

fn dump() -> Verdict {
    let address = alloc_rw(12345)?;
    PRINTED_LENGTH.store(0, Ordering::Relaxed);
    rt_exec_memory_dump_stats();
    let length = PRINTED_LENGTH.swap(NOT_LISTENING, Ordering::Relaxed);
    // SAFETY: nobody listens any more.
    let printed: &[u8] = unsafe { &(&*PRINTED.0.get())[..length] };
    let printed = core::str::from_utf8(printed).unwrap_or_default();
    check!(printed.starts_with("execmem: "));
    check!(printed.ends_with('\n'));
    check!(printed.lines().count() as i64 >= 3 + rt_exec_memory_count());
    check!(printed.lines().any(|line| line.contains("12345") && line.contains("rw-")));
    free(address, 12345)
}
