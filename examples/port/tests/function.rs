//! A function in code memory of the worked platform, from allocation to its call, by the C symbols.
#![cfg(target_os = "linux")]

use execmem_conformance::symbols::*;
use execmem_core::abi::RT_POLICY_TOGGLE;

/// Links the platform whose symbols are called.
use execmem_example_port as _;

#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6]; // mov w0, #42; ret

#[cfg(target_arch = "riscv64")]
const CODE: &[u8] = &[0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0, 0]; // li a0, 42; ret

#[test]
fn a_function_is_written_and_called_under_the_policy_that_comes_out() {
    let size = CODE.len() as i64;
    let address = rt_alloc_exec_memory(size);
    assert!(address > 0, "error {}", rt_last_error());
    rt_exec_memory_dump_stats(); // Says on stderr that it is `toggle`, and what was not granted.
    assert_eq!(rt_exec_memory_policy(), RT_POLICY_TOGGLE);
    assert_eq!(write_bytes(address, CODE, 0), size);
    rt_flush_icache(address, size);
    assert_eq!(call(address, &[]), 42);
    assert!(rt_free_exec_memory(address, size));
}
