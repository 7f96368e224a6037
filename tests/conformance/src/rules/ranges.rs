//! Which ranges the functions that work on pages accept: contract, section 1.4.

use crate::memory::*;
use crate::snapshot::{Snapshot, check_harmless};
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("page operations accept any range inside a region's pages, aligned or not", accepted),
    Rule::new("page operations refuse a range that reaches past the region's last page", past_the_end),
    Rule::new("page operations refuse memory that is not the library's, or no longer", foreign),
    Rule::new("an empty range in a live region or at its end is fine, and changes nothing", empty_ranges),
    Rule::new("page operations refuse negative and overflowing ranges", bad_ranges),
    Rule::new("no range spans two regions, even where they are neighbours", two_regions),
    Rule::new("advice numbers other than the six are an invalid argument", advice_numbers),
    Rule::new("a whole region can be kept from forked children, and no part of one", dont_fork),
    Rule::new("MADV_DONTNEED lets private anonymous memory read as zero again", dont_need),
    Rule::new("locking, unlocking and syncing change no byte and no protection", no_side_effect),
    Rule::new("rt_flush_icache gives 0, and -1 for a range that is not readable", flush),
];

/// An operation on pages that changes no protection.
type Operation = fn(i64, i64) -> bool;

/// `rt_flush_icache` as its whole register says: 0 or -1.
fn flush_register(address: i64, size: i64) -> i64 {
    call_by_name(c"rt_flush_icache", [address, size, 0, 0, 0, 0])
}

/// The place of the one that mapped files may be refused.
const MAKE_EXECUTABLE: usize = 7;
const OPERATIONS: [Operation; 9] = [
    |address, size| rt_msync(address, size, false),
    |address, size| rt_msync(address, size, true),
    |address, size| rt_mlock(address, size),
    |address, size| rt_munlock(address, size),
    |address, size| rt_madvise(address, size, RT_ADVICE_NORMAL),
    |address, size| rt_set_protection(address, size, RW),
    |address, size| rt_make_writable(address, size),
    |address, size| rt_make_executable(address, size),
    |address, size| flush_register(address, size) == 0,
];

fn accepted(world: &World) -> Verdict {
    protection_can_change()?;
    let size = 2 * page() + 100;
    let (code, data, mapping) = (alloc_exec(size)?, alloc_rw(size)?, map_anonymous(size, RW)?);
    for address in [code, data, mapping] {
        for (index, operation) in OPERATIONS.into_iter().enumerate() {
            if address == mapping && index == MAKE_EXECUTABLE && world.mappings_gain_exec.is_err() {
                continue;
            }
            for (start, length) in [
                (0, 1),
                (0, size),
                (0, 3 * page()),
                (1, page()),
                (page() - 1, 2),
                (size - 1, 1),
                (size, 1),
                (3 * page() - 1, 1),
                (page(), 2 * page()),
            ] {
                check!(operation(address + start, length));
            }
        }
    }
    free(code, size)?;
    free(data, size)?;
    unmap(mapping, size)
}

fn past_the_end(_: &World) -> Verdict {
    let size = 2 * page() + 100;
    let (code, data, mapping) = (alloc_exec(size)?, alloc_rw(size)?, map_anonymous(size, RW)?);
    let watched = [(code, size), (data, size), (mapping, size)];
    for (address, _) in watched {
        for operation in OPERATIONS {
            for (start, length) in
                [(0, 3 * page() + 1), (3 * page() - 1, 2), (page(), 2 * page() + 1), (1, i64::MAX / 4)]
            {
                check_harmless!(&watched, operation(address + start, length), false, RT_ERROR_NOT_OWNED);
            }
        }
    }
    free(code, size)?;
    free(data, size)?;
    unmap(mapping, size)
}

fn foreign(world: &World) -> Verdict {
    let freed = alloc_rw(page())?;
    free(freed, page())?;
    let unmapped = map_anonymous(page(), RW)?;
    unmap(unmapped, page())?;
    let code = world.foreign_code as usize as i64;
    let protections = (rt_get_protection(code), rt_get_protection(world.foreign_data));
    for address in [freed, unmapped, code, world.foreign_data, world.unmapped, 1] {
        for operation in OPERATIONS {
            check_fails!(operation(address, 1), false, RT_ERROR_NOT_OWNED);
            check_fails!(operation(address, page()), false, RT_ERROR_NOT_OWNED);
        }
    }
    check_eq!((rt_get_protection(code), rt_get_protection(world.foreign_data)), protections);
    Ok(())
}

fn bad_ranges(_: &World) -> Verdict {
    let size = 2 * page();
    let address = alloc_rw(size)?;
    let watched = [(address, size)];
    for operation in OPERATIONS {
        for (address, size) in [
            (address, -1),
            (address, i64::MIN),
            (address, i64::MAX),
            (address + size - 1, i64::MAX),
            (0, 0),
            (-1, 0),
            (0, 1),
            (0, i64::MAX),
            (-1, 1),
            (-address, size),
            (i64::MIN, 1),
            (i64::MIN, i64::MIN),
            (i64::MAX, 1),
            (i64::MAX, i64::MAX),
            (-1, i64::MAX),
        ] {
            check_harmless!(&watched, operation(address, size), false, RT_ERROR_INVALID_ARGUMENT);
        }
    }
    free(address, size)
}

fn empty_ranges(world: &World) -> Verdict {
    let size = page() + 100;
    let (code, data, mapping) = (alloc_exec(size)?, alloc_rw(size)?, map_anonymous(size, RW)?);
    let watched = [(code, size), (data, size), (mapping, size)];
    let before = Snapshot::of(&watched)?;
    for address in [code, data, mapping] {
        for operation in OPERATIONS {
            for offset in [0, 1, page(), size, 2 * page()] {
                check!(operation(address + offset, 0));
            }
        }
    }
    before.expect_unchanged(&watched, "operations on empty ranges")?;
    for (address, size) in watched {
        match address == mapping {
            true => unmap(address, size)?,
            false => free(address, size)?,
        }
    }
    for operation in OPERATIONS {
        check_fails!(operation(world.unmapped, 0), false, RT_ERROR_NOT_OWNED);
        check_fails!(operation(world.foreign_data, 0), false, RT_ERROR_NOT_OWNED);
    }
    Ok(())
}

fn two_regions(_: &World) -> Verdict {
    const COUNT: usize = 8;
    let size = page();
    // Where there is room for all of them, and for second views behind them: some systems place those from the top
    // down. What lies beside a place that the system chooses is a matter of chance.
    let length = 4 * COUNT as i64 * size;
    let room = alloc_exec(length)?;
    free(room, length)?;
    let mut all = [0; COUNT];
    for (address, target) in all.iter_mut().zip((room..).step_by(size as usize)) {
        *address = rt_alloc_exec_memory_near(size, target, 1 << 30);
        check!(*address > 0);
    }
    let low = all.into_iter().find(|address| all.contains(&(address + size)));
    let Some(low) = low else {
        all.into_iter().try_for_each(|address| free(address, size))?;
        return Err("this system leaves room between the regions that it places".into());
    };
    let watched = [(low, size), (low + size, size)];
    for operation in OPERATIONS {
        for (start, length) in [(0, size + 1), (0, 2 * size), (size - 1, 2)] {
            check_harmless!(&watched, operation(low + start, length), false, RT_ERROR_NOT_OWNED);
        }
    }
    check_harmless!(&watched, write_bytes(low, b"code", size - 2), -1, RT_ERROR_NOT_OWNED);
    check_harmless!(&watched, read_into(low, size - 2, &mut [0; 4]), -1, RT_ERROR_NOT_OWNED);
    check_harmless!(&watched, rt_free_exec_memory(low, 2 * size), false, RT_ERROR_WRONG_SIZE);
    all.into_iter().try_for_each(|address| free(address, size))
}

fn advice_numbers(_: &World) -> Verdict {
    let size = page();
    let address = map_anonymous(size, RW)?;
    let watched = [(address, size)];
    for advice in [RT_ADVICE_NORMAL, RT_ADVICE_RANDOM, RT_ADVICE_SEQUENTIAL, RT_ADVICE_WILLNEED] {
        check!(rt_madvise(address, size, advice));
    }
    // 8 to 25 are Linux's own further numbers: some of them free, poison or hide memory.
    for advice in [-1, 5, 8, 9, 11, 14, 21, 22, 23, 25, 100, 101, i32::MIN, i32::MAX] {
        check_harmless!(&watched, rt_madvise(address, size, advice), false, RT_ERROR_INVALID_ARGUMENT);
    }
    unmap(address, size)
}

fn dont_fork(_: &World) -> Verdict {
    let size = 2 * page() + 100;
    for address in [alloc_exec(size)?, alloc_rw(size)?, map_anonymous(size, RW)?] {
        let watched = [(address, size)];
        let parts = [(0, 2 * page()), (0, 1), (page(), page() + 100), (1, 2 * page() - 1)];
        for (offset, length) in parts {
            let part = || rt_madvise(address + offset, length, RT_ADVICE_DONTFORK);
            check_harmless!(&watched, part(), false, RT_ERROR_INVALID_ARGUMENT);
        }
        let before = Snapshot::of(&watched)?;
        check!(rt_madvise(address, size, RT_ADVICE_DONTFORK));
        check!(rt_madvise(address + 7, 3 * page() - 7, RT_ADVICE_DONTFORK));
        before.expect_unchanged(&watched, "keeping it from children")?;
        check_eq!(write_bytes(address, b"code", page() - 2), 4);
    }
    Ok(())
}

fn dont_need(_: &World) -> Verdict {
    let size = 3 * page();
    let address = map_anonymous(size, RW)?;
    for index in 0..3 {
        store(address + index * page(), b"data");
    }
    check!(rt_madvise(address + page(), 1, RT_ADVICE_DONTNEED));
    check!(holds(address, b"data"));
    check!(is_zeroed(address + page(), page()));
    check!(holds(address + 2 * page(), b"data"));
    check_eq!(rt_get_protection(address + page()), RW);
    unmap(address, size)
}

fn no_side_effect(_: &World) -> Verdict {
    let size = 2 * page();
    for address in [alloc_exec(size)?, alloc_rw(size)?] {
        check_eq!(write_bytes(address, b"code", page() - 2), 4);
        let watched = [(address, size)];
        let before = Snapshot::of(&watched)?;
        check!(rt_mlock(address + page() - 1, 2));
        check!(rt_msync(address + page() - 1, 2, false) && rt_msync(address, size, true));
        check!(rt_munlock(address, size));
        // Unlocking what is not locked is no failure.
        check!(rt_munlock(address, size));
        before.expect_unchanged(&watched, "lock, sync and unlock")?;
        free(address, size)?;
    }
    Ok(())
}

fn flush(world: &World) -> Verdict {
    protection_can_change()?;
    let size = page() + 1;
    let address = alloc_exec(size)?;
    check_eq!(flush_register(address, size), 0);
    check_eq!(flush_register(address + 3, 1), 0);
    check_fails!(flush_register(world.unmapped, 1), -1, RT_ERROR_NOT_OWNED);
    check_eq!(flush_register(address, 0), 0);
    check_fails!(flush_register(address, -1), -1, RT_ERROR_INVALID_ARGUMENT);
    check!(rt_set_protection(address + page(), 1, RT_PROT_NONE));
    check_eq!(flush_register(address, page()), 0);
    check_fails!(flush_register(address, size), -1, RT_ERROR_WRONG_PROTECTION);
    check_fails!(flush_register(address + page(), 1), -1, RT_ERROR_WRONG_PROTECTION);
    free(address, size)
}
