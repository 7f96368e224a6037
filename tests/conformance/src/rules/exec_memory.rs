//! Allocating and freeing code memory.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails, check_looks_up};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("code memory is zeroed, page-aligned, rounded up to pages and executable", fresh_code),
    Rule::new(
        "read-write memory is zeroed, page-aligned, rounded up to pages and not executable",
        fresh_data,
    ),
    Rule::new("allocations of no bytes, of less, and beyond all memory fail at once", bad_sizes),
    Rule::new("a single allocation above the limit fails, at the limit it does not", limit),
    Rule::new("memory is freed by the size that was requested, or that rounded up to pages", free_sizes),
    Rule::new("a wrong size, an inner, foreign, mapped or freed address frees nothing", wrong_frees),
    Rule::new("nothing is sealed by a wrong size or address, nor what is writable", wrong_seals),
    Rule::new("freed memory is gone: no protection, no code, no write, no call", freed_memory),
    Rule::new("total and count are exact after each allocation, free and failure", totals),
    Rule::new("two thousand regions live side by side, each with its own bytes and protection", many_regions),
    Rule::new("the dump can be printed at any time and changes nothing", dump),
];

fn sizes() -> [i64; 6] {
    [1, 8, page() - 1, page(), page() + 1, 3 * page() + 17]
}

fn fresh_code(_: &World) -> Verdict {
    for size in sizes() {
        let address = alloc_exec(size)?;
        let pages = (size + page() - 1) / page();
        check_eq!(address % page(), 0);
        check!(is_zeroed(address, pages * page()));
        expect_protections(address, &[code_protection(); 4][..pages as usize])?;
        check!(rt_is_executable(address) && rt_is_executable(address + pages * page() - 1));
        free(address, size)?;
    }
    Ok(())
}

fn fresh_data(_: &World) -> Verdict {
    for size in sizes() {
        let address = alloc_rw(size)?;
        let pages = (size + page() - 1) / page();
        check_eq!(address % page(), 0);
        check!(is_zeroed(address, pages * page()));
        expect_protections(address, &[RW; 4][..pages as usize])?;
        check!(!rt_is_executable(address));
        store(address + size - 1, &[0xa5]);
        check_eq!(byte(address + size - 1), 0xa5);
        free(address, size)?;
    }
    Ok(())
}

fn bad_sizes(_: &World) -> Verdict {
    let watched = [(alloc_exec(1)?, 1)];
    for allocate in [rt_alloc_exec_memory, rt_alloc_rw_memory] {
        for size in [0, -1, i64::MIN, -page()] {
            check_harmless!(&watched, allocate(size), 0, RT_ERROR_INVALID_ARGUMENT);
        }
        for size in [1 << 40, i64::MAX, i64::MAX - page(), i64::MAX / 2] {
            check_harmless!(&watched, allocate(size), 0, RT_ERROR_OVER_LIMIT);
        }
    }
    free(watched[0].0, 1)
}

fn limit(_: &World) -> Verdict {
    let size = 3 * page();
    for bad in [0, -1, i64::MIN] {
        check_fails!(rt_exec_memory_set_limit(bad), false, RT_ERROR_INVALID_ARGUMENT);
    }
    check!(rt_exec_memory_set_limit(size));
    for allocate in [rt_alloc_exec_memory, rt_alloc_rw_memory] {
        let address = given(allocate(size))?;
        check_fails!(allocate(size + 1), 0, RT_ERROR_OVER_LIMIT);
        check_fails!(rt_alloc_exec_memory_near(size + 1, address, 1 << 30), 0, RT_ERROR_OVER_LIMIT);
        // The limit is for each allocation, not for all together.
        let second = allocate(size);
        check!(second > 0);
        free(second, size)?;
        free(address, size)?;
    }
    // There is no way back to the default; what follows in the same process gets plenty.
    check!(rt_exec_memory_set_limit(1 << 39));
    let address = alloc_exec(size + 1)?;
    free(address, size + 1)
}

fn free_sizes(_: &World) -> Verdict {
    for size in sizes() {
        let rounded = (size + page() - 1) / page() * page();
        for given in [size, rounded] {
            let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
            free(code, given)?;
            free(data, given)?;
        }
    }
    Ok(())
}

fn wrong_seals(_: &World) -> Verdict {
    let size = page() + 100;
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    let mapping = map_anonymous(size, RW)?;
    let watched = [(code, size), (data, size), (mapping, size)];
    check_harmless!(&watched, rt_seal(data, size), false, RT_ERROR_WRONG_PROTECTION);
    check_harmless!(&watched, rt_seal(mapping, size), false, RT_ERROR_NOT_OWNED);
    for address in [code, data] {
        check_harmless!(&watched, rt_seal(address, size - 1), false, RT_ERROR_WRONG_SIZE);
        check_harmless!(&watched, rt_seal(address, 0), false, RT_ERROR_INVALID_ARGUMENT);
        check_harmless!(&watched, rt_seal(address + page(), 100), false, RT_ERROR_NOT_OWNED);
    }
    free(code, size)?;
    check_fails!(rt_seal(code, size), false, RT_ERROR_NOT_OWNED);
    free(data, size)?;
    unmap(mapping, size)
}

fn wrong_frees(world: &World) -> Verdict {
    let size = page() + 100;
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    let mapping = map_anonymous(size, RW)?;
    let watched = [(code, size), (data, size), (mapping, size)];
    for address in [code, data] {
        for wrong in
            [1, 100, page(), size - 1, size + 1, 2 * page() - 1, 2 * page() + 1, 3 * page(), i64::MAX / 4]
        {
            check_harmless!(&watched, rt_free_exec_memory(address, wrong), false, RT_ERROR_WRONG_SIZE);
        }
        for bad in [0, -1, -size, i64::MIN, i64::MAX] {
            check_harmless!(&watched, rt_free_exec_memory(address, bad), false, RT_ERROR_INVALID_ARGUMENT);
        }
        for inner in [1, 16, page(), size - 1] {
            check_harmless!(&watched, rt_free_exec_memory(address + inner, size), false, RT_ERROR_NOT_OWNED);
            check_harmless!(
                &watched,
                rt_free_exec_memory(address + inner, size - inner),
                false,
                RT_ERROR_NOT_OWNED
            );
        }
        check_harmless!(&watched, rt_munmap(address, size), false, RT_ERROR_NOT_OWNED);
    }
    let foreign_code = world.foreign_code as usize as i64;
    for foreign in [mapping, world.foreign_data, foreign_code / page() * page(), world.unmapped, 1] {
        check_harmless!(&watched, rt_free_exec_memory(foreign, size), false, RT_ERROR_NOT_OWNED);
    }
    for bad in [0, -1, -code, i64::MIN, i64::MAX] {
        check_harmless!(&watched, rt_free_exec_memory(bad, size), false, RT_ERROR_INVALID_ARGUMENT);
    }
    free(code, size)?;
    check_harmless!(&watched[1..], rt_free_exec_memory(code, size), false, RT_ERROR_NOT_OWNED);
    free(data, size)?;
    unmap(mapping, size)?;
    check_fails!(rt_free_exec_memory(data, size), false, RT_ERROR_NOT_OWNED);
    check_fails!(rt_free_exec_memory(mapping, size), false, RT_ERROR_NOT_OWNED);
    Ok(())
}

fn freed_memory(_: &World) -> Verdict {
    let code = returning(42);
    for address in [executable(&code)?, alloc_rw(code.len() as i64)?] {
        free(address, code.len() as i64)?;
        check!(!rt_is_executable(address));
        check_looks_up!(rt_get_protection(address), -1);
        check_fails!(write_bytes(address, &code, 0), -1, RT_ERROR_NOT_OWNED);
        check_fails!(read_into(address, 0, &mut [0; 8]), -1, RT_ERROR_NOT_OWNED);
        check_fails!(call(address, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
        check_fails!(rt_make_executable(address, 1), false, RT_ERROR_NOT_OWNED);
        check_fails!(rt_set_protection(address, 1, RT_PROT_READ), false, RT_ERROR_NOT_OWNED);
    }
    Ok(())
}

fn totals(_: &World) -> Verdict {
    protection_can_change()?;
    let (count, total) = (rt_exec_memory_count(), rt_exec_memory_total());
    let expect = |more: i64, bytes: i64| -> Verdict {
        check_eq!(rt_exec_memory_count(), count + more);
        check_eq!(rt_exec_memory_total(), total + bytes);
        Ok(())
    };
    let code = alloc_exec(100)?;
    expect(1, 100)?;
    let data = alloc_rw(5000)?;
    expect(2, 5100)?;
    let mapping = map_anonymous(7, RW)?;
    expect(2, 5100)?;
    let near = rt_alloc_exec_memory_near(3, code, 1 << 30);
    expect(3, 5103)?;
    check!(rt_make_executable(data, 5000));
    check!(!rt_free_exec_memory(code, 99));
    check_eq!(rt_alloc_exec_memory(-1), 0);
    expect(3, 5103)?;
    free(code, page())?;
    expect(2, 5003)?;
    check!(!rt_free_exec_memory(code, 100));
    expect(2, 5003)?;
    free(data, 5000)?;
    free(near, 3)?;
    expect(0, 0)?;
    unmap(mapping, 7)?;
    expect(0, 0)
}

fn many_regions(_: &World) -> Verdict {
    const COUNT: usize = 2000;
    let before = (rt_exec_memory_count(), rt_exec_memory_total());
    let mut all = [0i64; COUNT];
    for (index, slot) in all.iter_mut().enumerate() {
        // Sizes of one and two pages, so that regions don't all look alike.
        let size = 1 + page() * (index % 2) as i64;
        *slot = if index % 3 == 0 { alloc_rw(size)? } else { alloc_exec(size)? };
        check_eq!(write_bytes(*slot, &[index as u8], 0), 1);
    }
    let size = |index: usize| 1 + page() * (index % 2) as i64;
    for round in 0..2 {
        for (index, address) in all.iter().enumerate().filter(|(index, _)| index % 2 >= round) {
            check_eq!(byte(*address), index as u8);
            check_eq!(rt_get_protection(*address), if index % 3 == 0 { RW } else { code_protection() });
            check_eq!(rt_is_executable(*address), index % 3 != 0);
        }
        for (index, address) in all.iter().enumerate().filter(|(index, _)| index % 2 == round) {
            free(*address, size(index))?;
        }
    }
    check_eq!((rt_exec_memory_count(), rt_exec_memory_total()), before);
    Ok(())
}

fn dump(_: &World) -> Verdict {
    rt_exec_memory_dump_stats();
    let watched = [(alloc_exec(100)?, 100), (alloc_rw(2 * page())?, 2 * page())];
    let before = crate::snapshot::Snapshot::of(&watched)?;
    rt_exec_memory_dump_stats();
    before.expect_unchanged(&watched, "the dump changes nothing")?;
    for (address, size) in watched {
        free(address, size)?;
    }
    Ok(())
}
