//! This Linux as a [`World`]: memory that the library did not map, two views, and whether it is emulated.

use crate::{files, maps};
use execmem_conformance::World;
use execmem_conformance::world::{Descriptors, FOREIGN_RESULT};
use execmem_core::abi::*;
use std::sync::atomic::AtomicU64;

/// Links the adapter whose symbols the suite calls.
use execmem_os_linux as _;

extern "C" fn foreign_code() -> i64 {
    FOREIGN_RESULT
}

/// The address of a function that the library did not map, of no arguments; it returns [`FOREIGN_RESULT`].
pub fn foreign_function() -> i64 {
    foreign_code as *const () as usize as i64
}

/// 64 bytes in the program's own data.
static FOREIGN_DATA: [AtomicU64; 8] = [const { AtomicU64::new(0x0101_0101_0101_0101) }; 8];

/// The address of 64 bytes that the library did not map.
pub fn foreign_data() -> i64 {
    (&raw const FOREIGN_DATA).addr() as i64
}

/// Whether the processor is qemu's user mode. It passes its own name on as the process's.
pub fn is_emulated() -> bool {
    std::fs::read("/proc/self/comm").is_ok_and(|name| name.starts_with(b"qemu-"))
}

/// Whether the machine is a guest of our own, whose first process says so.
pub fn is_guest() -> bool {
    std::env::var_os("EXECMEM_TESTS_GUEST").is_some()
}

/// Whether the kernel has turned the processor's protection keys on.
pub fn has_keys() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").expect("the kernel tells the processor");
    text.split_whitespace().any(|word| word == "ospke")
}

/// Whether the processor looks for landing pads, and the kernel says so.
pub fn looks_for_pads() -> bool {
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bti");
    #[cfg(not(target_arch = "aarch64"))]
    false
}

/// By how much fewer repetitions do, where the processor is emulated: by qemu's user mode, or in a whole machine, whose
/// maker says so in the environment.
pub fn slowness() -> u32 {
    let told = std::env::var("EXECMEM_TESTS_SLOWNESS").ok();
    let natively = if is_emulated() { 10 } else { 1 };
    told.map_or(natively, |number| number.parse().expect("EXECMEM_TESTS_SLOWNESS is a number"))
}

/// Whether the processor is emulated in any way.
pub fn is_slow() -> bool {
    slowness() > 1
}

/// The system for a process that was asked to use this policy.
pub fn world(wished_policy: i32) -> World {
    World {
        wished_policy,
        file: Ok(files::file),
        file_with_odd_name: Ok(files::file_with_odd_name),
        descriptors: Ok(Descriptors { open: files::open, close: files::close }),
        shrink_file: match is_emulated() {
            true => Err("qemu's user mode says yes to MADV_POPULATE_READ and does nothing"),
            false => Ok(files::shrink),
        },
        shared_writes: Ok(()),
        mappings_gain_exec: Ok(()),
        missing_file: Ok(files::missing()),
        directory: Ok(files::directory()),
        fifo: Ok(files::fifo()),
        foreign_code,
        foreign_data: foreign_data(),
        tells_foreign: true,
        unmapped: a_hole(),
        has_writable_code: match is_emulated() {
            // qemu keeps the pages that hold its guest's own stack and code as it likes.
            true => Err("under qemu-user the kernel's view of the process is qemu's"),
            false => Ok(maps::has_writable_code),
        },
        two_views: Ok(two_views),
        shows_stale_code: match cfg!(target_arch = "aarch64") && is_emulated() {
            true => Ok(()),
            false => Err("only qemu's user mode for aarch64, 8.1 or newer, is known to run stale code"),
        },
    }
}

/// The environment variable's word for a policy.
pub fn policy_name(policy: i32) -> &'static str {
    match policy {
        RT_POLICY_RWX => "rwx",
        RT_POLICY_DUAL => "dual",
        RT_POLICY_TOGGLE => "toggle",
        RT_POLICY_JIT => "jit",
        _ => "auto",
    }
}

/// The middle of a range where nothing is mapped: mapped and unmapped again, far from where the kernel
/// would put anything new.
fn a_hole() -> i64 {
    let length = 1 << 30;
    // SAFETY: a new mapping without access, removed again before anyone knows of it.
    let start = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let start = libc::mmap(std::ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED, "a gigabyte of addresses");
        libc::munmap(start, length);
        start
    };
    start.addr() as i64 + (length / 2) as i64
}

/// A memory file, mapped read-write and read-execute.
pub fn two_views(size: usize) -> (i64, i64) {
    let views = [libc::PROT_WRITE, libc::PROT_EXEC].map(|bit| bit | libc::PROT_READ);
    // SAFETY: a new file and new mappings of it; the file is closed once.
    unsafe {
        let file = libc::memfd_create(c"two views".as_ptr(), libc::MFD_CLOEXEC);
        assert!(file >= 0 && libc::ftruncate(file, size as libc::off_t) == 0, "a memory file");
        let [writable, executable] = views.map(|protection| {
            let start = libc::mmap(std::ptr::null_mut(), size, protection, libc::MAP_SHARED, file, 0);
            assert_ne!(start, libc::MAP_FAILED, "a view of a memory file");
            start.expose_provenance() as i64
        });
        libc::close(file);
        (writable, executable)
    }
}
