//! Debuggers, profilers and unwinders. What they see is tested where there are some.

use crate::code::{returning, unwind_records};
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use core::ffi::CStr;
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("code inside one live block or region can be named, and nothing else", names),
    Rule::new("code that was named can be named again, shrunk and freed", named_code_goes),
    Rule::new("records of unwinding are whole, and of live code, or refused", records),
    Rule::new("code goes with its records, which may lie behind it", records_go),
];

const NAME: Option<&CStr> = Some(c"a name");

/// A system may have nobody who listens.
fn done_or_unsupported(is_done: bool) -> Verdict {
    check!(is_done || rt_last_error() == RT_ERROR_UNSUPPORTED);
    Ok(())
}

fn names(world: &World) -> Verdict {
    let (block, neighbour) = (given(rt_code_alloc(64))?, given(rt_code_alloc(64))?);
    let region = given(rt_alloc_exec_memory(100))?;
    let watched = [(block, 64), (region, 100)];
    for (start, size) in watched {
        done_or_unsupported(set_name(start, size, NAME))?;
        done_or_unsupported(set_name(start + size - 1, 1, NAME))?;
        for (address, length) in [(start, size + 1), (start + 1, size)] {
            check_harmless!(&watched, set_name(address, length, NAME), false, RT_ERROR_NOT_OWNED);
        }
        for length in [0, -1, i64::MIN, i64::MAX] {
            check_harmless!(&watched, set_name(start, length, NAME), false, RT_ERROR_INVALID_ARGUMENT);
        }
        check_fails!(set_name(start, size, None), false, RT_ERROR_INVALID_ARGUMENT);
        check_fails!(set_name(start, size, Some(c"")), false, RT_ERROR_INVALID_ARGUMENT);
    }
    check_fails!(set_name(0, 1, NAME), false, RT_ERROR_INVALID_ARGUMENT);
    check_fails!(set_name(world.foreign_data, 1, NAME), false, RT_ERROR_NOT_OWNED);
    check_fails!(set_name(world.unmapped, 1, NAME), false, RT_ERROR_NOT_OWNED);
    check!(rt_code_free(neighbour) && rt_code_free(block) && rt_free_exec_memory(region, 100));
    check_fails!(set_name(block, 64, NAME), false, RT_ERROR_NOT_OWNED);
    check_fails!(set_name(region, 100, NAME), false, RT_ERROR_NOT_OWNED);
    Ok(())
}

fn named_code_goes(_: &World) -> Verdict {
    let code = returning(6);
    for round in 0..3 {
        let block = given(rt_code_alloc(1000))?;
        check_eq!(write_block(block, &code, 0), code.len() as i64);
        for name in [c"first", c"second"] {
            done_or_unsupported(set_name(block, 1000, Some(name)))?;
        }
        done_or_unsupported(set_name(block + 100, 100, Some(c"in the middle")))?;
        check!(rt_code_publish(block, 1000) && (round == 0 || rt_code_shrink(block, 64)));
        check_eq!(call(block, &[]), 6);
        check!(rt_code_free(block));
        check_fails!(rt_code_free(block), false, RT_ERROR_NOT_OWNED);
    }
    Ok(())
}

fn records(_: &World) -> Verdict {
    let block = given(rt_code_alloc(64))?;
    let good = unwind_records(block, 64);
    // SAFETY: what is refused is not used.
    let set = |address, size, records: &[u32]| unsafe { set_unwind(address, size, records) };
    check_fails!(set(block, 65, &good), false, RT_ERROR_NOT_OWNED);
    check_fails!(set(block, 0, &good), false, RT_ERROR_INVALID_ARGUMENT);
    check_fails!(set(block, 64, &[]), false, RT_ERROR_INVALID_ARGUMENT);
    check_fails!(set(block, 64, &[0]), false, RT_ERROR_INVALID_ARGUMENT);
    // About more than the code, and about other code.
    check_fails!(set(block, 63, &good), false, RT_ERROR_INVALID_ARGUMENT);
    check_fails!(set(block, 64, &unwind_records(block + 1, 64)), false, RT_ERROR_INVALID_ARGUMENT);
    // Without an end; with one that comes too early.
    check_fails!(set(block, 64, &good[..11]), false, RT_ERROR_INVALID_ARGUMENT);
    for (index, word) in [(0, 0), (0, u32::MAX), (5, 24), (5, 7), (6, 28), (6, 4), (11, 8)] {
        let mut bad = good;
        bad[index] = word;
        check_fails!(set(block, 64, &bad), false, RT_ERROR_INVALID_ARGUMENT);
    }
    check!(rt_code_free(block));
    check_fails!(set(block, 64, &good), false, RT_ERROR_NOT_OWNED);
    Ok(())
}

fn records_go(_: &World) -> Verdict {
    let code = returning(7);
    for round in 0..3 {
        let block = given(rt_code_alloc(512))?;
        check_eq!(write_block(block, &code, 0), code.len() as i64);
        let records = unwind_records(block, 64);
        let mut bytes = [0; size_of::<[u32; 12]>()];
        for (place, word) in bytes.chunks_exact_mut(4).zip(records) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        check_eq!(write_block(block, &bytes, 256), bytes.len() as i64);
        check!(rt_code_publish(block, 512));
        for _ in 0..2 {
            let inside = core::ptr::with_exposed_provenance((block + 256) as usize);
            // SAFETY: the records were written there, and go with the block.
            let inside = unsafe { core::slice::from_raw_parts(inside, records.len()) };
            // SAFETY: they are true of a function that leaves the stack as it is.
            done_or_unsupported(unsafe { set_unwind(block, 512, inside) })?;
        }
        if round == 1 {
            done_or_unsupported(set_name(block, 64, NAME))?;
        }
        check_eq!(call(block, &[]), 7);
        check!(rt_code_free(block));
    }
    Ok(())
}
