//! The C types and constants of the header, which cbindgen makes from this file: so it stands on nothing else of the
//! core. The numbers are written here only; the core's own types are made of them.

use core::ffi::c_char;

/// A 64-bit word that belongs to the language runtime; the library never looks inside one.
pub type RtValue = u64;

/// The built-in store's nil.
pub const RT_VALUE_NIL: RtValue = 0x3;

/// A mapping: what `rt_mmap_file` gives and `rt_munmap` wants back. Both 0: it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RtMapping {
    /// Where it starts.
    pub address: i64,
    /// Its exact size in bytes, as requested or as long as the file.
    pub size: i64,
}

impl RtMapping {
    /// The failed mapping.
    pub const NONE: Self = Self { address: 0, size: 0 };
}

/// The operations on a language runtime's values, for `rt_set_value_ops`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct RtValueOps {
    /// `sizeof(RtValueOps)`: the table can grow in later versions.
    pub size: i64,
    /// Makes a byte array from `length` bytes at `data`, which are only lent.
    pub make_bytes: Option<unsafe extern "C" fn(data: *const u8, length: i64) -> RtValue>,
    /// Makes a string from `length` bytes of valid UTF-8 at `data`, which are only lent.
    pub make_string: Option<unsafe extern "C" fn(data: *const u8, length: i64) -> RtValue>,
    /// Lends the bytes of a byte array until the library's call returns; false if it is no byte array.
    pub borrow_bytes:
        Option<unsafe extern "C" fn(value: RtValue, data: *mut *const u8, length: *mut i64) -> bool>,
}

/// Figures of one moment, from `rt_exec_memory_stats`. Arrays are indexed by protection bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RtExecMemoryStats {
    /// `sizeof(RtExecMemoryStats)`, set by the caller: only so many bytes are filled in.
    pub size: i64,
    /// Live regions of `rt_alloc_exec_memory` and `rt_alloc_rw_memory`.
    pub regions: i64,
    /// Their requested bytes.
    pub requested_bytes: i64,
    /// All live regions, mapped files too, by the protection of their first page.
    pub regions_by_protection: [i64; 8],
    /// Bytes of their pages by protection; second views are not counted.
    pub bytes_by_protection: [i64; 8],
    /// Bytes of pages mapped now, second views included.
    pub mapped_bytes: i64,
    /// The most that `mapped_bytes` ever was.
    pub peak_mapped_bytes: i64,
    /// Calls that failed.
    pub failed_calls: i64,
    /// `RT_POLICY_*`: the policy in force, or the wish while nothing was allocated; -1 if `EXECMEM_POLICY` names
    /// none.
    pub policy: i64,
    /// Bytes that the library's own records of regions and of code heaps take.
    pub record_bytes: i64,
    /// Live blocks of the code heap, and of all others that a Rust program has made.
    pub code_blocks: i64,
    /// Their requested bytes.
    pub code_bytes: i64,
    /// Chunks that they lie in: a region each.
    pub code_chunks: i64,
    /// Bytes of the chunks' code pages; second views are not counted.
    pub code_chunk_bytes: i64,
    /// Clusters of chunks: within one, a direct branch reaches from any block to any other. 16 at most: in none are
    /// chunks near an address that was asked for far away, and those for which 16 are not enough.
    pub code_clusters: i64,
    /// By `RT_POLICY_*`, what came of trying a policy out, and so why the one in force was chosen: -1 it was
    /// not tried, 0 the system grants it, else the `RT_ERROR_*` why it doesn't.
    pub policy_trials: [i64; 5],
    /// Bytes of code that this library has put on huge pages: `rt_code_promote`.
    pub huge_code_bytes: i64,
    /// `RT_HARDEN_*` bits: what `rt_set_hardening` has turned on.
    pub hardening: i64,
}

/// A live block of the code heap, from `rt_code_find`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct RtCodeBlock {
    /// Where it starts: what `rt_code_alloc` returned.
    pub address: i64,
    /// The bytes that were requested.
    pub size: i64,
}

/// No access.
pub const RT_PROT_NONE: i32 = 0;
/// Loads.
pub const RT_PROT_READ: i32 = 1;
/// Stores.
pub const RT_PROT_WRITE: i32 = 2;
/// Instruction fetches.
pub const RT_PROT_EXEC: i32 = 4;
/// Beside EXEC, on aarch64: an indirect branch to these pages must find a landing pad.
pub const RT_PROT_BTI: i32 = 0x10;

/// Stores reach the file and other processes.
pub const RT_MAP_SHARED: i32 = 1;
/// Stores stay in this process.
pub const RT_MAP_PRIVATE: i32 = 2;
/// Always invalid: no function takes an address to map at.
pub const RT_MAP_FIXED: i32 = 0x10;
/// No file behind it; the path is NULL.
pub const RT_MAP_ANONYMOUS: i32 = 0x20;

/// Nothing special.
pub const RT_ADVICE_NORMAL: i32 = 0;
/// Random order.
pub const RT_ADVICE_RANDOM: i32 = 1;
/// Front to back.
pub const RT_ADVICE_SEQUENTIAL: i32 = 2;
/// Needed soon.
pub const RT_ADVICE_WILLNEED: i32 = 3;
/// Not needed soon: private anonymous memory reads as zero again. Private pages of a file may read as the file again
/// (Linux) or keep what was stored; all other memory keeps its contents.
pub const RT_ADVICE_DONTNEED: i32 = 4;
/// A forked child does not get the memory.
pub const RT_ADVICE_DONTFORK: i32 = 10;

/// The first of `rwx`, `jit`, `dual`, `toggle` that the system grants.
pub const RT_POLICY_AUTO: i32 = 0;
/// Read-write-execute pages.
pub const RT_POLICY_RWX: i32 = 1;
/// Two views: read-execute at the address, read-write elsewhere.
pub const RT_POLICY_DUAL: i32 = 2;
/// Read-execute pages, read-write only around each write by this library.
pub const RT_POLICY_TOGGLE: i32 = 3;
/// macOS `MAP_JIT` pages with a write switch for each thread.
pub const RT_POLICY_JIT: i32 = 4;

/// A page without access before and behind each view of a region, and of a chunk of the code heap.
pub const RT_HARDEN_GUARDS: i32 = 1;
/// A processor's key for the write views of memory with two views: only this library's own writes have it.
pub const RT_HARDEN_KEYS: i32 = 2;
/// `RT_PROT_BTI` for regions of code, what `rt_make_executable` makes, and the code heap.
pub const RT_HARDEN_BTI: i32 = 4;

/// No call of this thread has failed yet.
pub const RT_ERROR_NONE: i32 = 0;
/// Invalid argument.
pub const RT_ERROR_INVALID_ARGUMENT: i32 = 1;
/// Past the end of the file.
pub const RT_ERROR_OUT_OF_RANGE: i32 = 2;
/// The range is not inside one live region of this library.
pub const RT_ERROR_NOT_OWNED: i32 = 3;
/// Not the size that was requested.
pub const RT_ERROR_WRONG_SIZE: i32 = 4;
/// No memory, address space or mapping left.
pub const RT_ERROR_NO_MEMORY: i32 = 5;
/// Over the limit for a single allocation.
pub const RT_ERROR_OVER_LIMIT: i32 = 6;
/// Refused by the system or by the W^X policy.
pub const RT_ERROR_REFUSED: i32 = 7;
/// The pages' protection does not allow it.
pub const RT_ERROR_WRONG_PROTECTION: i32 = 8;
/// The address is not executable.
pub const RT_ERROR_NOT_EXECUTABLE: i32 = 9;
/// No such file, symbol or mapping.
pub const RT_ERROR_NOT_FOUND: i32 = 10;
/// A directory, FIFO, device or socket.
pub const RT_ERROR_NOT_REGULAR_FILE: i32 = 11;
/// An empty file can't be mapped.
pub const RT_ERROR_EMPTY_FILE: i32 = 12;
/// Input/output error, or a mapped file that shrank.
pub const RT_ERROR_IO: i32 = 13;
/// This system can't do it.
pub const RT_ERROR_UNSUPPORTED: i32 = 14;
/// The value is not a byte array.
pub const RT_ERROR_BAD_VALUE: i32 = 15;
/// The environment variable `EXECMEM_POLICY` names no policy.
pub const RT_ERROR_UNKNOWN_POLICY: i32 = 16;

/// What `rt_register_symbols` calls for each symbol.
pub type RtEachSymbol =
    Option<unsafe extern "C" fn(ctx: *mut core::ffi::c_void, name: *const c_char, address: i64)>;
