//! The `rt_*` symbols over the machine's runtime.

use crate::platform::RUNTIME;
use core::ffi::{c_char, c_void};
use execmem_core::abi::*;

execmem_core::export_symbols!(RUNTIME, if feature = "symbols");
