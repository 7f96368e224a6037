//! Protection: asking for it, changing it, on exactly the pages that a range touches.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails, check_looks_up};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("every protection that the policy allows can be set, asked for, and keeps the bytes", settable),
    Rule::new("a change applies to exactly the pages that the range touches", exact_pages),
    Rule::new("unknown protection bits are an invalid argument and change nothing", unknown_bits),
    Rule::new(
        "landing pads are asked for of pages with EXEC, or are unsupported and change nothing",
        landing_pads,
    ),
    Rule::new("rt_make_executable makes code of read-write memory without any flush by the caller", no_flush),
    Rule::new("rt_make_executable is true for what is executable already", again),
    Rule::new("rt_make_writable brings read-write back, and code can be made of it anew", writable_again),
    Rule::new("a region's pages turn executable and writable independently of each other", page_by_page),
    Rule::new(
        "rt_get_protection and rt_is_executable know the library's memory to its last page",
        own_memory,
    ),
    Rule::new("rt_get_protection and rt_is_executable know memory that the library did not map", foreign),
    Rule::new("addresses where nothing is mapped are neither protected nor executable", nowhere),
];

fn settable(world: &World) -> Verdict {
    protection_can_change()?;
    let size = page();
    let (code, data, anonymous) = (alloc_exec(size)?, alloc_rw(size)?, map_anonymous(size, RW)?);
    for address in [code, data, anonymous] {
        check!(rt_set_protection(address, size, RW));
        store(address, b"kept");
        for protection in
            [RT_PROT_NONE, RT_PROT_READ, RX, RT_PROT_EXEC, RW, RT_PROT_WRITE, RX, RT_PROT_NONE, RW]
        {
            // A system that is strict about EXEC may give it to nobody without READ.
            if protection == RT_PROT_EXEC && world.mappings_gain_exec.is_err() {
                continue;
            }
            if address == anonymous && protection & RT_PROT_EXEC != 0 && world.mappings_gain_exec.is_err() {
                check_harmless!(
                    &[(address, size)],
                    rt_set_protection(address, size, protection),
                    false,
                    RT_ERROR_REFUSED
                );
                continue;
            }
            check!(rt_set_protection(address, size, protection));
            check_eq!(rt_get_protection(address), protection);
            check_eq!(rt_is_executable(address), protection & RT_PROT_EXEC != 0);
            if protection & RT_PROT_READ != 0 {
                check!(holds(address, b"kept"));
            }
        }
        check!(holds(address, b"kept"));
    }
    free(code, size)?;
    free(data, size)?;
    unmap(anonymous, size)
}

fn exact_pages(_: &World) -> Verdict {
    protection_can_change()?;
    const READ: i32 = RT_PROT_READ;
    let size = 3 * page() + 1;
    let ranges = [
        (0, 1, [READ, RW, RW, RW]),
        (page() - 1, 1, [READ, RW, RW, RW]),
        (page() - 1, 2, [READ, READ, RW, RW]),
        (page(), page(), [RW, READ, RW, RW]),
        (page() + 1, page(), [RW, READ, READ, RW]),
        (page() + 1, page() - 1, [RW, READ, RW, RW]),
        (2 * page() - 1, page() + 2, [RW, READ, READ, READ]),
        // The last page belongs to the region to its end, though one byte of it was requested.
        (3 * page(), page(), [RW, RW, RW, READ]),
        (4 * page() - 1, 1, [RW, RW, RW, READ]),
        (0, 4 * page(), [READ; 4]),
    ];
    let (code, data, anonymous) = (alloc_exec(size)?, alloc_rw(size)?, map_anonymous(size, RW)?);
    for address in [code, data, anonymous] {
        for (start, length, expected) in ranges {
            check!(rt_make_writable(address, size));
            check!(rt_set_protection(address + start, length, READ));
            expect_protections(address, &expected)?;
        }
        let watched = [(address, size)];
        for (start, length) in [(0, 4 * page() + 1), (4 * page() - 1, 2), (3 * page(), page() + 1)] {
            check_harmless!(
                &watched,
                rt_set_protection(address + start, length, RW),
                false,
                RT_ERROR_NOT_OWNED
            );
        }
    }
    free(code, size)?;
    free(data, size)?;
    unmap(anonymous, size)
}

fn unknown_bits(_: &World) -> Verdict {
    let size = page();
    let address = alloc_rw(size)?;
    let watched = [(address, size)];
    for protection in [8, 0x20, 0x10_0000, -1, i32::MIN, i32::MAX, 7 | 8] {
        check_harmless!(
            &watched,
            rt_set_protection(address, size, protection),
            false,
            RT_ERROR_INVALID_ARGUMENT
        );
    }
    free(address, size)
}

fn landing_pads(world: &World) -> Verdict {
    const GUARDED: i32 = RX | RT_PROT_BTI;
    let (code, size) = (executable(&returning(42))?, returning(42).len() as i64);
    let (own, watched) = (rt_get_protection(code), [(code, size)]);
    let changed = rt_set_protection(code, size, GUARDED);
    let error = if changed { RT_ERROR_NONE } else { rt_last_error() };
    let anonymous =
        |protection| map_file(None, protection, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, size).address;
    if error == RT_ERROR_UNSUPPORTED {
        for wanted in [GUARDED, RT_PROT_BTI] {
            check_harmless!(&watched, rt_set_protection(code, size, wanted), false, RT_ERROR_UNSUPPORTED);
            check_harmless!(&watched, anonymous(wanted), 0, RT_ERROR_UNSUPPORTED);
        }
        check_eq!(rt_get_protection(code), own);
        return free(code, size);
    }
    for wanted in [RT_PROT_BTI, RW | RT_PROT_BTI] {
        check_harmless!(&watched, rt_set_protection(code, size, wanted), false, RT_ERROR_INVALID_ARGUMENT);
        check_harmless!(&watched, anonymous(wanted), 0, RT_ERROR_INVALID_ARGUMENT);
    }
    if changed {
        check_eq!(rt_get_protection(code), GUARDED);
        check!(rt_is_executable(code));
        check!(rt_make_executable(code, size));
        check_eq!(rt_get_protection(code), made_executable());
    } else {
        // A system that lets nobody ask for EXEC again.
        check_eq!(error, RT_ERROR_REFUSED);
        check!(world.mappings_gain_exec.is_err());
        check_eq!(rt_get_protection(code), own);
    }
    check_eq!(call(code, &[]), 42);
    free(code, size)
}

fn no_flush(_: &World) -> Verdict {
    protection_can_change()?;
    let size = page();
    let address = alloc_rw(size)?;
    for value in 0..20 {
        store(address, &returning(value));
        check!(rt_make_executable(address, 1));
        check_eq!(rt_get_protection(address), made_executable());
        check_eq!(call(address, &[]), value as i64);
        check!(rt_make_writable(address, 1));
    }
    free(address, size)
}

fn again(_: &World) -> Verdict {
    let code = returning(42);
    let size = code.len() as i64;
    let address = executable(&code)?;
    check!(rt_make_executable(address, size));
    check_eq!(rt_get_protection(address), made_executable());
    check!(rt_make_executable(address, size));
    check_eq!(rt_get_protection(address), made_executable());
    check_eq!(call(address, &[]), 42);
    free(address, size)
}

fn writable_again(_: &World) -> Verdict {
    protection_can_change()?;
    let size = page();
    for address in [alloc_exec(size)?, alloc_rw(size)?] {
        for value in 0..5 {
            check!(rt_make_writable(address, size));
            check_eq!(rt_get_protection(address), RW);
            check_fails!(call(address, &[]), -1, RT_ERROR_NOT_EXECUTABLE);
            store(address, &returning(value));
            check!(rt_make_executable(address, size));
            check_eq!(call(address, &[]), value as i64);
        }
        free(address, size)?;
    }
    Ok(())
}

fn page_by_page(_: &World) -> Verdict {
    protection_can_change()?;
    let rx = made_executable();
    let size = 4 * page();
    for address in [alloc_exec(size)?, alloc_rw(size)?] {
        check!(rt_make_writable(address, size));
        for index in 0..4 {
            store(address + index * page(), &returning(index as u8));
        }
        for (index, expected) in
            [(2, [RW, RW, rx, RW]), (0, [rx, RW, rx, RW]), (3, [rx, RW, rx, rx]), (1, [rx; 4])]
        {
            check!(rt_make_executable(address + index * page(), page()));
            expect_protections(address, &expected)?;
            check_eq!(call(address + index * page(), &[]), index);
        }
        check!(rt_make_writable(address + page(), page()));
        store(address + page(), &returning(9));
        expect_protections(address, &[rx, RW, rx, rx])?;
        check_eq!(call(address + 2 * page(), &[]), 2);
        // A range of mixed pages.
        check!(rt_make_executable(address, size));
        expect_protections(address, &[rx; 4])?;
        check_eq!(call(address + page(), &[]), 9);
        free(address, size)?;
    }
    Ok(())
}

fn own_memory(_: &World) -> Verdict {
    let size = 2 * page() + 1;
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    for inner in [0, 1, page() - 1, page(), size - 1, size, 3 * page() - 1] {
        check_eq!(rt_get_protection(code + inner), code_protection());
        check!(rt_is_executable(code + inner));
        check_eq!(rt_get_protection(data + inner), RW);
        check!(!rt_is_executable(data + inner));
    }
    free(code, size)?;
    free(data, size)
}

fn foreign(world: &World) -> Verdict {
    let code = world.foreign_code as usize as i64;
    let told = |protection| if world.tells_foreign { protection } else { -1 };
    check_eq!(rt_is_executable(code), world.tells_foreign);
    check_eq!(rt_get_protection(code), told(RX));
    for address in [world.foreign_data, world.foreign_data + 63] {
        check!(!rt_is_executable(address));
        check_eq!(rt_get_protection(address), told(RW));
    }
    Ok(())
}

fn nowhere(world: &World) -> Verdict {
    for address in [world.unmapped, world.unmapped - 1, world.unmapped + page(), 1] {
        check_looks_up!(rt_is_executable(address), false);
        check_looks_up!(rt_get_protection(address), -1);
    }
    for address in [0, -1, i64::MIN] {
        check_looks_up!(rt_is_executable(address), false);
        check_looks_up!(rt_get_protection(address), -1);
    }
    for address in [i64::MAX, i64::MAX - page(), 1 << 47, 1 << 48, 1 << 62] {
        check!(!rt_is_executable(address));
        check_eq!(rt_get_protection(address), -1);
    }
    Ok(())
}
