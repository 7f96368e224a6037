//! Calling code by its address.

use crate::code::{argument, returning};
use crate::memory::*;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::world::FOREIGN_RESULT;
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("the plan's own test: mov rax, 42; ret is written, made executable, called and freed", plan),
    Rule::new("every argument of rt_call_function_0 to _6 arrives whole, in its place", arguments),
    Rule::new("a function that the library did not map can be called", foreign_function),
    Rule::new("no call jumps to an address that is not executable", not_executable),
    Rule::new(
        "a call to half an instruction's address is refused where instructions are aligned",
        misaligned,
    ),
    Rule::new("rt_call_function passes on a result of -1 without noting an error", minus_one),
    Rule::new(
        "rt_try_call passes up to six arguments and tells success from a result of -1",
        try_call_result,
    ),
    Rule::new("rt_try_call refuses a wrong count or missing arguments and stores nothing", try_call_refusals),
    Rule::new(
        "rt_get_function_pointer gives the address itself, or 0 if it isn't positive",
        function_pointer,
    ),
];

/// Patterns that a lost or extended half of a register would change.
const NUMBERS: [i64; 6] =
    [i64::MIN, i64::MAX, -1, 0x0123_4567_89ab_cdef, -0x7654_3210_0000_0001, 0x8000_0000];

fn plan(_: &World) -> Verdict {
    let code = returning(42);
    let size = code.len() as i64;
    let address = alloc_exec(size)?;
    check_eq!(write_bytes(address, &code, 0), size);
    check!(rt_make_executable(address, size));
    check_eq!(call(rt_get_function_pointer(address), &[]), 42);
    free(address, size)
}

fn arguments(_: &World) -> Verdict {
    for count in 1..=NUMBERS.len() {
        for (index, expected) in NUMBERS[..count].iter().enumerate() {
            let code = argument(index);
            let address = executable(&code)?;
            check_eq!(call(address, &NUMBERS[..count]), *expected);
            free(address, code.len() as i64)?;
        }
    }
    let code = returning(7);
    let address = executable(&code)?;
    check_eq!(call(address, &[]), 7);
    free(address, code.len() as i64)
}

fn foreign_function(world: &World) -> Verdict {
    let address = world.foreign_code as usize as i64;
    if !world.tells_foreign {
        check_fails!(call(address, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
        check_fails!(try_call(address, None, 0, None), false, RT_ERROR_NOT_EXECUTABLE);
        return Ok(());
    }
    check_eq!(call(address, &[]), FOREIGN_RESULT);
    let mut result = 0;
    check!(try_call(address, None, 0, Some(&mut result)));
    check_eq!(result, FOREIGN_RESULT);
    Ok(())
}

fn not_executable(world: &World) -> Verdict {
    protection_can_change()?;
    let code = returning(42);
    let size = code.len() as i64;
    let freed = executable(&code)?;
    let writable = alloc_rw(size)?;
    let closed = alloc_exec(size)?;
    store(writable, &code);
    free(freed, size)?;
    check!(rt_set_protection(closed, size, RT_PROT_NONE));
    let mut bad =
        [0, -1, i64::MIN, i64::MAX, 1, freed, writable, closed, world.unmapped, world.foreign_data, 0];
    bad[10] = -writable;
    for address in bad {
        for count in 0..=6 {
            check_fails!(call(address, &NUMBERS[..count]), -1, RT_ERROR_NOT_EXECUTABLE);
        }
        let mut result = 5;
        check_fails!(try_call(address, Some(&NUMBERS), 6, Some(&mut result)), false, RT_ERROR_NOT_EXECUTABLE);
        check_eq!(result, 5);
    }
    free(writable, size)?;
    free(closed, size)
}

fn misaligned(_: &World) -> Verdict {
    if cfg!(target_arch = "x86_64") {
        return Err("instructions start at any address on x86-64".into());
    }
    let address = executable(&returning(42))?;
    check_fails!(call(address + 1, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
    check_fails!(call(address + 3, &[1]), -1, RT_ERROR_NOT_EXECUTABLE);
    free(address, returning(42).len() as i64)
}

fn minus_one(_: &World) -> Verdict {
    let code = argument(0);
    let address = executable(&code)?;
    check_fails!(call(0, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
    check_eq!(rt_get_function_pointer(0), 0);
    check_eq!(call(address, &[-1]), -1);
    check_eq!(rt_last_error(), RT_ERROR_INVALID_ARGUMENT);
    free(address, code.len() as i64)
}

fn try_call_result(_: &World) -> Verdict {
    for count in 1..=NUMBERS.len() {
        for (index, expected) in NUMBERS[..count].iter().enumerate() {
            let code = argument(index);
            let address = executable(&code)?;
            let mut result = 0;
            check!(try_call(address, Some(&NUMBERS), count as i64, Some(&mut result)));
            check_eq!(result, *expected);
            check!(try_call(address, Some(&NUMBERS), count as i64, None));
            free(address, code.len() as i64)?;
        }
    }
    let code = returning(9);
    let address = executable(&code)?;
    let mut result = 0;
    check!(try_call(address, None, 0, Some(&mut result)));
    check_eq!(result, 9);
    free(address, code.len() as i64)
}

fn try_call_refusals(_: &World) -> Verdict {
    let code = returning(9);
    let address = executable(&code)?;
    let mut result = 5;
    for count in [-1, 7, i64::MIN, i64::MAX] {
        check_fails!(
            try_call(address, Some(&NUMBERS), count, Some(&mut result)),
            false,
            RT_ERROR_INVALID_ARGUMENT
        );
    }
    for count in [1, 6] {
        check_fails!(try_call(address, None, count, Some(&mut result)), false, RT_ERROR_INVALID_ARGUMENT);
    }
    check_eq!(result, 5);
    free(address, code.len() as i64)
}

fn function_pointer(_: &World) -> Verdict {
    for address in [1, 0x1000, i64::MAX] {
        check_eq!(rt_get_function_pointer(address), address);
    }
    for address in [0, -1, i64::MIN] {
        check_fails!(rt_get_function_pointer(address), 0, RT_ERROR_INVALID_ARGUMENT);
    }
    Ok(())
}
