//! What a forked child has of its parent's memory.

use super::{End, Machine, Scenario, code, in_child};
use crate::library::{Library, Pair};
use crate::rules::Mood;
use execmem_core::abi::*;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "where a child has no MAP_JIT pages calls fail, freeing works, new memory too",
        applies: |rules| rules.allows_jit() && !rules.inherits_jit(),
        run: jit,
    },
    Scenario {
        name: "where a child has no MAP_JIT pages its code heap starts anew",
        applies: |rules| rules.allows_jit() && !rules.inherits_jit(),
        run: jit_heap,
    },
    Scenario {
        name: "where a child has MAP_JIT pages of its own it goes on with them",
        applies: |rules| rules.allows_jit() && rules.inherits_jit(),
        run: inherited,
    },
    Scenario {
        name: "what a child writes into dual memory never runs in its parent",
        applies: |rules| rules.mood == Mood::Plain,
        run: dual,
    },
    Scenario {
        name: "memory that a child shares is shared still when its contents were to be dropped",
        applies: |_| true,
        run: shared_memory,
    },
    Scenario {
        name: "what is kept from children is not in one (jit)",
        applies: |rules| rules.allows_jit(),
        run: |machine| withheld(machine, RT_POLICY_JIT),
    },
    Scenario {
        name: "what is kept from children is not in one, nor the copy that takes its place (dual)",
        applies: |rules| rules.mood == Mood::Plain,
        run: |machine| withheld(machine, RT_POLICY_DUAL),
    },
    Scenario {
        name: "what is kept from children is not in one (toggle)",
        applies: |rules| rules.mood == Mood::Plain,
        run: |machine| withheld(machine, RT_POLICY_TOGGLE),
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

fn inherited(machine: &Machine) -> Result<(), String> {
    let (library, address) = with_code(machine, RT_POLICY_JIT)?;
    let blocks = blocks(&library, 50)?;
    let before = library.statistics()?;
    reported(|| {
        check_eq!(library.statistics()?, before);
        check_eq!(library.call("rt_call_function_0", &[address]), 42);
        check_eq!(library.write(address, &code(43)), code(43).len() as i64);
        library.call("rt_flush_icache", &[address, 100]);
        check_eq!(library.call("rt_call_function_0", &[address]), 43);
        for (block, number) in blocks.into_iter().zip(50..) {
            check_eq!(library.call("rt_call_function_0", &[block]), number);
            check_eq!(library.call("rt_code_free", &[block]), 1);
        }
        check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 1);
        Ok(())
    })?;
    check_eq!(library.call("rt_call_function_0", &[address]), 42);
    check_eq!(library.call("rt_call_function_0", &[blocks[0]]), 50);
    Ok(())
}

/// Sizes of blocks: two that share a chunk and one that has its own.
const BLOCKS: [i64; 3] = [100, 3000, 100_000];

/// Blocks of these sizes, each with a function that returns the first number or one of the next.
fn blocks(library: &Library, first: u16) -> Result<[i64; 3], String> {
    let mut blocks = [0; 3];
    for ((block, size), number) in blocks.iter_mut().zip(BLOCKS).zip(first..) {
        *block = library.call("rt_code_alloc", &[size]);
        check!(*block > 0);
        let code = code(number);
        let arguments = [*block, code.as_ptr() as i64, code.len() as i64, 0];
        check_eq!(library.call("rt_code_write", &arguments), code.len() as i64);
        check_eq!(library.call("rt_code_publish", &[*block, code.len() as i64]), 1);
        check_eq!(library.call("rt_call_function_0", &[*block]), number.into());
    }
    Ok(blocks)
}

fn jit_heap(machine: &Machine) -> Result<(), String> {
    let library = machine.load_with_policy(RT_POLICY_JIT)?;
    let olds = blocks(&library, 40)?;
    // The child's child has its parent's fresh blocks no more than the first ones.
    reported(|| {
        let fresh = starts_anew(&library, &olds)?;
        reported(|| starts_anew(&library, &[olds, fresh].concat()).map(drop))?;
        check_eq!(library.call("rt_call_function_0", &[fresh[0]]), 50);
        Ok(())
    })?;
    for (block, number) in olds.into_iter().zip(40..) {
        check_eq!(library.call("rt_call_function_0", &[block]), number);
        check_eq!(library.call("rt_code_free", &[block]), 1);
    }
    Ok(())
}

fn starts_anew(library: &Library, olds: &[i64]) -> Result<[i64; 3], String> {
    let mut found = RtCodeBlock { address: 0, size: 0 };
    let nothing = library.statistics()?;
    check_eq!((nothing.code_blocks, nothing.code_chunks, nothing.code_chunk_bytes), (0, 0, 0));
    for old in olds.iter().copied() {
        check_eq!(library.call("rt_code_find", &[old, &raw mut found as i64]), 0);
        check_eq!(library.call("rt_is_executable", &[old]), 0);
        let not_owned = [("rt_code_free", vec![old]), ("rt_code_publish", vec![old, 1])];
        for (name, arguments) in not_owned {
            check_eq!(library.call(name, &arguments), 0);
            check_eq!(library.call("rt_last_error", &[]), RT_ERROR_NOT_OWNED.into());
        }
        let code = code(60);
        let arguments = [old, code.as_ptr() as i64, code.len() as i64, 0];
        check_eq!(library.call("rt_code_write", &arguments), -1);
        check_eq!(library.call("rt_last_error", &[]), RT_ERROR_NOT_OWNED.into());
        check_eq!(library.call("rt_call_function_0", &[old]), -1);
        check_eq!(library.call("rt_last_error", &[]), RT_ERROR_NOT_EXECUTABLE.into());
    }
    let fresh = blocks(library, 50)?;
    check!(fresh.iter().all(|block| !olds.contains(block)));
    check_eq!(library.statistics()?.code_blocks, 3);
    Ok(fresh)
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

fn shared_memory(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let flags = RT_MAP_SHARED | RT_MAP_ANONYMOUS;
    let page = machine.rules.page_size() as i64;
    let Pair(address, size) = library.call_for_pair("rt_mmap_file", [0, 3, flags.into(), 0, page]);
    check_eq!(size, page);
    let byte = address as *mut u8;
    check_eq!(library.call("rt_madvise", &[address, size, RT_ADVICE_DONTNEED.into()]), 1);
    reported(|| {
        // SAFETY: the mapping is writable.
        unsafe { byte.write_volatile(7) };
        Ok(())
    })?;
    // SAFETY: the mapping is readable.
    check_eq!(unsafe { byte.read_volatile() }, 7);
    check_eq!(library.call("rt_munmap", &[address, size]), 1);
    Ok(())
}

fn withheld(machine: &Machine, policy: i32) -> Result<(), String> {
    let (library, address) = with_code(machine, policy)?;
    let data = library.call("rt_alloc_rw_memory", &[100]);
    let publish = |number: u16| {
        check_eq!(library.write(address, &code(number)), code(number).len() as i64);
        library.call("rt_flush_icache", &[address, 100]);
        check_eq!(library.call("rt_call_function_0", &[address]), number.into());
        Ok(())
    };
    let absent = || {
        check_eq!(library.call("rt_exec_memory_count", &[]), 0);
        for address in [address, data] {
            check_eq!(library.call("rt_get_protection", &[address]), -1);
            check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 0);
            check_eq!(library.call("rt_last_error", &[]), RT_ERROR_NOT_OWNED.into());
        }
        check_eq!(library.statistics()?.mapped_bytes, 0);
        Ok(())
    };
    // Of dual memory the parent makes a copy when it writes next.
    reported(|| Ok(()))?;
    for address in [address, data] {
        check_eq!(library.call("rt_madvise", &[address, 100, RT_ADVICE_DONTFORK.into()]), 1);
    }
    reported(absent)?;
    publish(43)?;
    reported(absent)?;
    // What may be shared is not replaced.
    if policy != RT_POLICY_TOGGLE {
        check_eq!(library.call("rt_madvise", &[address, 100, RT_ADVICE_DONTNEED.into()]), 1);
        check_eq!(library.call("rt_call_function_0", &[address]), 43);
    }
    for address in [address, data] {
        check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 1);
    }
    Ok(())
}
