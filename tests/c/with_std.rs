//! A Rust program with its own standard library, linked with ours: each keeps its own panic
//! machinery, allocator and memory functions.

use std::panic::catch_unwind;

unsafe extern "C" {
    fn rt_alloc_exec_memory(size: i64) -> i64;
    fn rt_write_exec_bytes(address: i64, src: *const u8, length: i64, offset: i64) -> i64;
    fn rt_flush_icache(address: i64, size: i64);
    fn rt_call_function_0(function: i64) -> i64;
    fn rt_free_exec_memory(address: i64, size: i64) -> bool;
}

/// A function that returns 42.
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 8] = [0x48, 0xc7, 0xc0, 0x2a, 0, 0, 0, 0xc3];
#[cfg(target_arch = "aarch64")]
const CODE: [u8; 8] = [0x40, 0x05, 0x80, 0xd2, 0xc0, 0x03, 0x5f, 0xd6];
#[cfg(target_arch = "riscv64")]
const CODE: [u8; 8] = [0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0, 0];

fn call_code() -> i64 {
    let length = CODE.len() as i64;
    // SAFETY: the code is a whole function of this processor, and is called while it is allocated.
    unsafe {
        let address = rt_alloc_exec_memory(length);
        assert_eq!(rt_write_exec_bytes(address, CODE.as_ptr(), length, 0), length);
        rt_flush_icache(address, length);
        let result = rt_call_function_0(address);
        assert!(rt_free_exec_memory(address, length));
        result
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let caught = catch_unwind(|| assert_eq!(call_code(), 43, "this panic is meant to happen"));
    assert!(caught.is_err(), "the program's own panics unwind as ever");
    let results = std::thread::spawn(|| vec![call_code(); 3]).join();
    assert_eq!(results.ok(), Some(vec![42; 3]));
}
