//! A runtime in Rust that has an `rt_code_alloc` and an `rt_mmap_file` of its own, and uses execmem as a Rust crate.
//!
//! It links only if the crate defines no such names, and succeeds only if both are what they say.

use execmem::{Function, runtime};

#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6]; // mov w0, #42; ret
#[cfg(target_arch = "riscv64")]
const CODE: &[u8] = &[0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0x00, 0x00]; // li a0, 42; ret

/// A pair of values, say.
#[unsafe(no_mangle)]
extern "C" fn rt_code_alloc(a: i64, b: i64) -> i64 {
    a * 10 + b
}

/// What another library knows it by.
#[unsafe(no_mangle)]
extern "C" fn rt_mmap_file() -> i64 {
    7
}

mod by_name {
    unsafe extern "C" {
        pub safe fn rt_code_alloc(a: i64, b: i64) -> i64;
        pub safe fn rt_mmap_file() -> i64;
    }
}

fn main() -> Result<(), execmem::Error> {
    let function = Function::<unsafe extern "C" fn() -> i32>::new(CODE)?;
    // SAFETY: CODE is such a function.
    let answer = unsafe { function.call() };
    assert!(runtime().find_block(function.address() as i64).is_some());
    // SAFETY: the name is a C string.
    let ours = unsafe { execmem::os::rt_symbol_lookup(c"rt_code_alloc".as_ptr()) };
    assert_ne!(ours as usize, by_name::rt_code_alloc as *const () as usize);
    println!("{answer} {} {}", by_name::rt_code_alloc(1, 2), by_name::rt_mmap_file());
    Ok(())
}
