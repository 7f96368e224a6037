//! What the rules do to memory: allocate it, look at it, store into it, free it.
//!
//! The functions that look and store are the part of a C program that owns the memory: they are called
//! with addresses that a rule has just been given, and fault like any program if the library lied.

use crate::code::{Code, returning};
use crate::symbols::*;
use crate::verdict::{Stop, Verdict, check, check_eq, check_fails, expect, expect_equal};
use core::panic::Location;
use core::ptr;
use execmem_core::abi::*;

/// Read-write.
pub const RW: i32 = RT_PROT_READ | RT_PROT_WRITE;
/// Read-execute.
pub const RX: i32 = RT_PROT_READ | RT_PROT_EXEC;
/// Read-write-execute.
pub const RWX: i32 = RW | RT_PROT_EXEC;

/// The page size in bytes.
pub fn page() -> i64 {
    rt_get_page_size()
}

/// `rt_alloc_exec_memory`, which must succeed.
#[track_caller]
pub fn alloc_exec(size: i64) -> Result<i64, Stop> {
    positive(rt_alloc_exec_memory(size), "rt_alloc_exec_memory gives memory")
}

/// `rt_alloc_rw_memory`, which must succeed.
#[track_caller]
pub fn alloc_rw(size: i64) -> Result<i64, Stop> {
    positive(rt_alloc_rw_memory(size), "rt_alloc_rw_memory gives memory")
}

/// An address from any function that allocates, which must succeed.
#[track_caller]
pub fn given(address: i64) -> Result<i64, Stop> {
    positive(address, "memory is given")
}

#[track_caller]
fn positive(address: i64, expectation: &'static str) -> Result<i64, Stop> {
    match address > 0 {
        true => Ok(address),
        // A harness knows on which of its systems this may be so.
        false if address == 0 && rt_last_error() == RT_ERROR_REFUSED => {
            Err("the system grants no memory that could hold code".into())
        }
        false => Err(Stop::failed(Location::caller(), expectation, format_args!(": {address}"))),
    }
}

/// `rt_free_exec_memory`, which must succeed.
#[track_caller]
pub fn free(address: i64, size: i64) -> Verdict {
    expect(rt_free_exec_memory(address, size), "rt_free_exec_memory succeeds")
}

/// Whether code memory can become read-write, and read-write memory code. Where not, each attempt must be
/// refused for a clear reason and change nothing: pages behind a write switch (policy `jit`) keep their
/// protection for good, and a hardened runtime lets no other page become executable.
pub fn protection_can_change() -> Verdict {
    let (code, data) = (executable(&returning(42))?, alloc_rw(page())?);
    let keeps_code = rt_exec_memory_policy() == RT_POLICY_JIT;
    if keeps_code {
        check_fails!(rt_make_writable(code, 1), false, RT_ERROR_UNSUPPORTED);
        for protection in [RT_PROT_NONE, RT_PROT_READ, RW] {
            check_fails!(rt_set_protection(code, 1, protection), false, RT_ERROR_UNSUPPORTED);
        }
        check!(rt_make_executable(code, 1));
        check_eq!(rt_get_protection(code), made_executable());
        check_eq!(call(code, &[]), 42);
    }
    store(data, &returning(43));
    let stays_data = !rt_make_executable(data, 1);
    if stays_data {
        check_eq!(rt_last_error(), RT_ERROR_REFUSED);
        check_eq!(rt_get_protection(data), RW);
        check!(holds(data, &returning(43)));
        check_eq!(call(data, &[]), -1);
    }
    free(code, returning(42).len() as i64)?;
    free(data, page())?;
    match (keeps_code, stays_data) {
        (true, _) => Err("pages behind a write switch keep their protection".into()),
        (_, true) => Err("the system lets no page become executable".into()),
        _ => Ok(()),
    }
}

/// Anonymous private memory, which must be given.
#[track_caller]
pub fn map_anonymous(size: i64, protection: i32) -> Result<i64, Stop> {
    let flags = RT_MAP_PRIVATE | RT_MAP_ANONYMOUS;
    let mapping = map_file(None, protection, flags, 0, size);
    positive(mapping.address, "rt_mmap_file gives anonymous memory")
}

/// `rt_munmap`, which must succeed.
#[track_caller]
pub fn unmap(address: i64, size: i64) -> Verdict {
    expect(rt_munmap(address, size), "rt_munmap succeeds")
}

/// Executable memory of the code's size that holds the code, ready to be called.
#[track_caller]
pub fn executable(code: &Code) -> Result<i64, Stop> {
    let address = alloc_exec(code.len() as i64)?;
    expect_equal(write_bytes(address, code, 0), code.len() as i64, "rt_write_exec_bytes writes the code")?;
    rt_flush_icache(address, code.len() as i64);
    Ok(address)
}

/// The byte at an address.
pub fn byte(address: i64) -> u8 {
    // SAFETY: the rule owns the memory there, and it is readable.
    unsafe { ptr::with_exposed_provenance::<u8>(address as usize).read_volatile() }
}

/// The eight bytes at an address that is a multiple of eight.
pub fn word(address: i64) -> u64 {
    // SAFETY: the rule owns the memory there, and it is readable.
    unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
}

/// Stores bytes at an address.
pub fn store(address: i64, bytes: &[u8]) {
    for (offset, byte) in bytes.iter().enumerate() {
        let target = ptr::with_exposed_provenance_mut::<u8>(address as usize + offset);
        // SAFETY: the rule owns the memory there, and it is writable.
        unsafe { target.write_volatile(*byte) };
    }
}

/// Whether exactly these bytes are at an address.
pub fn holds(address: i64, bytes: &[u8]) -> bool {
    bytes.iter().zip(address..).all(|(expected, at)| byte(at) == *expected)
}

/// Whether so many bytes at an address are zero.
pub fn is_zeroed(address: i64, length: i64) -> bool {
    (address..address + length).all(|at| byte(at) == 0)
}

/// Whether a value of the built-in store has exactly these bytes. The value is freed.
pub fn is_value(value: RtValue, bytes: &[u8]) -> bool {
    let data = rt_value_data(value);
    let same =
        rt_value_len(value) == bytes.len() as i64 && !data.is_null() && holds(data.addr() as i64, bytes);
    rt_value_free(value) && same
}

/// States the protection of each page from `address` on.
#[track_caller]
pub fn expect_protections(address: i64, protections: &[i32]) -> Verdict {
    for (protection, index) in protections.iter().zip(0..) {
        let found = rt_get_protection(address + index * page());
        if found != *protection {
            let found = format_args!(": page {index} has {found}, not {protection}");
            return Err(Stop::failed(Location::caller(), "the pages' protections", found));
        }
    }
    Ok(())
}

/// What pages of `rt_alloc_exec_memory` allow to their user.
pub fn code_protection() -> i32 {
    if writable_code_is_allowed() { RWX | landing_pads() } else { RX | landing_pads() }
}

/// What `rt_make_executable` makes of pages.
pub fn made_executable() -> i32 {
    RX | landing_pads()
}

/// Whether code asks for landing pads because it was wished for: the bit, or 0.
fn landing_pads() -> i32 {
    match statistics().is_ok_and(|figures| figures.hardening & i64::from(RT_HARDEN_BTI) != 0) {
        true => RT_PROT_BTI,
        false => 0,
    }
}

/// Whether the policy in force grants WRITE together with EXEC.
pub fn writable_code_is_allowed() -> bool {
    rt_exec_memory_policy() == RT_POLICY_RWX
}

/// The figures of this moment.
pub fn statistics() -> Result<RtExecMemoryStats, Stop> {
    let mut statistics = EMPTY_STATISTICS;
    check!(fill_statistics(Some(&mut statistics)));
    Ok(statistics)
}

/// A structure with its size set and nothing else. The figures can grow in later versions.
pub const EMPTY_STATISTICS: RtExecMemoryStats = RtExecMemoryStats {
    size: size_of::<RtExecMemoryStats>() as i64,
    // SAFETY: it consists of numbers.
    ..unsafe { core::mem::zeroed() }
};
