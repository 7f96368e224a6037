//! What a forked child has of its parent's memory.

use super::{End, Machine, Scenario, code, in_child};
use crate::library::Library;
use crate::rules::Mood;
use execmem_core::abi::*;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a child has no MAP_JIT pages: calls fail, freeing works, new memory too",
        applies: |rules| rules.allows_jit(),
        run: jit,
    },
    Scenario {
        name: "what a child writes into dual memory never runs in its parent",
        applies: |rules| rules.mood == Mood::Plain,
        run: dual,
    },
];

fn with_code(machine: &Machine, policy: i32) -> Result<(Library, i64), String> {
    let library = machine.load_with_policy(policy)?;
    let address = library.call("rt_alloc_exec_memory", &[100]);
    check_eq!(library.write(address, &code(42)), code(42).len() as i64);
    library.call("rt_flush_icache", &[address, 100]);
    check_eq!(library.call("rt_call_function_0", &[address]), 42);
    Ok((library, address))
}

fn reported(body: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let (end, said) = in_child(false, || match body() {
        Ok(()) => (0, String::new()),
        Err(reason) => (1, reason),
    });
    if end == End::Status(0) { Ok(()) } else { Err(format!("the child: {end:?}: {said}")) }
}

fn jit(machine: &Machine) -> Result<(), String> {
    let (library, address) = with_code(machine, RT_POLICY_JIT)?;
    let count = library.call("rt_exec_memory_count", &[]);
    reported(|| {
        check_eq!(library.call("rt_call_function_0", &[address]), -1);
        check_eq!(library.call("rt_last_error", &[]), RT_ERROR_NOT_EXECUTABLE.into());
        check_eq!(library.call("rt_is_executable", &[address]), 0);
        check_eq!(library.call("rt_get_protection", &[address]), 0);
        check_eq!(library.write(address, &code(43)), -1);
        check_eq!(library.call("rt_last_error", &[]), RT_ERROR_WRONG_PROTECTION.into());
        check_eq!(library.call("rt_make_executable", &[address, 100]), 0);
        check_eq!(library.call("rt_exec_memory_count", &[]), count);
        // The place stays reserved, so that freeing it takes nobody else's memory.
        let other = library.call("rt_alloc_exec_memory", &[100]);
        check!(other > 0 && other != address);
        check_eq!(library.write(other, &code(44)), code(44).len() as i64);
        library.call("rt_flush_icache", &[other, 100]);
        check_eq!(library.call("rt_call_function_0", &[other]), 44);
        check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 1);
        check_eq!(library.call("rt_exec_memory_count", &[]), count);
        Ok(())
    })?;
    check_eq!(library.call("rt_call_function_0", &[address]), 42);
    check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 1);
    Ok(())
}

fn dual(machine: &Machine) -> Result<(), String> {
    let (library, address) = with_code(machine, RT_POLICY_DUAL)?;
    reported(|| {
        check_eq!(library.call("rt_call_function_0", &[address]), 42);
        check_eq!(library.write(address, &code(43)), code(43).len() as i64);
        library.call("rt_flush_icache", &[address, 100]);
        check_eq!(library.call("rt_call_function_0", &[address]), 43);
        Ok(())
    })?;
    library.call("rt_flush_icache", &[address, 100]);
    check_eq!(library.call("rt_call_function_0", &[address]), 42);
    // And what the parent writes then is its own too.
    check_eq!(library.write(address, &code(44)), code(44).len() as i64);
    library.call("rt_flush_icache", &[address, 100]);
    check_eq!(library.call("rt_call_function_0", &[address]), 44);
    Ok(())
}
