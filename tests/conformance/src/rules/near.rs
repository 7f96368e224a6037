//! Placing code memory within reach of an address.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("every byte lies within the distance of the target, on either side", within),
    Rule::new("near memory is as good as any: zeroed, written, called, freed", usable),
    Rule::new("data near a target is zeroed, read and written, made read-only, and freed", near_data),
    Rule::new("where there is no room within the distance nothing is allocated", impossible),
    Rule::new("a neighbourhood that was filled up serves again when something in it is freed", filled_up),
    Rule::new("a bad size, target or distance allocates nothing", bad_arguments),
];

const MIB: i64 = 1 << 20;

fn is_within(address: i64, size: i64, target: i64, distance: i64) -> bool {
    target - distance <= address && address + size - 1 <= target + distance
}

fn within(world: &World) -> Verdict {
    let own = alloc_exec(1)?;
    let foreign = world.foreign_code as usize as i64;
    for target in [own, own + 1, own + page() - 1, foreign, world.foreign_data, world.unmapped] {
        // The reaches of direct branches: aarch64's b, x86-64's jmp and call, and no limit.
        for distance in [128 * MIB, 2048 * MIB - 1, i64::MAX] {
            for size in [1, 2 * page() + 1, 4 * MIB] {
                let address = rt_alloc_exec_memory_near(size, target, distance);
                check!(address > 0);
                check!(distance == i64::MAX || is_within(address, size, target, distance));
                free(address, size)?;
            }
        }
    }
    // The tightest: one page that begins exactly so far away as is allowed.
    let target = world.unmapped / page() * page();
    let address = rt_alloc_exec_memory_near(page(), target, page());
    check!(address > 0 && is_within(address, page(), target, page()));
    free(address, page())?;
    free(own, 1)
}

fn usable(_: &World) -> Verdict {
    let anchor = alloc_exec(1)?;
    let code = returning(42);
    let size = page() + 1;
    let address = rt_alloc_exec_memory_near(size, anchor, 64 * MIB);
    check_eq!(address % page(), 0);
    check!(is_zeroed(address, 2 * page()));
    expect_protections(address, &[code_protection(); 2])?;
    check_eq!(write_bytes(address, &code, 16), code.len() as i64);
    rt_flush_icache(address, size);
    check_eq!(call(address + 16, &[]), 42);
    free(address, size)?;
    free(anchor, 1)
}

fn impossible(world: &World) -> Verdict {
    let anchor = alloc_exec(4 * page())?;
    let watched = [(anchor, 4 * page())];
    let target = anchor + 2 * page();
    // The anchor itself takes all the room; a distance smaller than the memory; a target at the end of
    // what can be addressed, and one in the first page.
    for (size, target, distance) in [
        (1, target, 1),
        (1, target, page()),
        (page(), target, page()),
        (4 * page(), world.unmapped, page()),
        (page(), i64::MAX, page()),
        (page(), i64::MAX - page(), MIB),
        (1, 1, 1),
        (page(), 1, page()),
    ] {
        check_harmless!(&watched, rt_alloc_exec_memory_near(size, target, distance), 0, RT_ERROR_NO_MEMORY);
    }
    free(anchor, 4 * page())
}

fn near_data(world: &World) -> Verdict {
    let (size, target) = (page() + 100, world.unmapped);
    for distance in [128 * MIB, 2048 * MIB - 1] {
        let data = given(rt_alloc_rw_memory_near(size, target, distance))?;
        check!(data % page() == 0 && is_within(data, size, target, distance));
        check_eq!(rt_get_protection(data + size - 1), RW);
        let mut bytes = [1; 8];
        check_eq!(read_into(data, size - 8, &mut bytes), 8);
        check_eq!(bytes, [0; 8]);
        check_eq!(write_bytes(data, &[7; 8], size - 8), 8);
        check!(rt_set_protection(data, size, RT_PROT_READ));
        check_eq!(read_into(data, size - 8, &mut bytes), 8);
        check_eq!(bytes, [7; 8]);
        check_fails!(write_bytes(data, &[8], 0), -1, RT_ERROR_WRONG_PROTECTION);
        free(data, size)?;
    }
    check_fails!(rt_alloc_rw_memory_near(size, target, 1), 0, RT_ERROR_NO_MEMORY);
    check_fails!(rt_alloc_rw_memory_near(0, target, MIB), 0, RT_ERROR_INVALID_ARGUMENT);
    check_fails!(rt_alloc_rw_memory_near(1, 0, MIB), 0, RT_ERROR_INVALID_ARGUMENT);
    Ok(())
}

fn filled_up(world: &World) -> Verdict {
    const MOST: usize = 40;
    let (target, distance) = (world.unmapped, 8 * page());
    let mut all = [0i64; MOST];
    let mut count = 0;
    free(alloc_exec(1)?, 1)?;
    while count < MOST {
        all[count] = rt_alloc_exec_memory_near(page(), target, distance);
        if all[count] == 0 {
            break;
        }
        check!(is_within(all[count], page(), target, distance));
        check!(!all[..count].contains(&all[count]));
        count += 1;
    }
    // 16 pages fit between the two ends, 15 if the target is not aligned; if each has two more around it, 5 do.
    let has_guards = statistics()?.hardening & RT_HARDEN_GUARDS as i64 != 0;
    check!(if has_guards { count == 5 } else { (15..=16).contains(&count) });
    check_eq!(rt_last_error(), RT_ERROR_NO_MEMORY);
    free(all[4], page())?;
    let again = rt_alloc_exec_memory_near(page(), target, distance);
    check_eq!(again, all[4]);
    for address in &all[..count] {
        free(*address, page())?;
    }
    Ok(())
}

fn bad_arguments(_: &World) -> Verdict {
    let anchor = alloc_exec(1)?;
    let watched = [(anchor, 1)];
    for (size, target, distance) in [
        (0, anchor, MIB),
        (-1, anchor, MIB),
        (i64::MIN, anchor, MIB),
        (1, 0, MIB),
        (1, -1, MIB),
        (1, i64::MIN, i64::MAX),
        (1, anchor, 0),
        (1, anchor, -1),
        (1, anchor, i64::MIN),
    ] {
        check_harmless!(
            &watched,
            rt_alloc_exec_memory_near(size, target, distance),
            0,
            RT_ERROR_INVALID_ARGUMENT
        );
    }
    for size in [1 << 40, i64::MAX] {
        check_harmless!(&watched, rt_alloc_exec_memory_near(size, anchor, MIB), 0, RT_ERROR_OVER_LIMIT);
    }
    free(anchor, 1)
}
