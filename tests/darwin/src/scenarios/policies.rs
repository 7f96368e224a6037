//! Which policies each mood grants, which one is chosen, and what the statistics say of it.

use super::{Machine, Scenario, code, everywhere, in_child};
use crate::kernel;
use crate::rules::{Mood, Rules};
use execmem_core::abi::*;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "the first policy that is granted is chosen, and the reason can be read",
        applies: everywhere,
        run: choice,
    },
    Scenario {
        name: "each policy that is granted gives code that runs, and the others are refused",
        applies: everywhere,
        run: each,
    },
    Scenario {
        name: "the code heap has code that runs wherever any policy is granted",
        applies: |rules| rules.allows_jit(),
        run: heap,
    },
    Scenario {
        name: "without a thread key to count nested writes there is no MAP_JIT memory",
        applies: |rules| rules.allows_jit(),
        run: no_keys,
    },
    Scenario {
        name: "plain memory becomes executable outside of the hardened runtime alone",
        applies: everywhere,
        run: plain_memory,
    },
];

/// Whether the system grants what a policy needs.
fn is_granted(rules: Rules, policy: i32) -> bool {
    match policy {
        RT_POLICY_RWX => !rules.is_arm && rules.mood == Mood::Plain,
        RT_POLICY_JIT => rules.mood != Mood::Hardened,
        _ => rules.mood == Mood::Plain,
    }
}

/// What `auto` tries, in the contract's order.
const ORDER: [i32; 4] = [RT_POLICY_RWX, RT_POLICY_JIT, RT_POLICY_DUAL, RT_POLICY_TOGGLE];

fn choice(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    check_eq!(library.statistics()?.policy_trials, [-1; 5]);
    let address = library.call("rt_alloc_exec_memory", &[100]);
    let chosen = ORDER.into_iter().find(|policy| is_granted(machine.rules, *policy));
    let mut trials = [-1; 5];
    for policy in ORDER {
        if is_granted(machine.rules, policy) {
            trials[policy as usize] = 0;
            break;
        }
        trials[policy as usize] = RT_ERROR_REFUSED.into();
    }
    let found = library.statistics()?;
    check_eq!(found.policy_trials, trials);
    check_eq!(found.policy, chosen.unwrap_or(RT_POLICY_AUTO).into());
    if chosen.is_none() {
        check_eq!(address, 0);
        check_eq!(library.last_error(), "refused by the system or by the W^X policy");
    }
    let (_, dump) = in_child(true, || {
        library.call("rt_exec_memory_dump_stats", &[]);
        (0, String::new())
    });
    let head = match (chosen, machine.rules.is_arm) {
        (Some(RT_POLICY_RWX), _) => "policy rwx",
        (Some(_), _) => "policy jit, no rwx",
        (None, _) => "policy auto, no rwx, no dual, no toggle, no jit",
    };
    check_eq!(dump.lines().next().unwrap_or_default(), format!("execmem: executable memory, {head}"));
    Ok(())
}

fn each(machine: &Machine) -> Result<(), String> {
    for policy in ORDER {
        let (end, said) = in_child(false, || match one(machine, policy) {
            Ok(()) => (0, String::new()),
            Err(reason) => (1, reason),
        });
        if end != super::End::Status(0) {
            return Err(format!("policy {policy}: {end:?}: {said}"));
        }
    }
    Ok(())
}

fn one(machine: &Machine, policy: i32) -> Result<(), String> {
    let library = machine.load_with_policy(policy)?;
    let before = kernel::regions().all().len();
    let address = library.call("rt_alloc_exec_memory", &[100]);
    if !is_granted(machine.rules, policy) {
        check_eq!((address, library.call("rt_last_error", &[])), (0, RT_ERROR_REFUSED.into()));
        check_eq!(library.call("rt_code_alloc", &[100]), 0);
        check_eq!(library.call("rt_last_error", &[]), RT_ERROR_REFUSED.into());
        check_eq!(kernel::regions().all().len(), before);
        return Ok(());
    }
    check!(address > 0);
    let rwx = if policy == RT_POLICY_RWX { 7 } else { 5 };
    for number in [42, 43] {
        let code = code(number);
        check_eq!(library.write(address, &code), code.len() as i64);
        library.call("rt_flush_icache", &[address, code.len() as i64]);
        check_eq!(library.call("rt_call_function_0", &[address]), number.into());
        check_eq!(library.call("rt_get_protection", &[address]), rwx);
    }
    check_eq!(library.call("rt_make_executable", &[address, 100]), 1);
    check_eq!(library.call("rt_call_function_0", &[address]), 43);
    let changes = library.call("rt_make_writable", &[address, 100]);
    if policy == RT_POLICY_JIT {
        check_eq!((changes, library.call("rt_last_error", &[])), (0, RT_ERROR_UNSUPPORTED.into()));
        check_eq!(library.call("rt_set_protection", &[address, 100, 1]), 0);
        check_eq!(library.call("rt_get_protection", &[address]), 5);
    } else {
        check_eq!(changes, 1);
        check_eq!(library.call("rt_call_function_0", &[address]), -1);
        // SAFETY: the page is writable for everybody now.
        unsafe { (address as *mut u8).write_volatile(code(44)[0]) };
        check_eq!(library.write(address, &code(44)), code(44).len() as i64);
        check_eq!(library.call("rt_make_executable", &[address, 100]), 1);
    }
    let expected = if policy == RT_POLICY_JIT { 43 } else { 44 };
    check_eq!(library.call("rt_call_function_0", &[address]), expected);
    check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 1);
    check_eq!(library.call("rt_call_function_0", &[address]), -1);
    Ok(())
}

fn heap(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let block = library.call("rt_code_alloc", &[100]);
    check!(block > 0);
    for number in [42, 43] {
        let code = code(number);
        let arguments = [block, code.as_ptr() as i64, code.len() as i64, 0];
        check_eq!(library.call("rt_code_write", &arguments), code.len() as i64);
        check_eq!(library.call("rt_code_publish", &[block, code.len() as i64]), 1);
        check_eq!(library.call("rt_call_function_0", &[block]), number.into());
    }
    check_eq!(library.call("rt_code_free", &[block]), 1);
    Ok(())
}

fn no_keys(machine: &Machine) -> Result<(), String> {
    let library = machine.load_with_policy(RT_POLICY_JIT)?;
    let mut key = 0;
    // SAFETY: room for a key.
    while unsafe { libc::pthread_key_create(&mut key, None) } == 0 {}
    check_eq!(library.call("rt_alloc_exec_memory", &[100]), 0);
    check_eq!(library.last_error(), "no memory");
    Ok(())
}

fn plain_memory(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let address = library.call("rt_alloc_rw_memory", &[100]);
    if machine.rules.mood == Mood::Hardened {
        // Nothing could ever make it executable.
        check_eq!((address, library.call("rt_last_error", &[])), (0, RT_ERROR_REFUSED.into()));
        return Ok(());
    }
    check_eq!(library.write(address, &code(42)), code(42).len() as i64);
    let made = library.call("rt_make_executable", &[address, 100]);
    if machine.rules.mood == Mood::Plain {
        check_eq!((made, library.call("rt_call_function_0", &[address])), (1, 42));
        check_eq!(library.call("rt_make_writable", &[address, 100]), 1);
    } else {
        check_eq!((made, library.call("rt_last_error", &[])), (0, RT_ERROR_REFUSED.into()));
        check_eq!(library.call("rt_call_function_0", &[address]), -1);
    }
    check_eq!(library.call("rt_get_protection", &[address]), 3);
    check_eq!(library.write(address, &code(43)), code(43).len() as i64);
    check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 1);
    Ok(())
}
