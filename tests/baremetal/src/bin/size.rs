//! What the library costs a kernel that uses the first 26 symbols of the contract: `cargo xtask test baremetal`
//! measures it.
#![no_std]
#![no_main]

#[path = "../size/mod.rs"]
mod size;

use execmem_os_baremetal::*;

/// The symbols that the contract had from the beginning.
#[used]
static FIRST: [Symbol; 26] = [
    Symbol(rt_mmap_file as *const ()),
    Symbol(rt_munmap as *const ()),
    Symbol(rt_mmap_read_bytes as *const ()),
    Symbol(rt_mmap_read_string as *const ()),
    Symbol(rt_file_size_for_mmap as *const ()),
    Symbol(rt_get_page_size as *const ()),
    Symbol(rt_msync as *const ()),
    Symbol(rt_mlock as *const ()),
    Symbol(rt_munlock as *const ()),
    Symbol(rt_madvise as *const ()),
    Symbol(rt_alloc_exec_memory as *const ()),
    Symbol(rt_alloc_rw_memory as *const ()),
    Symbol(rt_free_exec_memory as *const ()),
    Symbol(rt_write_exec_memory as *const ()),
    Symbol(rt_make_executable as *const ()),
    Symbol(rt_flush_icache as *const ()),
    Symbol(rt_get_function_pointer as *const ()),
    Symbol(rt_call_function_0 as *const ()),
    Symbol(rt_call_function_1 as *const ()),
    Symbol(rt_call_function_2 as *const ()),
    Symbol(rt_is_executable as *const ()),
    Symbol(rt_get_protection as *const ()),
    Symbol(rt_set_protection as *const ()),
    Symbol(rt_exec_memory_total as *const ()),
    Symbol(rt_exec_memory_count as *const ()),
    Symbol(rt_exec_memory_dump_stats as *const ()),
];

#[repr(transparent)]
struct Symbol(*const ());

// SAFETY: the addresses are only kept.
unsafe impl Sync for Symbol {}
