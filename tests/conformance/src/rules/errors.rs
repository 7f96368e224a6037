//! Why a call failed (contract, section 1.3), and the worst of arguments (1.2).

use crate::memory::*;
use crate::snapshot::Snapshot;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use core::ffi::CStr;
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("every error code has a sentence of its own, always the same", messages),
    Rule::new("an unknown code has a sentence too", unknown_codes),
    Rule::new("a call that succeeds leaves the last error alone", successes),
    Rule::new("no function does harm with the largest, smallest and oddest numbers in every place", extremes),
];

fn message(code: i32) -> &'static CStr {
    // SAFETY: the contract says that it is a static C string.
    unsafe { CStr::from_ptr(rt_error_message(code)) }
}

fn messages(_: &World) -> Verdict {
    for code in RT_ERROR_NONE..=RT_ERROR_UNKNOWN_POLICY {
        check!(!message(code).is_empty());
        check_eq!(rt_error_message(code), rt_error_message(code));
        for other in RT_ERROR_NONE..code {
            check!(message(code) != message(other));
        }
    }
    Ok(())
}

fn unknown_codes(_: &World) -> Verdict {
    for code in [-1, RT_ERROR_UNKNOWN_POLICY + 1, 1000, i32::MIN, i32::MAX] {
        check!(!message(code).is_empty());
    }
    Ok(())
}

fn successes(world: &World) -> Verdict {
    protection_can_change()?;
    check_fails!(call(0, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
    let still = || -> Verdict {
        check_eq!(rt_last_error(), RT_ERROR_NOT_EXECUTABLE);
        Ok(())
    };
    let code = crate::code::returning(1);
    let size = code.len() as i64;
    let (address, data) = (alloc_exec(size)?, alloc_rw(8)?);
    check_eq!(write_bytes(address, &code, 0), size);
    still()?;
    check!(rt_make_writable(data, 8) && rt_make_executable(data, 8) && rt_set_protection(data, 8, RW));
    rt_flush_icache(address, size);
    check_eq!(call(address, &[]), 1);
    still()?;
    let mapping = map_anonymous(8, RW)?;
    check!(is_value(rt_mmap_read_bytes(mapping, 0, 2), b"\0\0"));
    check!(is_value(rt_mmap_read_string(mapping, 0, 0), b""));
    check!(rt_madvise(mapping, 8, RT_ADVICE_NORMAL) && rt_mlock(mapping, 8) && rt_munlock(mapping, 8));
    still()?;
    check_eq!(rt_is_executable(world.foreign_code as usize as i64), world.tells_foreign);
    check!(!rt_is_executable(world.foreign_data) && look_up(Some(c"rt_munmap")) > 0);
    check_eq!(rt_get_protection(world.foreign_data), if world.tells_foreign { RW } else { -1 });
    check!(statistics()?.regions >= 2 && rt_exec_memory_count() >= 2 && rt_exec_memory_total() >= 16);
    still()?;
    let near = rt_alloc_exec_memory_near(8, address, 1 << 30);
    check!(near > 0 && rt_free_exec_memory(near, 8));
    unmap(mapping, 8)?;
    free(address, size)?;
    free(data, 8)?;
    still()
}

const ODD: [i64; 14] = [
    i64::MIN,
    i64::MIN + 1,
    -(1 << 32),
    -4096,
    -1,
    0,
    1,
    4095,
    1 << 31,
    1 << 32,
    1 << 47,
    1 << 48,
    i64::MAX - 4095,
    i64::MAX,
];

/// Functions of numbers that must fail whatever of [`ODD`] they are given, by name; then how many of their
/// arguments decide about that.
const FRAGILE: [(&CStr, usize); 26] = [
    (c"rt_munmap", 2),
    (c"rt_mapping_size", 1),
    (c"rt_msync", 3),
    (c"rt_mlock", 2),
    (c"rt_munlock", 2),
    (c"rt_madvise", 3),
    (c"rt_free_exec_memory", 2),
    (c"rt_seal", 2),
    (c"rt_write_exec_memory", 3),
    (c"rt_make_executable", 2),
    (c"rt_make_writable", 2),
    (c"rt_flush_icache", 2),
    (c"rt_set_protection", 3),
    (c"rt_call_function_0", 1),
    (c"rt_call_function_1", 1),
    (c"rt_call_function_2", 1),
    (c"rt_call_function_3", 1),
    (c"rt_call_function_4", 1),
    (c"rt_call_function_5", 1),
    (c"rt_call_function_6", 1),
    (c"rt_is_executable", 1),
    (c"rt_get_protection", 1),
    (c"rt_value_data", 1),
    (c"rt_value_len", 1),
    (c"rt_value_free", 1),
    (c"rt_mmap_read_bytes", 3),
];

/// The registers that say that a call failed.
const SENTINELS: [i64; 2] = [0, -1];

fn extremes(_: &World) -> Verdict {
    let size = 2 * page();
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    let watched = [(code, size), (data, size)];
    let before = Snapshot::of(&watched)?;
    for (name, arity) in FRAGILE {
        for first in ODD {
            for second in if arity > 1 { &ODD[..] } else { &ODD[..1] } {
                for third in if arity > 2 { &ODD[..] } else { &ODD[..1] } {
                    let result = call_by_name(name, [first, *second, *third, 0, 0, 0]);
                    if name == c"rt_mmap_read_bytes" {
                        check!(is_value(result as RtValue, b""));
                    } else {
                        check!(SENTINELS.contains(&result));
                    }
                }
            }
        }
    }
    // The same numbers as sizes and offsets, with an address that is right.
    for address in [code, data, code + page(), data + size - 1] {
        for first in ODD.into_iter().filter(|size| !(1..=4095).contains(size)) {
            check!(!rt_munmap(address, first) && !rt_free_exec_memory(address, first));
            // An empty range is no mistake in an operation on pages.
            let answers = [
                rt_make_executable(address, first),
                rt_make_writable(address, first),
                rt_mlock(address, first),
                rt_set_protection(address, first, RW),
                rt_madvise(address, first, 0),
            ];
            check_eq!(answers, [first == 0; 5]);
            check_eq!(write_bytes(address, b"xx", if first == 0 { -1 } else { first }), -1);
            check!(is_value(rt_mmap_read_bytes(address, first, first), b"") && first != size);
        }
    }
    before.expect_unchanged(&watched, "numbers that no range has")?;
    free(code, size)?;
    free(data, size)
}
