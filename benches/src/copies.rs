//! Bytes in and out beside memcpy and memmap2.

use execmem_benches::{Race, Role, live_function, timed};
use execmem_os_linux::*;
use std::hint::black_box;

const TABLE: &str = "Questions, copies, calls";
const MIB: usize = 1 << 20;

pub fn run() {
    write_code();
    read_file();
    calls();
}

fn write_code() {
    let source = vec![0x90u8; MIB];
    // SAFETY: the contract takes any size.
    let region = unsafe { rt_alloc_rw_memory(MIB as i64) };
    let ours = || {
        // SAFETY: the source is readable.
        let written = unsafe { rt_write_exec_bytes(region, source.as_ptr(), MIB as i64, 0) };
        assert_eq!(written, MIB as i64);
    };
    // To the same place: how two addresses lie to each other makes a tenth.
    let memcpy = || {
        // SAFETY: both have so many bytes; nobody else uses the region.
        unsafe { (region as *mut u8).copy_from_nonoverlapping(black_box(source.as_ptr()), MIB) };
    };
    Race::of(timed(10, ours))
        .beside(Role::Bare, "memcpy", timed(10, memcpy))
        .row(TABLE, "rt_write_exec_bytes of 1 MiB")
        .why("a claim is taken and protections are looked at before the copy: tens of nanoseconds")
        .print();
}

fn read_file() {
    use std::os::unix::ffi::OsStrExt;

    let path = std::env::temp_dir().join(format!("execmem-bench-{}", std::process::id()));
    std::fs::write(&path, vec![7u8; 16 * MIB]).expect("a file");
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    let mut target = vec![1u8; 16 * MIB];
    // SAFETY: the name is a C string.
    let mapping = unsafe { rt_mmap_file(name.as_ptr(), 1, 2, 0, 0) };
    let ours = || {
        // SAFETY: the target is as long as the file.
        let read = unsafe { rt_mmap_read_into(mapping.address, 0, target.as_mut_ptr(), mapping.size) };
        assert_eq!(read, 16 * MIB as i64);
    };
    let race = Race::of(timed(1, ours));
    #[cfg(feature = "peers")]
    let race = {
        let file = std::fs::File::open(&path).expect("the file");
        let mut other = vec![1u8; 16 * MIB];
        // SAFETY: nobody else changes the file.
        let mapped = unsafe { memmap2::Mmap::map(&file) }.expect("a mapping");
        let memcpy = move || {
            other.copy_from_slice(&mapped);
            black_box(&mut other);
        };
        race.beside(Role::Peer, "memcpy from memmap2", timed(1, memcpy))
    };
    race.row(TABLE, "rt_mmap_read_into of 16 MiB").why(KERNEL_COPIES).print();
    std::fs::remove_file(&path).expect("the file");
}

const KERNEL_COPIES: &str = "the kernel copies (`process_vm_readv`), so that a file that shrinks meanwhile is an error and \
     no `SIGBUS`; a copy after bringing pages in can still end the process";

/// Calls that are checked beside those that are not.
fn calls() {
    let code = live_function(64);
    // SAFETY: the code is readable.
    let block = unsafe {
        let block = rt_code_alloc(64);
        assert_eq!(rt_code_write(block, code.as_ptr(), 64, 0), 64);
        assert_eq!(rt_code_publish(block, 64), 1);
        block
    };
    let count = 10_000;
    // SAFETY: the block has such a function, and room for its result.
    let (checked, tried, bare) = unsafe {
        let function = std::mem::transmute::<usize, extern "C" fn() -> i32>(block as usize);
        (
            move || _ = black_box(rt_call_function_0(black_box(block))),
            move || {
                let mut result = 0;
                assert_eq!(rt_try_call(black_box(block), std::ptr::null(), 0, &mut result), 1);
                black_box(result);
            },
            move || _ = black_box(black_box(function)()),
        )
    };
    Race::of(timed(count, checked))
        .beside(Role::Bare, "a call by a pointer", timed(count, bare))
        .row(TABLE, "rt_call_function_0")
        .why(CHECKED)
        .print();
    Race::of(timed(count, tried))
        .beside(Role::Bare, "a call by a pointer", timed(count, bare))
        .row(TABLE, "rt_try_call")
        .why(CHECKED)
        .print();
}

const CHECKED: &str = "the page map is asked whether the page is executable, in four loads; `rt_get_function_pointer` gives \
     the address for calls without";
