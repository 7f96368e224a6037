//! Cache maintenance, judged by QEMU: it runs what it has translated until it is told otherwise, as a
//! processor runs what it has fetched. A missing `isb`, or a clean of data that a processor would need,
//! it never notices.

use super::{Machine, Scenario, code};
use crate::caches;
use crate::library::Library;
use crate::rules::{Mood, Rules};
use execmem_core::abi::*;

pub(super) const ALL: &[Scenario] = &[
    Scenario { name: "code written anew through a second view runs", applies: shows_dual, run: dual },
    Scenario { name: "without sys_icache_invalidate it stays stale", applies: shows_dual, run: stale_dual },
    Scenario { name: "code written anew into MAP_JIT pages runs", applies: shows_jit, run: jit },
    Scenario {
        name: "without sys_icache_invalidate MAP_JIT pages stay stale",
        applies: shows_jit,
        run: stale_jit,
    },
];

fn shows_dual(rules: Rules) -> bool {
    rules.is_arm && rules.mood == Mood::Plain
}

fn shows_jit(rules: Rules) -> bool {
    rules.is_arm && rules.allows_jit()
}

const REWRITES: u16 = 100;

/// How many of the rewrites an execution missed.
fn missed(machine: &Machine, policy: i32, is_maintained: bool) -> Result<u16, String> {
    let library = Library::load_to_judge_caches(&machine.file, machine.rules)?;
    if !is_maintained {
        caches::forget_maintenance();
    }
    check_eq!(library.call("rt_exec_memory_set_policy", &[policy.into()]), 1);
    let address = library.call("rt_alloc_exec_memory", &[100]);
    let mut missed = 0;
    for number in 0..REWRITES {
        check_eq!(library.write(address, &code(number)), code(number).len() as i64);
        let calls = caches::calls();
        library.call("rt_flush_icache", &[address, 100]);
        check_eq!(caches::calls(), calls + 1);
        missed += u16::from(library.call("rt_call_function_0", &[address]) != number.into());
    }
    Ok(missed)
}

fn dual(machine: &Machine) -> Result<(), String> {
    check_eq!(missed(machine, RT_POLICY_DUAL, true)?, 0);
    Ok(())
}

fn stale_dual(machine: &Machine) -> Result<(), String> {
    check_eq!(missed(machine, RT_POLICY_DUAL, false)?, REWRITES - 1);
    Ok(())
}

fn jit(machine: &Machine) -> Result<(), String> {
    check_eq!(missed(machine, RT_POLICY_JIT, true)?, 0);
    Ok(())
}

fn stale_jit(machine: &Machine) -> Result<(), String> {
    check_eq!(missed(machine, RT_POLICY_JIT, false)?, REWRITES - 1);
    Ok(())
}
