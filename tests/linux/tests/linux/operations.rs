//! Every operation of the library, on ground that it can work on: for tests that make the system fail.

use execmem_conformance::code::returning;
use execmem_conformance::memory::{RW, RX};
use execmem_conformance::snapshot::{Snapshot, Watched};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::system::foreign_function;
use execmem_tests_linux::{files, maps};
use std::fmt::Debug;

/// What an operation works on.
pub struct Ground {
    pub code: i64,
    pub data: i64,
    /// As `data`, with a page of each: READ, RW, RX.
    pub mixed: i64,
    pub mapping: RtMapping,
    /// A function in the code heap.
    pub function: i64,
    /// A block with a chunk to itself.
    pub large: i64,
    pub path: &'static std::ffi::CStr,
    pub value: RtValue,
}

pub const PAGE: i64 = 4096;
pub const SIZE: i64 = 3 * PAGE;
/// More than any block that shares a chunk.
pub const LARGE: i64 = 100_000;

impl Ground {
    pub fn lay() -> Self {
        let path = files::file(&[b'x'; SIZE as usize]);
        let mapping = map_file(Some(path), RW, RT_MAP_PRIVATE, 0, 0);
        let (code, data) = (rt_alloc_exec_memory(SIZE), rt_alloc_rw_memory(SIZE));
        assert!(code > 0 && data > 0 && mapping.size == SIZE, "error {}", rt_last_error());
        assert_eq!(write_bytes(code, &returning(1), 0), 8);
        assert_eq!(write_bytes(data, &returning(2), 0), 8);
        rt_flush_icache(code, SIZE);
        assert_eq!(call(code, &[]), 1);
        let mixed = rt_alloc_rw_memory(SIZE);
        assert!(rt_set_protection(mixed, PAGE, RT_PROT_READ) && rt_make_executable(mixed + 2 * PAGE, PAGE));
        let (function, large) = (rt_code_alloc(8), rt_code_alloc(LARGE));
        assert!(large > 0, "error {}", rt_last_error());
        assert_eq!(write_block(function, &returning(4), 0), 8);
        assert!(rt_code_publish(function, 8));
        assert_eq!(call(function, &[]), 4);
        Self { code, data, mixed, mapping, function, large, path, value: value_of(&returning(3)) }
    }

    /// For the first operation of a process: there is nothing yet.
    pub fn bare() -> Self {
        let path = files::file(&[b'x'; SIZE as usize]);
        let mapping = RtMapping::NONE;
        Self { code: 0, data: 0, mixed: 0, mapping, function: 0, large: 0, path, value: RT_VALUE_NIL }
    }

    pub fn watched(&self) -> [Watched; 5] {
        [self.code, self.data, self.mixed, self.mapping.address, self.function & -PAGE]
            .map(|address| (address, SIZE))
    }
}

/// An operation: what it does; whether it worked.
pub struct Operation {
    pub name: &'static str,
    pub run: fn(&Ground) -> bool,
    /// Whether it is the first that a process does: the library's own records have no memory yet.
    pub is_first: bool,
}

impl Operation {
    pub fn is_lookup(&self) -> bool {
        self.name.starts_with("rt_is_executable") || self.name.starts_with("rt_get_protection")
    }
}

const fn operation(name: &'static str, run: fn(&Ground) -> bool) -> Operation {
    Operation { name, run, is_first: false }
}

const fn first(name: &'static str, run: fn(&Ground) -> bool) -> Operation {
    Operation { name, run, is_first: true }
}

pub const OPERATIONS: &[Operation] = &[
    first("the first rt_alloc_exec_memory", |_| rt_alloc_exec_memory(SIZE) > 0),
    first("the first rt_alloc_rw_memory", |_| rt_alloc_rw_memory(SIZE) > 0),
    first("the first rt_alloc_exec_memory_near", |_| {
        rt_alloc_exec_memory_near(SIZE, foreign_function(), 1 << 40) > 0
    }),
    first("the first rt_mmap_file", |on| map_file(Some(on.path), RW, RT_MAP_SHARED, 0, 0).size > 0),
    first("the first rt_code_alloc", |_| rt_code_alloc(100) > 0),
    operation("rt_code_alloc", |_| rt_code_alloc(100) > 0),
    operation("rt_code_alloc in a chunk of its own", |_| rt_code_alloc(LARGE) > 0),
    operation("rt_code_alloc_near", |on| rt_code_alloc_near(100, on.code, 1 << 30) > 0),
    operation("rt_code_write", |on| write_block(on.function, &returning(5), 0) == 8),
    operation("rt_code_write to pages without memory", |on| write_block(on.large, &[0; 9000], 5000) == 9000),
    operation("rt_code_publish", |on| rt_code_publish(on.function, 8)),
    operation("rt_code_patch", |on| rt_code_patch(on.function, 0) || rt_last_error() == RT_ERROR_UNSUPPORTED),
    operation("rt_code_free", |on| rt_code_free(on.function)),
    operation("rt_code_free of a chunk", |on| rt_code_free(on.large)),
    operation("rt_alloc_exec_memory", |_| rt_alloc_exec_memory(SIZE) > 0),
    operation("rt_alloc_rw_memory", |_| rt_alloc_rw_memory(SIZE) > 0),
    operation("rt_alloc_exec_memory_near", |on| rt_alloc_exec_memory_near(SIZE, on.code, 1 << 30) > 0),
    operation("rt_mmap_file", |on| map_file(Some(on.path), RW, RT_MAP_SHARED, 0, 0).size > 0),
    operation("rt_mmap_file, executable", |on| map_file(Some(on.path), RX, RT_MAP_PRIVATE, 0, 0).size > 0),
    operation("rt_mmap_file, anonymous", |_| {
        map_file(None, RW, RT_MAP_SHARED | RT_MAP_ANONYMOUS, 0, SIZE).size > 0
    }),
    operation("rt_free_exec_memory of code", |on| rt_free_exec_memory(on.code, SIZE)),
    operation("rt_free_exec_memory of data", |on| rt_free_exec_memory(on.data, SIZE)),
    operation("rt_munmap", |on| rt_munmap(on.mapping.address, SIZE)),
    operation("rt_write_exec_bytes", |on| write_bytes(on.code, b"across two pages", PAGE - 8) == 16),
    operation("rt_write_exec_memory", |on| rt_write_exec_memory(on.code, on.value, 2 * PAGE) == 8),
    operation("rt_write_exec_bytes to a file", |on| write_bytes(on.mapping.address, b"text", PAGE) == 4),
    operation("rt_make_executable", |on| rt_make_executable(on.data, SIZE)),
    operation("rt_make_executable of one page", |on| rt_make_executable(on.data + PAGE, 1)),
    operation("rt_make_writable", |on| rt_make_writable(on.code, SIZE)),
    operation("rt_make_writable of one page", |on| rt_make_writable(on.code + PAGE, 1)),
    operation("rt_set_protection", |on| rt_set_protection(on.code + PAGE, 1, RT_PROT_NONE)),
    operation("rt_set_protection to EXEC alone", |on| rt_set_protection(on.data, 2 * PAGE, RT_PROT_EXEC)),
    operation("rt_make_executable of mixed pages", |on| rt_make_executable(on.mixed, SIZE)),
    operation("rt_make_writable of mixed pages", |on| rt_make_writable(on.mixed, SIZE)),
    operation("rt_free_exec_memory of mixed pages", |on| rt_free_exec_memory(on.mixed, SIZE)),
    operation("rt_flush_icache", |on| call_by_name(c"rt_flush_icache", [on.code, SIZE, 0, 0, 0, 0]) == 0),
    operation("rt_mmap_read_bytes", |on| {
        let value = rt_mmap_read_bytes(on.mapping.address, 0, SIZE);
        let length = rt_value_len(value);
        rt_value_free(value) && length == SIZE
    }),
    operation("rt_mmap_read_string", |on| {
        let value = rt_mmap_read_string(on.mapping.address, 0, 0);
        let length = rt_value_len(value);
        rt_value_free(value) && length == SIZE
    }),
    operation("rt_mmap_read_into", |on| read_into(on.mapping.address, PAGE - 4, &mut [0; 8]) == 8),
    operation("rt_value_bytes", |_| value_of(&[7; 3 << 20]) != RT_VALUE_NIL),
    operation("rt_msync", |on| rt_msync(on.mapping.address, SIZE, false)),
    operation("rt_mlock", |on| rt_mlock(on.mapping.address, SIZE)),
    operation("rt_munlock", |on| rt_munlock(on.mapping.address, SIZE)),
    operation("rt_madvise", |on| rt_madvise(on.mapping.address, SIZE, RT_ADVICE_RANDOM)),
    operation("rt_file_size_for_mmap", |on| file_size(Some(on.path)) == SIZE),
    operation("rt_call_function_0 of a foreign function", |_| call(foreign_function(), &[]) != -1),
    operation("rt_is_executable of a foreign function", |_| rt_is_executable(foreign_function())),
    operation("rt_get_protection of a foreign function", |_| rt_get_protection(foreign_function()) == RX),
];

pub fn snapshot(watched: &[Watched]) -> Snapshot {
    Snapshot::of(watched).unwrap_or_else(|stop| panic!("{stop:?}"))
}

pub fn statistics() -> RtExecMemoryStats {
    execmem_conformance::memory::statistics().unwrap_or_else(|stop| panic!("{stop:?}"))
}

/// A page of which the library says something else than the kernel.
pub fn untrue_pages(watched: &[Watched]) -> Option<String> {
    let addresses = watched.iter().flat_map(|(address, size)| (*address..address + size).step_by(4096));
    for address in addresses {
        let (told, real) = (rt_get_protection(address), maps::protection_at(address));
        if told != real {
            return Some(format!("the library says {told} of a page, the kernel {real}"));
        }
    }
    None
}

/// The mappings that can be executed or are shared (which the kernel names as files): code memory, whoever holds
/// it. Other memory may grow: the library's own records.
pub fn code_memory() -> Vec<impl Debug + PartialEq> {
    let is_shared = |name: &[u8]| name.starts_with(b"/dev/zero") || name.starts_with(b"/memfd");
    let is_code = |line: &maps::Line| is_shared(&line.name) || line.protection & 4 != 0;
    maps::merged_lines().into_iter().filter(is_code).collect()
}

pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the kernel tells the open files").count()
}
