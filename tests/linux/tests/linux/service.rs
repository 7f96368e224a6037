//! That code memory serves: what is written and published there runs.

use execmem_conformance::code::returning;
use execmem_conformance::symbols::*;

/// A region is allocated, run and freed.
pub fn expect_service() {
    let address = rt_alloc_exec_memory(4096);
    assert!(address > 0, "error {}", rt_last_error());
    assert_eq!(write_bytes(address, &returning(42), 0), returning(42).len() as i64);
    rt_flush_icache(address, 4096);
    assert_eq!(call(address, &[]), 42);
    assert!(rt_free_exec_memory(address, 4096));
}

/// A block is allocated, run and freed.
pub fn expect_heap_service() {
    let block = rt_code_alloc(100);
    expect_function(block, 43);
    assert!(rt_code_free(block));
}

/// A block that was allocated runs.
pub fn expect_function(block: i64, value: u8) {
    assert!(block > 0, "error {}", rt_last_error());
    rewrite(block, value);
    assert_eq!(call(block, &[]), value.into());
}

/// Writes and publishes a function in a block.
pub fn rewrite(block: i64, value: u8) {
    let code = returning(value);
    assert_eq!(write_block(block, &code, 0), code.len() as i64, "error {}", rt_last_error());
    assert!(rt_code_publish(block, code.len() as i64));
}
