//! Interpreters call every function as one of 64-bit integers (contract, section 1.1). What stands above a
//! narrow argument must not matter, and a narrow result must fill the whole register.

use crate::code::returning;
use crate::memory::*;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq};
use crate::{Rule, World};
use core::ffi::CStr;
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("bits above an int32 argument are ignored", wide_int32),
    Rule::new("bits above a bool argument are ignored", wide_bool),
    Rule::new("a bool result fills the register with 0 or 1", bool_results),
    Rule::new("an int32 result is sign-extended to the register", int32_results),
    Rule::new("rt_mmap_file gives its address in the first register", mapping_result),
    Rule::new("rt_flush_icache leaves 0 or -1 in the register", flush_result),
];

/// Patterns for the upper half of a register: none, all ones, and others that change the sign.
const UPPER: [i64; 5] = [0, -1, 1, 0x7fff_ffff, -0x1234_5678];

fn with_upper(upper: i64, low: i32) -> i64 {
    upper << 32 | low as u32 as i64
}

fn interpreted(name: &CStr, arguments: &[i64]) -> i64 {
    let mut all = [0x5eed_5eed_5eed_5eed; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    call_by_name(name, all)
}

fn wide_int32(world: &World) -> Verdict {
    let size = page();
    let address = alloc_rw(size)?;
    for upper in UPPER {
        let wide = |low| with_upper(upper, low);
        check_eq!(interpreted(c"rt_set_protection", &[address, size, wide(RT_PROT_READ)]), 1);
        check_eq!(rt_get_protection(address), RT_PROT_READ);
        check_eq!(interpreted(c"rt_set_protection", &[address, size, wide(RW)]), 1);
        check_eq!(interpreted(c"rt_set_protection", &[address, size, wide(8)]), 0);
        check_eq!(interpreted(c"rt_madvise", &[address, size, wide(RT_ADVICE_NORMAL)]), 1);
        check_eq!(interpreted(c"rt_madvise", &[address, size, wide(99)]), 0);
        let policy = rt_exec_memory_policy();
        check_eq!(interpreted(c"rt_exec_memory_set_policy", &[wide(policy)]), 1);
        check_eq!(interpreted(c"rt_exec_memory_set_policy", &[wide(99)]), 0);
        let message = interpreted(c"rt_error_message", &[wide(RT_ERROR_NOT_OWNED)]);
        check_eq!(message, rt_error_message(RT_ERROR_NOT_OWNED).addr() as i64);

        let flags = wide(RT_MAP_PRIVATE | RT_MAP_ANONYMOUS);
        let mapping = interpreted(c"rt_mmap_file", &[0, wide(RW), flags, 0, size]);
        check!(mapping > 0);
        check_eq!(rt_get_protection(mapping), RW);
        unmap(mapping, size)?;
        if let Ok(file) = world.file {
            let path = file(b"words").as_ptr().addr() as i64;
            let mapping = interpreted(c"rt_mmap_file", &[path, wide(1), wide(RT_MAP_PRIVATE), 0, 0]);
            check!(holds(mapping, b"words"));
            unmap(mapping, 5)?;
        }
    }
    free(address, size)
}

/// Whether the sync was asynchronous can't be seen from here: the harness on Linux looks at the system call.
fn wide_bool(_: &World) -> Verdict {
    let address = map_anonymous(page(), RW)?;
    for upper in [0, -1, 1, 0x0012_3456_789a_bcde] {
        for low in [0, 1] {
            check_eq!(interpreted(c"rt_msync", &[address, 1, upper << 8 | low]), 1);
            check_eq!(interpreted(c"rt_msync", &[address, -1, upper << 8 | low]), 0);
        }
    }
    unmap(address, page())
}

fn bool_results(_: &World) -> Verdict {
    protection_can_change()?;
    let code = returning(42);
    let size = code.len() as i64;
    let (address, mapping) = (alloc_rw(size)?, map_anonymous(8, RW)?);
    let value = value_of(b"bytes") as i64;
    let mut result = 0i64;
    store(address, &code);
    check_eq!(interpreted(c"rt_is_executable", &[address]), 0);
    for (name, arguments) in [
        (c"rt_make_writable", [address, size]),
        (c"rt_make_executable", [address, size]),
        (c"rt_mlock", [address, size]),
        (c"rt_munlock", [address, size]),
        (c"rt_exec_memory_set_limit", [1 << 39, 0]),
    ] {
        check_eq!(interpreted(name, &arguments), 1);
        check_eq!(interpreted(name, &[0, 0]), 0);
    }
    check_eq!(interpreted(c"rt_is_executable", &[address]), 1);
    let target = (&raw mut result).expose_provenance() as i64;
    check_eq!(interpreted(c"rt_try_call", &[address, 0, 0, target]), 1);
    check_eq!(core::hint::black_box(result), 42);
    check_eq!(interpreted(c"rt_try_call", &[0, 0, 0, target]), 0);
    check_eq!(interpreted(c"rt_set_value_ops", &[0]), 0);
    let mut statistics = EMPTY_STATISTICS;
    check_eq!(interpreted(c"rt_exec_memory_stats", &[(&raw mut statistics).expose_provenance() as i64]), 1);
    check_eq!(interpreted(c"rt_exec_memory_stats", &[0]), 0);
    for expected in [1, 0] {
        check_eq!(interpreted(c"rt_value_free", &[value]), expected);
        check_eq!(interpreted(c"rt_munmap", &[mapping, 8]), expected);
        check_eq!(interpreted(c"rt_free_exec_memory", &[address, size]), expected);
    }
    Ok(())
}

fn int32_results(_: &World) -> Verdict {
    let address = alloc_rw(1)?;
    check_eq!(interpreted(c"rt_abi_version", &[]), 1);
    check_eq!(interpreted(c"rt_get_protection", &[address]), RW as i64);
    check_eq!(interpreted(c"rt_get_protection", &[0]), -1);
    check_eq!(interpreted(c"rt_munmap", &[0, 1]), 0);
    check_eq!(interpreted(c"rt_last_error", &[]), RT_ERROR_INVALID_ARGUMENT as i64);
    check_eq!(interpreted(c"rt_exec_memory_policy", &[]), rt_exec_memory_policy() as i64);
    free(address, 1)
}

fn mapping_result(_: &World) -> Verdict {
    let flags = (RT_MAP_PRIVATE | RT_MAP_ANONYMOUS) as i64;
    let address = interpreted(c"rt_mmap_file", &[0, RW as i64, flags, 0, 100]);
    check!(address > 0 && is_zeroed(address, 100));
    check_eq!(interpreted(c"rt_munmap", &[address, 100]), 1);
    check_eq!(interpreted(c"rt_mmap_file", &[0, RW as i64, 0, 0, 100]), 0);
    Ok(())
}

fn flush_result(_: &World) -> Verdict {
    let address = alloc_exec(8)?;
    check_eq!(interpreted(c"rt_flush_icache", &[address, 8]), 0);
    check_eq!(interpreted(c"rt_flush_icache", &[address, -1]), -1);
    check_eq!(interpreted(c"rt_flush_icache", &[0, 8]), -1);
    free(address, 8)
}
