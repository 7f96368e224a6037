//! Statistics: figures that add up.

use crate::memory::*;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use core::mem::offset_of;
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("only so many bytes as the caller's structure has are filled in", sizes),
    Rule::new("NULL and a structure that is too small are refused and stay untouched", bad_structures),
    Rule::new("regions and requested bytes are those of rt_exec_memory_count and _total", same_figures),
    Rule::new("regions and bytes by protection follow each allocation, change and free", by_protection),
    Rule::new("mapped bytes are whole pages of all views, and their peak never falls", mapped_bytes),
    Rule::new("every failing call is counted, and none that succeeds", failed_calls),
];

const SMALLEST: i64 = offset_of!(RtExecMemoryStats, regions_by_protection) as i64;

fn sizes(_: &World) -> Verdict {
    let address = alloc_exec(100)?;
    let all = statistics()?;
    check_eq!(all.size, EMPTY_STATISTICS.size);
    let mut first = RtExecMemoryStats { size: SMALLEST, mapped_bytes: -7, policy: -7, ..EMPTY_STATISTICS };
    first.regions_by_protection[0] = -7;
    check!(fill_statistics(Some(&mut first)));
    check_eq!(
        (first.size, first.regions, first.requested_bytes),
        (SMALLEST, all.regions, all.requested_bytes)
    );
    check_eq!((first.regions_by_protection[0], first.mapped_bytes, first.policy), (-7, -7, -7));

    // A structure of a later version: what this one doesn't know stays as it was.
    #[repr(C)]
    struct Larger {
        known: RtExecMemoryStats,
        further: i64,
    }
    let mut larger = Larger { known: EMPTY_STATISTICS, further: -7 };
    larger.known.size = size_of::<Larger>() as i64;
    check!(fill_statistics(Some(&mut larger.known)));
    check_eq!((larger.known.regions, larger.known.policy, larger.further), (all.regions, all.policy, -7));
    free(address, 100)
}

fn bad_structures(_: &World) -> Verdict {
    check_fails!(fill_statistics(None), false, RT_ERROR_INVALID_ARGUMENT);
    for size in [0, 8, SMALLEST - 1, -1, i64::MIN] {
        let mut small = RtExecMemoryStats { size, regions: -7, ..EMPTY_STATISTICS };
        let before = small;
        check_fails!(fill_statistics(Some(&mut small)), false, RT_ERROR_INVALID_ARGUMENT);
        check_eq!(small, before);
    }
    Ok(())
}

fn same_figures(_: &World) -> Verdict {
    let (code, data, mapping) = (alloc_exec(100)?, alloc_rw(5000)?, map_anonymous(7, RW)?);
    let now = statistics()?;
    check_eq!(now.regions, rt_exec_memory_count());
    check_eq!(now.requested_bytes, rt_exec_memory_total());
    check_eq!(now.policy, rt_exec_memory_policy() as i64);
    free(code, 100)?;
    free(data, 5000)?;
    unmap(mapping, 7)?;
    let now = statistics()?;
    check_eq!(now.regions, rt_exec_memory_count());
    check_eq!(now.requested_bytes, rt_exec_memory_total());
    Ok(())
}

/// What was added since `before`, by protection: regions, and their pages.
fn added(before: &RtExecMemoryStats, protection: i32) -> Result<(i64, i64), crate::Stop> {
    let (now, index) = (statistics()?, (protection & RWX) as usize);
    let regions = now.regions_by_protection[index] - before.regions_by_protection[index];
    let bytes = now.bytes_by_protection[index] - before.bytes_by_protection[index];
    check_eq!(bytes % page(), 0);
    Ok((regions, bytes / page()))
}

fn by_protection(_: &World) -> Verdict {
    protection_can_change()?;
    let before = statistics()?;
    let code = alloc_exec(page() + 1)?;
    let protection = code_protection();
    check_eq!(added(&before, protection)?, (1, 2));
    let data = alloc_rw(3 * page())?;
    check_eq!(added(&before, RW)?, (1, 3));
    let mapping = map_anonymous(1, RW)?;
    check_eq!(added(&before, RW)?, (2, 4));

    check!(rt_make_executable(data + page(), page()));
    check_eq!(added(&before, RW)?, (2, 3));
    let of_code =
        |regions, pages| if protection & RWX == RX { (regions + 1, pages + 2) } else { (regions, pages) };
    check_eq!(added(&before, RX)?, of_code(0, 1));
    check!(rt_set_protection(data, page(), RT_PROT_NONE));
    check_eq!(added(&before, RT_PROT_NONE)?, (1, 1));
    check_eq!(added(&before, RW)?, (1, 2));

    free(data, 3 * page())?;
    check_eq!(added(&before, RT_PROT_NONE)?, (0, 0));
    check_eq!(added(&before, RX)?, of_code(0, 0));
    unmap(mapping, 1)?;
    free(code, page() + 1)?;
    let now = statistics()?;
    check_eq!(now.regions_by_protection, before.regions_by_protection);
    check_eq!(now.bytes_by_protection, before.bytes_by_protection);
    Ok(())
}

fn mapped_bytes(_: &World) -> Verdict {
    let before = statistics()?;
    check!(before.peak_mapped_bytes >= before.mapped_bytes);
    let (code, data) = (alloc_exec(page() + 1)?, alloc_rw(1)?);
    let mapping = map_anonymous(page(), RW)?;
    let now = statistics()?;
    // Under policy dual code memory is mapped twice; memory that is to become code may be.
    let views = if rt_exec_memory_policy() == RT_POLICY_DUAL { 2 } else { 1 };
    let added = now.mapped_bytes - before.mapped_bytes;
    let least = views * 2 * page() + 2 * page();
    check!(added == least || (views == 2 && added == least + page()));
    check!(now.peak_mapped_bytes >= now.mapped_bytes);
    // Second views are left out of the bytes by protection.
    let bytes = |of: &RtExecMemoryStats| of.bytes_by_protection.iter().sum::<i64>();
    check_eq!(bytes(&now) - bytes(&before), 4 * page());
    free(code, page() + 1)?;
    free(data, 1)?;
    unmap(mapping, page())?;
    let later = statistics()?;
    check_eq!(later.mapped_bytes, before.mapped_bytes);
    check_eq!(later.peak_mapped_bytes, now.peak_mapped_bytes);
    Ok(())
}

fn failed_calls(_: &World) -> Verdict {
    let before = statistics()?.failed_calls;
    check_eq!(call(0, &[]), -1);
    check!(!rt_munmap(0, 0));
    check_eq!(map_file(None, 0, 0, 0, 0), RtMapping::NONE);
    check!(rt_value_free(rt_mmap_read_bytes(0, 0, 1)));
    check!(rt_value_free(rt_mmap_read_string(0, 0, -1)));
    rt_flush_icache(0, 0);
    // Lookups are no failures, whatever they find.
    check!(rt_get_protection(0) == -1 && !rt_is_executable(0) && find_block(0).is_none());
    check_eq!(statistics()?.failed_calls, before + 6);
    let address = alloc_exec(8)?;
    check_eq!(rt_last_error(), RT_ERROR_INVALID_ARGUMENT);
    free(address, 8)?;
    check_eq!(statistics()?.failed_calls, before + 6);
    Ok(())
}
