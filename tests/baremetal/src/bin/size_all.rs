//! What the library costs a kernel that uses all of it.
#![no_std]
#![no_main]

#[path = "../size/mod.rs"]
mod size;

use execmem_core::abi::Symbol;

/// Every symbol, the code heap's too.
#[used]
static ALL: &&[Symbol] = &execmem_os_baremetal::SYMBOLS;
