//! The W^X policy: contract, section 3.1.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use execmem_core::abi::*;

/// What needs a process that has allocated nothing: it comes first.
pub(super) const FIRST_RULES: &[Rule] = &[
    Rule::new("until the first allocation a wish for hardening is granted whole, or not at all", harden),
    Rule::new("until the first allocation the policy is a wish that can change; then it is fixed", first),
];

pub(super) const RULES: &[Rule] = &[
    Rule::new("the policy in force is one of the four, and the one that was wished for", in_force),
    Rule::new("code memory and plain memory have the policy's protection", protections),
    Rule::new(
        "under a W^X policy no request for WRITE with EXEC is granted, and none changes anything",
        refused,
    ),
    Rule::new("under policy rwx WRITE with EXEC is granted wherever it is asked for", granted),
    Rule::new("under a W^X policy no page of the process is ever writable and executable", never_both),
    Rule::new("after the first allocation no other hardening is accepted than what is on", hardened),
];

const POLICIES: [i32; 4] = [RT_POLICY_RWX, RT_POLICY_DUAL, RT_POLICY_TOGGLE, RT_POLICY_JIT];

const ALL_HARDENING: i32 = RT_HARDEN_GUARDS | RT_HARDEN_KEYS | RT_HARDEN_BTI;

fn harden(_: &World) -> Verdict {
    let on = statistics()?.hardening;
    let mut last = on;
    for wish in (0..=ALL_HARDENING).chain([on as i32]) {
        if rt_set_hardening(wish) {
            last = wish as i64;
        } else {
            check_eq!((rt_last_error(), wish != 0), (RT_ERROR_UNSUPPORTED, true));
        }
        check_eq!(statistics()?.hardening, last);
    }
    check_eq!(last, on);
    refuses_unknown_hardening()
}

fn refuses_unknown_hardening() -> Verdict {
    let on = statistics()?.hardening;
    for unknown in [ALL_HARDENING + 1, -1, i32::MIN, i32::MAX] {
        check_fails!(rt_set_hardening(unknown), false, RT_ERROR_INVALID_ARGUMENT);
        check_eq!(statistics()?.hardening, on);
    }
    Ok(())
}

fn hardened(_: &World) -> Verdict {
    let address = alloc_exec(1)?;
    let on = statistics()?.hardening;
    for wish in 0..=ALL_HARDENING {
        if wish as i64 == on {
            check!(rt_set_hardening(wish));
        } else {
            check_fails!(rt_set_hardening(wish), false, rt_last_error());
            check!([RT_ERROR_REFUSED, RT_ERROR_UNSUPPORTED].contains(&rt_last_error()));
        }
        check_eq!(statistics()?.hardening, on);
    }
    refuses_unknown_hardening()?;
    free(address, 1)
}

fn first(world: &World) -> Verdict {
    check_eq!(rt_exec_memory_count(), 0);
    check_eq!(rt_exec_memory_policy(), world.wished_policy);
    check_eq!(statistics()?.policy, world.wished_policy as i64);
    for policy in POLICIES {
        check!(rt_exec_memory_set_policy(policy));
        check_eq!(rt_exec_memory_policy(), policy);
    }
    for unknown in [-1, 5, i32::MIN, i32::MAX] {
        check_fails!(rt_exec_memory_set_policy(unknown), false, RT_ERROR_INVALID_ARGUMENT);
        check_eq!(rt_exec_memory_policy(), RT_POLICY_JIT);
    }
    check!(rt_exec_memory_set_policy(world.wished_policy));
    // Failing calls choose nothing.
    check_fails!(rt_alloc_exec_memory(0), 0, RT_ERROR_INVALID_ARGUMENT);
    check_eq!(rt_exec_memory_policy(), world.wished_policy);

    let address = alloc_exec(1)?;
    let policy = rt_exec_memory_policy();
    check!(POLICIES.contains(&policy));
    for other in POLICIES.into_iter().filter(|other| *other != policy) {
        check_fails!(rt_exec_memory_set_policy(other), false, RT_ERROR_REFUSED);
        check_eq!(rt_exec_memory_policy(), policy);
    }
    check_fails!(rt_exec_memory_set_policy(RT_POLICY_AUTO), false, RT_ERROR_REFUSED);
    check!(rt_exec_memory_set_policy(policy));
    free(address, 1)?;
    check_eq!(rt_exec_memory_policy(), policy);
    Ok(())
}

fn in_force(world: &World) -> Verdict {
    let address = alloc_exec(1)?;
    let policy = rt_exec_memory_policy();
    check!(POLICIES.contains(&policy));
    check!(world.wished_policy == RT_POLICY_AUTO || world.wished_policy == policy);
    check_eq!(statistics()?.policy, policy as i64);
    free(address, 1)
}

fn protections(_: &World) -> Verdict {
    let code = alloc_exec(page() + 1)?;
    let data = alloc_rw(page() + 1)?;
    expect_protections(code, &[code_protection(); 2])?;
    expect_protections(data, &[RW; 2])?;
    free(code, page() + 1)?;
    free(data, page() + 1)
}

/// WRITE with EXEC, without READ and with it.
const WRITABLE_CODE: [i32; 2] = [RT_PROT_WRITE | RT_PROT_EXEC, RWX];

fn refused(world: &World) -> Verdict {
    let size = 2 * page();
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    if writable_code_is_allowed() {
        return Err("policy rwx grants it".into());
    }
    let anonymous = map_anonymous(size, RW)?;
    let watched = [(code, size), (data, size), (anonymous, size)];
    for protection in WRITABLE_CODE {
        for (address, _) in watched {
            check_harmless!(&watched, rt_set_protection(address, size, protection), false, RT_ERROR_REFUSED);
            check_harmless!(
                &watched,
                rt_set_protection(address + page(), 1, protection),
                false,
                RT_ERROR_REFUSED
            );
        }
        for flags in [RT_MAP_PRIVATE, RT_MAP_SHARED] {
            let anonymous = flags | RT_MAP_ANONYMOUS;
            check_harmless!(
                &watched,
                map_file(None, protection, anonymous, 0, size),
                RtMapping::NONE,
                RT_ERROR_REFUSED
            );
            if let Ok(file) = world.file {
                check_harmless!(
                    &watched,
                    map_file(Some(file(b"code")), protection, flags, 0, 0),
                    RtMapping::NONE,
                    RT_ERROR_REFUSED
                );
            }
        }
    }
    free(code, size)?;
    free(data, size)?;
    unmap(anonymous, size)
}

fn granted(world: &World) -> Verdict {
    let size = page();
    let (code, data) = (alloc_exec(size)?, alloc_rw(size)?);
    if !writable_code_is_allowed() {
        return Err("the policy in force does not grant it".into());
    }
    let instructions = returning(42);
    store(code, &instructions);
    store(data, &instructions);
    rt_flush_icache(code, size);
    check_eq!(call(code, &[]), 42);
    for protection in WRITABLE_CODE {
        check!(rt_set_protection(data, size, protection));
        check_eq!(rt_get_protection(data), protection);
    }
    check_eq!(call(data, &[]), 42);
    for flags in [RT_MAP_PRIVATE, RT_MAP_SHARED] {
        let mapping = map_file(None, RWX, flags | RT_MAP_ANONYMOUS, 0, size);
        check_eq!(mapping.size, size);
        check_eq!(rt_get_protection(mapping.address), RWX);
        store(mapping.address, &instructions);
        rt_flush_icache(mapping.address, size);
        check_eq!(call(mapping.address, &[]), 42);
        unmap(mapping.address, size)?;
    }
    let mapping = map_file(Some(world.file?(&instructions)), RWX, RT_MAP_PRIVATE, 0, 0);
    check_eq!(call(mapping.address, &[]), 42);
    unmap(mapping.address, mapping.size)?;
    free(code, size)?;
    free(data, size)
}

fn never_both(world: &World) -> Verdict {
    protection_can_change()?;
    let has_writable_code = world.has_writable_code?;
    let size = 2 * page();
    let code = alloc_exec(size)?;
    if writable_code_is_allowed() {
        return Err("policy rwx grants it".into());
    }
    let instructions = returning(42);
    check!(!has_writable_code());
    let data = alloc_rw(size)?;
    let near = rt_alloc_exec_memory_near(size, code, 1 << 30);
    for address in [code, near] {
        check_eq!(write_bytes(address, &instructions, 0), instructions.len() as i64);
        check!(!has_writable_code());
        rt_flush_icache(address, size);
        check_eq!(call(address, &[]), 42);
    }
    check_eq!(write_bytes(data, &instructions, 0), instructions.len() as i64);
    for address in [code, near, data] {
        for change in [rt_make_writable, rt_make_executable, rt_make_writable, rt_make_executable] {
            check!(change(address, page()));
            check!(!has_writable_code());
        }
        check_eq!(call(address, &[]), 42);
        free(address, size)?;
        check!(!has_writable_code());
    }
    Ok(())
}
