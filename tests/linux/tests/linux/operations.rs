//! The operations of the library: a call of each symbol at least, on memory of every kind.

use execmem_conformance::code::returning;
use execmem_conformance::memory::{RW, RX, statistics};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::files;
use execmem_tests_linux::system::foreign_function;
use std::ffi::{CStr, c_char, c_void};
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::atomic::{AtomicI64, Ordering};

/// What an operation works on.
pub struct Ground {
    pub code: i64,
    pub data: i64,
    /// As `data`, with a page of each: READ, RW, RX.
    pub mixed: i64,
    /// Read-write memory that holds a whole unit of the page map above its lowest level.
    pub wide: i64,
    pub mapping: RtMapping,
    /// A function in the code heap.
    pub function: i64,
    /// A block with a chunk to itself.
    pub large: i64,
    pub path: &'static CStr,
    pub value: RtValue,
    /// The file of that path.
    open: RawFd,
    /// A file that keeps nothing.
    nowhere: RawFd,
    /// What stderr is.
    stderr: RawFd,
}

/// More than any block that shares a chunk.
pub const LARGE: i64 = 100_000;
pub const WIDE: i64 = 2 * UNIT;
pub const UNIT: i64 = 2 << 20;
/// Where the first NUL of the mapped file is.
const TEXT: usize = 1500;

/// The kernel's: the library is asked by an operation alone, since it may be the first that asks it anything.
pub fn page() -> i64 {
    // SAFETY: has no preconditions (sysconf(3)).
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) }
}

/// Three pages.
pub fn size() -> i64 {
    3 * page()
}

impl Ground {
    pub fn lay() -> Self {
        let bare = Self::bare();
        let mapping = map_file(Some(bare.path), RW, RT_MAP_PRIVATE, 0, 0);
        let (code, data) = (rt_alloc_exec_memory(size()), rt_alloc_rw_memory(size()));
        assert!(code > 0 && data > 0 && mapping.size == size(), "error {}", rt_last_error());
        assert_eq!(write_bytes(code, &returning(1), 0), 8);
        assert_eq!(write_bytes(data, &returning(2), 0), 8);
        rt_flush_icache(code, size());
        assert_eq!(call(code, &[]), 1);
        let mixed = rt_alloc_rw_memory(size());
        assert!(
            rt_set_protection(mixed, page(), RT_PROT_READ) && rt_make_executable(mixed + 2 * page(), page())
        );
        let (function, large) = (rt_code_alloc(8), rt_code_alloc(LARGE));
        assert!(large > 0, "error {}", rt_last_error());
        assert_eq!(write_block(function, &returning(4), 0), 8);
        assert!(rt_code_publish(function, 8));
        assert_eq!(call(function, &[]), 4);
        let wide = rt_alloc_rw_memory(WIDE);
        assert!(wide > 0, "error {}", rt_last_error());
        Self { code, data, mixed, wide, mapping, function, large, value: value_of(&returning(3)), ..bare }
    }

    /// For the first operation of a process: there is nothing yet.
    pub fn bare() -> Self {
        let mut bytes = vec![b'x'; size() as usize];
        bytes[TEXT] = 0;
        let path = files::file(&bytes);
        Self {
            code: 0,
            data: 0,
            mixed: 0,
            wide: 0,
            mapping: RtMapping::NONE,
            function: 0,
            large: 0,
            path,
            open: std::fs::File::open(files::path_of(path)).expect("the file is there").into_raw_fd(),
            value: RT_VALUE_NIL,
            nowhere: std::fs::File::create("/dev/null").expect("a file for nothing").into_raw_fd(),
            // SAFETY: another number for an open file.
            stderr: unsafe { libc::dup(2) },
        }
    }

    /// A page in the middle of `wide`, where a whole unit of the page map has been one word.
    pub fn inner_page(&self) -> i64 {
        (self.wide + UNIT - 1) / UNIT * UNIT + page()
    }
}

/// An operation: what it does; whether it worked.
pub struct Operation {
    /// With the symbols that it is about.
    pub name: &'static str,
    /// The address that it works on; 0: none that there is before it.
    pub at: fn(&Ground) -> i64,
    pub run: fn(&Ground) -> bool,
    /// Whether it is the first that a process does: the library's own records have no memory yet.
    pub is_first: bool,
    /// Whether the policy makes no difference to it.
    pub is_alike: bool,
}

impl Operation {
    /// The symbols that it calls.
    pub fn calls(&self, symbol: &str) -> bool {
        self.name.split([' ', ',']).any(|word| word == symbol)
    }

    /// Whether what it does or counts is the process's as a whole.
    pub fn is_about_the_process(&self) -> bool {
        [
            "rt_set_value_ops",
            "rt_code_set_limit",
            "rt_exec_memory_set_limit",
            "rt_exec_memory_total",
            "rt_exec_memory_count",
        ]
        .into_iter()
        .any(|symbol| self.calls(symbol))
    }

    /// Whether it asks the kernel what is mapped.
    pub fn asks_the_kernel(&self) -> bool {
        self.name.contains("_near")
    }

    pub fn is_lookup(&self) -> bool {
        ["rt_is_executable", "rt_get_protection", "rt_code_find"].into_iter().any(|lookup| self.calls(lookup))
    }
}

const fn operation(name: &'static str, at: fn(&Ground) -> i64, run: fn(&Ground) -> bool) -> Operation {
    Operation { name, at, run, is_first: false, is_alike: false }
}

const fn first(name: &'static str, run: fn(&Ground) -> bool) -> Operation {
    Operation { name, at: NOWHERE, run, is_first: true, is_alike: false }
}

const fn alike(operation: Operation) -> Operation {
    Operation { is_alike: true, ..operation }
}

/// The address that the last operation gave, or 0.
pub static GIVEN: AtomicI64 = AtomicI64::new(0);

fn gives(address: i64) -> bool {
    GIVEN.store(address, Ordering::Relaxed);
    address > 0
}

/// What the library can't do under every policy.
fn or_unsupported(is_done: bool) -> bool {
    is_done || rt_last_error() == RT_ERROR_UNSUPPORTED
}

fn frees_text(value: RtValue, length: i64) -> bool {
    let is_right = rt_value_len(value) == length;
    rt_value_free(value) && is_right
}

fn dumps_to_nowhere(on: &Ground) -> bool {
    // SAFETY: descriptors of this process; stderr is put back. No further one is needed.
    unsafe {
        libc::dup2(on.nowhere, 2);
        rt_exec_memory_dump_stats();
        libc::dup2(on.stderr, 2) == 2
    }
}

unsafe extern "C" fn count_symbol(context: *mut c_void, _: *const c_char, _: i64) {
    // SAFETY: the operation below gives a number.
    unsafe { *context.cast::<i64>() += 1 };
}

unsafe extern "C" fn make(_: *const u8, length: i64) -> RtValue {
    length as RtValue
}

unsafe extern "C" fn lend_nothing(_: RtValue, _: *mut *const u8, _: *mut i64) -> bool {
    false
}

const OWN_VALUES: RtValueOps = RtValueOps {
    size: size_of::<RtValueOps>() as i64,
    make_bytes: Some(make),
    make_string: Some(make),
    borrow_bytes: Some(lend_nothing),
};

const NOWHERE: fn(&Ground) -> i64 = |_| 0;
const CODE: fn(&Ground) -> i64 = |on| on.code;
const DATA: fn(&Ground) -> i64 = |on| on.data;
const MIXED: fn(&Ground) -> i64 = |on| on.mixed;
const MAPPING: fn(&Ground) -> i64 = |on| on.mapping.address;
const FUNCTION: fn(&Ground) -> i64 = |on| on.function;
const LARGE_BLOCK: fn(&Ground) -> i64 = |on| on.large;
const INNER_PAGE: fn(&Ground) -> i64 = Ground::inner_page;
const FOREIGN: fn(&Ground) -> i64 = |_| foreign_function();

pub const OPERATIONS: &[Operation] = &[
    first("the first rt_alloc_exec_memory", |_| gives(rt_alloc_exec_memory(size()))),
    first("the first rt_alloc_rw_memory", |_| gives(rt_alloc_rw_memory(size()))),
    first("the first rt_alloc_exec_memory_near", |_| {
        gives(rt_alloc_exec_memory_near(size(), foreign_function(), 1 << 40))
    }),
    first("the first rt_mmap_file", |on| gives(map_file(Some(on.path), RW, RT_MAP_SHARED, 0, 0).address)),
    first("the first rt_code_alloc", |_| gives(rt_code_alloc(100))),
    // These walk through all that there is.
    alike(first("rt_exec_memory_stats of one region", |_| {
        gives(rt_alloc_rw_memory(size())) && statistics().is_ok()
    })),
    alike(first("rt_exec_memory_dump_stats of nothing", dumps_to_nowhere)),
    operation("rt_code_alloc", NOWHERE, |_| gives(rt_code_alloc(100))),
    operation("rt_code_alloc in a chunk of its own", NOWHERE, |_| gives(rt_code_alloc(LARGE))),
    operation("rt_code_alloc_near", NOWHERE, |on| gives(rt_code_alloc_near(100, on.code, 1 << 30))),
    operation("rt_code_write", FUNCTION, |on| write_block(on.function, &returning(5), 0) == 8),
    operation("rt_code_write to pages without memory", LARGE_BLOCK, |on| {
        write_block(on.large, &[0; 9000], 5000) == 9000
    }),
    operation("rt_code_write_view", FUNCTION, |on| or_unsupported(rt_code_write_view(on.function) > 0)),
    operation("rt_code_publish", FUNCTION, |on| rt_code_publish(on.function, 8)),
    operation("rt_code_publish_all", FUNCTION, |on| publish_all(&[on.function, on.large], &[8, 8])),
    operation("rt_code_patch", FUNCTION, |on| or_unsupported(rt_code_patch(on.function, 0))),
    operation("rt_code_find", FUNCTION, |on| find_block(on.function + 3) == Some((on.function, 8))),
    operation("rt_code_set_name", FUNCTION, |on| set_name(on.function, 8, Some(c"function"))),
    operation("rt_code_set_unwind", FUNCTION, |on| {
        // SAFETY: records that have no end are refused.
        let is_taken = unsafe { set_unwind(on.function, 8, &[8, 0, 1]) };
        !is_taken && rt_last_error() == RT_ERROR_INVALID_ARGUMENT
    }),
    operation("rt_code_set_limit", NOWHERE, |_| rt_code_set_limit(1 << 40)),
    operation("rt_code_promote", NOWHERE, |_| or_unsupported(rt_code_promote(1 << 40) >= 0)),
    operation("rt_code_shrink", LARGE_BLOCK, |on| rt_code_shrink(on.large, 100)),
    operation("rt_code_free", FUNCTION, |on| rt_code_free(on.function)),
    operation("rt_code_free of a chunk", LARGE_BLOCK, |on| rt_code_free(on.large)),
    operation("rt_alloc_exec_memory", NOWHERE, |_| gives(rt_alloc_exec_memory(size()))),
    operation("rt_alloc_rw_memory", NOWHERE, |_| gives(rt_alloc_rw_memory(size()))),
    operation("rt_alloc_exec_memory_near", NOWHERE, |on| {
        gives(rt_alloc_exec_memory_near(size(), on.code, 1 << 30))
    }),
    operation("rt_alloc_rw_memory_near", NOWHERE, |on| {
        gives(rt_alloc_rw_memory_near(size(), on.code, 1 << 30))
    }),
    operation("rt_mmap_file", NOWHERE, |on| gives(map_file(Some(on.path), RW, RT_MAP_SHARED, 0, 0).address)),
    operation("rt_mmap_path", NOWHERE, |on| gives(map_path(Some(on.path.to_bytes()), RW, RT_MAP_SHARED, 0))),
    operation("rt_mmap_fd", NOWHERE, |on| {
        gives(rt_mmap_fd(on.open.into(), RT_PROT_READ.into(), RT_MAP_PRIVATE.into(), 0, 0))
    }),
    operation("rt_mapping_size", MAPPING, |on| rt_mapping_size(on.mapping.address) == size()),
    operation("rt_mmap_file, executable", NOWHERE, |on| {
        gives(map_file(Some(on.path), RX, RT_MAP_PRIVATE, 0, 0).address)
    }),
    operation("rt_mmap_file, anonymous", NOWHERE, |_| {
        gives(map_file(None, RW, RT_MAP_SHARED | RT_MAP_ANONYMOUS, 0, size()).address)
    }),
    operation("rt_seal of what is writable", DATA, |on| {
        !rt_seal(on.data, size()) && rt_last_error() == RT_ERROR_WRONG_PROTECTION
    }),
    operation("rt_free_exec_memory of code", CODE, |on| rt_free_exec_memory(on.code, size())),
    operation("rt_free_exec_memory of data", DATA, |on| rt_free_exec_memory(on.data, size())),
    operation("rt_free_exec_memory of much", INNER_PAGE, |on| rt_free_exec_memory(on.wide, WIDE)),
    operation("rt_munmap", MAPPING, |on| rt_munmap(on.mapping.address, size())),
    operation("rt_write_exec_bytes", CODE, |on| write_bytes(on.code, b"across two pages", page() - 8) == 16),
    operation("rt_write_exec_memory", CODE, |on| rt_write_exec_memory(on.code, on.value, 2 * page()) == 8),
    operation("rt_write_exec_bytes to a file", MAPPING, |on| {
        write_bytes(on.mapping.address, b"text", page()) == 4
    }),
    operation("rt_make_executable", DATA, |on| rt_make_executable(on.data, size())),
    operation("rt_make_executable of one page", DATA, |on| rt_make_executable(on.data + page(), 1)),
    operation("rt_make_executable of one page of many", INNER_PAGE, |on| {
        rt_make_executable(on.inner_page(), 1)
    }),
    operation("rt_make_writable", CODE, |on| rt_make_writable(on.code, size())),
    operation("rt_make_writable of one page", CODE, |on| rt_make_writable(on.code + page(), 1)),
    operation("rt_set_protection", CODE, |on| rt_set_protection(on.code + page(), 1, RT_PROT_NONE)),
    operation("rt_set_protection to EXEC alone", DATA, |on| {
        rt_set_protection(on.data, 2 * page(), RT_PROT_EXEC)
    }),
    operation("rt_make_executable of mixed pages", MIXED, |on| rt_make_executable(on.mixed, size())),
    operation("rt_make_writable of mixed pages", MIXED, |on| rt_make_writable(on.mixed, size())),
    operation("rt_free_exec_memory of mixed pages", MIXED, |on| rt_free_exec_memory(on.mixed, size())),
    operation("rt_flush_icache", CODE, |on| {
        call_by_name(c"rt_flush_icache", [on.code, size(), 0, 0, 0, 0]) == 0
    }),
    operation("rt_mmap_read_bytes", MAPPING, |on| {
        frees_text(rt_mmap_read_bytes(on.mapping.address, 0, size()), size())
    }),
    alike(operation("rt_mmap_read_string", MAPPING, |on| {
        frees_text(rt_mmap_read_string(on.mapping.address, 0, 0), TEXT as i64)
    })),
    operation("rt_mmap_read_into", MAPPING, |on| read_into(on.mapping.address, page() - 4, &mut [0; 8]) == 8),
    alike(operation("rt_value_bytes", NOWHERE, |_| value_of(&[7; 33_000]) != RT_VALUE_NIL)),
    operation("rt_value_data", NOWHERE, |on| !rt_value_data(on.value).is_null()),
    operation("rt_value_len", NOWHERE, |on| rt_value_len(on.value) == 8),
    operation("rt_value_free", NOWHERE, |on| rt_value_free(on.value)),
    operation("rt_set_value_ops", NOWHERE, |_| set_value_ops(Some(&OWN_VALUES))),
    operation("rt_msync", MAPPING, |on| rt_msync(on.mapping.address, size(), false)),
    operation("rt_mlock", MAPPING, |on| rt_mlock(on.mapping.address, size())),
    operation("rt_munlock", MAPPING, |on| rt_munlock(on.mapping.address, size())),
    operation("rt_madvise", MAPPING, |on| rt_madvise(on.mapping.address, size(), RT_ADVICE_RANDOM)),
    operation("rt_madvise, kept from children", MIXED, |on| rt_madvise(on.mixed, size(), RT_ADVICE_DONTFORK)),
    operation("rt_file_size_for_mmap", NOWHERE, |on| file_size(Some(on.path)) == size()),
    operation("rt_get_page_size", NOWHERE, |_| rt_get_page_size() == page()),
    operation("rt_get_function_pointer", CODE, |on| rt_get_function_pointer(on.code) == on.code),
    operation("rt_call_function_0", CODE, |on| call(on.code, &[]) == 1),
    operation("rt_call_function_0 of a foreign function", FOREIGN, |_| call(foreign_function(), &[]) != -1),
    operation("rt_call_function_0 of a block", FUNCTION, |on| call(on.function, &[]) == 4),
    operation("rt_call_function_1", CODE, |on| call(on.code, &[0; 1]) == 1),
    operation("rt_call_function_2", CODE, |on| call(on.code, &[0; 2]) == 1),
    operation("rt_call_function_3", CODE, |on| call(on.code, &[0; 3]) == 1),
    operation("rt_call_function_4", CODE, |on| call(on.code, &[0; 4]) == 1),
    operation("rt_call_function_5", CODE, |on| call(on.code, &[0; 5]) == 1),
    operation("rt_call_function_6", CODE, |on| call(on.code, &[0; 6]) == 1),
    operation("rt_try_call", CODE, |on| try_call(on.code, None, 0, None)),
    operation("rt_is_executable of a foreign function", FOREIGN, |_| rt_is_executable(foreign_function())),
    operation("rt_is_executable of a block", FUNCTION, |on| rt_is_executable(on.function)),
    operation("rt_get_protection of a foreign function", FOREIGN, |_| {
        rt_get_protection(foreign_function()) == RX
    }),
    operation("rt_exec_memory_total", NOWHERE, |_| rt_exec_memory_total() == 3 * size() + WIDE),
    operation("rt_exec_memory_count", NOWHERE, |_| rt_exec_memory_count() == 4),
    operation("rt_exec_memory_policy", NOWHERE, |_| rt_exec_memory_policy() > 0),
    operation("rt_exec_memory_set_policy", NOWHERE, |_| rt_exec_memory_set_policy(rt_exec_memory_policy())),
    operation("rt_exec_memory_set_limit", NOWHERE, |_| rt_exec_memory_set_limit(1 << 30)),
    operation("rt_set_hardening", NOWHERE, |_| {
        statistics().is_ok_and(|figures| rt_set_hardening(figures.hardening as i32))
    }),
    operation("rt_abi_version", NOWHERE, |_| rt_abi_version() == 1),
    operation("rt_symbol_lookup", NOWHERE, |_| look_up(Some(c"rt_error_message")) > 0),
    operation("rt_register_symbols", NOWHERE, |_| {
        let mut count = 0i64;
        register_symbols(Some(count_symbol), &mut count) == count
    }),
    operation("rt_last_error of a call that fails", NOWHERE, |_| {
        !rt_make_executable(1, 1) && rt_last_error() == RT_ERROR_NOT_OWNED
    }),
    operation("rt_error_message", NOWHERE, |_| !rt_error_message(RT_ERROR_IO).is_null()),
];
