//! The code heap: many small functions in a few shared chunks.

use crate::code::returning;
use crate::memory::*;
use crate::snapshot::check_harmless;
use crate::symbols::*;
use crate::verdict::{Stop, Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("a function that was written and published runs, and can be freed", life),
    Rule::new("100 functions at reused addresses, published: every call runs the newest", reuse),
    Rule::new("a batch is published as its members are, and all of it or nothing", batches),
    Rule::new("an empty range of a live block is published by doing nothing", empty_ranges),
    Rule::new("blocks are aligned to 64 bytes and never overlap", apart),
    Rule::new("the heap's pages are code, and never writable outside policy rwx", pages),
    Rule::new("a write stays inside its block, or nothing is written", writes),
    Rule::new("what is stored through the write view is what runs; without two views there is none", views),
    Rule::new("every address of a live block leads to it, and no other does", finding),
    Rule::new("a block that is shrunk keeps its code and its start, and lookups know its new end", shrinks),
    Rule::new("only a live block's start can be freed, and only once", frees),
    Rule::new("a patched word of live code runs from then on; an odd address is refused", patches),
    Rule::new("a block near a target lies within the distance, or there is none", near),
    Rule::new("code becomes huge where the system can do that, as the figures say, and runs on", promotion),
    Rule::new(
        "sizes and limits that can't be are refused, and page operations don't reach the heap",
        refusals,
    ),
];

/// A block that holds a function which returns `value`, published.
fn function(value: u8) -> Result<i64, Stop> {
    let code = returning(value);
    let address = given(rt_code_alloc(code.len() as i64))?;
    check_eq!(write_block(address, &code, 0), code.len() as i64);
    check!(rt_code_publish(address, code.len() as i64));
    Ok(address)
}

fn life(_: &World) -> Verdict {
    let before = statistics()?;
    let address = function(42)?;
    check_eq!(call(address, &[]), 42);
    let during = statistics()?;
    check_eq!(during.code_blocks, before.code_blocks + 1);
    check_eq!(during.code_bytes, before.code_bytes + returning(42).len() as i64);
    check!(during.code_chunks >= 1 && during.code_chunk_bytes > 0 && during.code_clusters >= 1);
    check!(rt_code_free(address));
    check_eq!(statistics()?.code_blocks, before.code_blocks);
    Ok(())
}

fn reuse(_: &World) -> Verdict {
    for value in 0..100 {
        let address = function(value)?;
        check_eq!(call(address, &[]), value as i64);
        check!(rt_code_free(address));
    }
    Ok(())
}

fn empty_ranges(_: &World) -> Verdict {
    let block = given(rt_code_alloc(100))?;
    for offset in [0, 1, 100] {
        check!(rt_code_publish(block + offset, 0));
        check!(publish_all(&[block + offset, block], &[0, 100]));
    }
    check_fails!(rt_code_publish(block + 101, 0), false, RT_ERROR_NOT_OWNED);
    check_fails!(rt_code_publish(0, 0), false, RT_ERROR_INVALID_ARGUMENT);
    check!(rt_code_free(block));
    check_fails!(rt_code_publish(block, 0), false, RT_ERROR_NOT_OWNED);
    Ok(())
}

fn batches(_: &World) -> Verdict {
    const COUNT: usize = 20;
    let (mut addresses, mut sizes) = ([0; COUNT], [0; COUNT]);
    for round in 0..2 {
        for index in 0..COUNT {
            let code = returning(round * 100 + index as u8);
            sizes[index] = code.len() as i64;
            addresses[index] = given(rt_code_alloc(sizes[index]))?;
            check_eq!(write_block(addresses[index], &code, 0), sizes[index]);
        }
        check!(publish_all(&addresses, &sizes));
        for (index, address) in addresses.into_iter().enumerate() {
            check_eq!(call(address, &[]), (round * 100) as i64 + index as i64);
            check!(rt_code_free(address));
        }
    }
    check!(publish_all(&[], &[]));
    check_fails!(publish_all(&addresses, &sizes), false, RT_ERROR_NOT_OWNED);
    let live = function(1)?;
    check_fails!(publish_all(&[live, live], &[8, -1]), false, RT_ERROR_INVALID_ARGUMENT);
    check!(rt_code_free(live));
    Ok(())
}

fn apart(_: &World) -> Verdict {
    const COUNT: usize = 200;
    let size = |index: usize| 1 + (index as i64 * 37) % 1031;
    let mut addresses = [0; COUNT];
    for (index, address) in addresses.iter_mut().enumerate() {
        *address = given(rt_code_alloc(size(index)))?;
        check_eq!(*address % 64, 0);
    }
    for (index, address) in addresses.into_iter().enumerate() {
        for (other, begin) in addresses.into_iter().enumerate() {
            check!(other == index || begin + size(other) <= address || address + size(index) <= begin);
        }
    }
    for address in addresses {
        check!(rt_code_free(address));
    }
    Ok(())
}

fn pages(world: &World) -> Verdict {
    let address = function(7)?;
    check!(rt_is_executable(address));
    let protection = rt_get_protection(address);
    check!(
        protection == made_executable() || (protection == code_protection() && writable_code_is_allowed())
    );
    let view = rt_code_write_view(address);
    check!(view == 0 || rt_get_protection(view) == RW);
    if let (Ok(any), false) = (world.has_writable_code, writable_code_is_allowed()) {
        check!(!any());
    }
    check!(rt_code_free(address));
    Ok(())
}

fn writes(_: &World) -> Verdict {
    let code = returning(3);
    let size = code.len() as i64;
    let address = function(3)?;
    let watched = [(address, size)];
    check_eq!(write_block(address, &[], 0), 0);
    check_eq!(write_block(address, &[], size), 0);
    for offset in [1, size, 32, i64::MAX] {
        check_harmless!(&watched, write_block(address, &code, offset), -1, rt_last_error());
    }
    check_harmless!(&watched, write_block(address, &code, -1), -1, RT_ERROR_INVALID_ARGUMENT);
    check_harmless!(&watched, write_null_to_block(address, 1), -1, RT_ERROR_INVALID_ARGUMENT);
    check_eq!(call(address, &[]), 3);
    check!(rt_code_free(address));
    check_fails!(write_block(address, &code, 0), -1, RT_ERROR_NOT_OWNED);
    Ok(())
}

fn views(_: &World) -> Verdict {
    let address = function(1)?;
    let code = returning(2);
    let view = rt_code_write_view(address);
    if view == 0 {
        check_eq!(write_block(address, &code, 0), code.len() as i64);
    } else {
        check!(view != address);
        store(view, &code);
    }
    check!(rt_code_publish(address, code.len() as i64));
    check_eq!(call(address, &[]), 2);
    check!(rt_code_free(address));
    check_fails!(rt_code_write_view(address), 0, rt_last_error());
    Ok(())
}

fn finding(_: &World) -> Verdict {
    let size = 100;
    let address = given(rt_code_alloc(size))?;
    for inside in [address, address + 1, address + 64, address + size - 1] {
        check_eq!(find_block(inside), Some((address, size)));
    }
    for outside in [address - 1, address + size] {
        check!(find_block(outside) != Some((address, size)));
    }
    for nowhere in [0, -1, 1, i64::MIN, i64::MAX] {
        check_eq!(find_block(nowhere), None);
    }
    check!(rt_code_free(address));
    check_eq!(find_block(address), None);
    Ok(())
}

fn shrinks(world: &World) -> Verdict {
    let code = returning(6);
    let size = code.len() as i64;
    let before = statistics()?;
    let address = given(rt_code_alloc(4096))?;
    check_eq!(write_block(address, &code, 0), size);
    check!(rt_code_publish(address, size));
    let watched = [(address, size)];
    for wrong in [4097, i64::MAX - address, i64::MAX, 0, -1, i64::MIN] {
        check_harmless!(&watched, rt_code_shrink(address, wrong), false, RT_ERROR_INVALID_ARGUMENT);
    }
    for other in [address + 1, address + 32, world.foreign_data] {
        check_harmless!(&watched, rt_code_shrink(other, 1), false, RT_ERROR_NOT_OWNED);
    }
    check_eq!(find_block(address + 4095), Some((address, 4096)));
    check!(rt_code_shrink(address, size) && rt_code_shrink(address, size));
    check_eq!(find_block(address + size - 1), Some((address, size)));
    check!(find_block(address + size).is_none_or(|(start, _)| start != address));
    check_eq!(statistics()?.code_bytes, before.code_bytes + size);
    check_fails!(write_block(address, &code, 1), -1, RT_ERROR_NOT_OWNED);
    let neighbour = function(7)?;
    check_eq!(call(neighbour, &[]), 7);
    check_eq!(call(address, &[]), 6);
    // The same before anything is written.
    let fresh = given(rt_code_alloc(4096))?;
    check!(rt_code_shrink(fresh, size));
    check_eq!(write_block(fresh, &code, 0), size);
    check!(rt_code_publish(fresh, size));
    check_eq!(call(fresh, &[]), 6);
    for block in [address, neighbour, fresh] {
        check!(rt_code_free(block));
    }
    check_fails!(rt_code_shrink(address, 1), false, RT_ERROR_NOT_OWNED);
    check_eq!(statistics()?.code_bytes, before.code_bytes);
    Ok(())
}

fn frees(world: &World) -> Verdict {
    let address = given(rt_code_alloc(200))?;
    let neighbour = function(9)?;
    let before = statistics()?.code_blocks;
    for other in [address + 1, address + 32, address - 32 + 1, 0, -1, i64::MIN, world.foreign_data] {
        check!(!rt_code_free(other));
    }
    check_eq!(statistics()?.code_blocks, before);
    check!(rt_code_free(address));
    check_fails!(rt_code_free(address), false, RT_ERROR_NOT_OWNED);
    check_eq!(statistics()?.code_blocks, before - 1);
    check_eq!(call(neighbour, &[]), 9);
    check!(rt_code_free(neighbour));
    Ok(())
}

fn patches(_: &World) -> Verdict {
    let address = function(1)?;
    let code = returning(2);
    let mut word = [0; 8];
    word.copy_from_slice(&code[..8]);
    check_fails!(rt_code_patch(address + 4, 0), false, RT_ERROR_INVALID_ARGUMENT);
    let patched = rt_code_patch(address, u64::from_le_bytes(word));
    // A page that is flipped can't be executed meanwhile, so nothing is patched under that policy.
    check_eq!(patched, rt_exec_memory_policy() != RT_POLICY_TOGGLE);
    check_eq!(call(address, &[]), if patched { 2 } else { 1 });
    check!(rt_code_free(address));
    let error = if patched { RT_ERROR_NOT_OWNED } else { RT_ERROR_UNSUPPORTED };
    check_fails!(rt_code_patch(address, 0), false, error);
    Ok(())
}

fn near(_: &World) -> Verdict {
    let target = given(rt_code_alloc(32))?;
    let distance = 128 << 20;
    let address = rt_code_alloc_near(100, target, distance);
    check!(address > 0 && (address - target).abs() + 100 <= distance);
    check_eq!(find_block(address + 50), Some((address, 100)));
    check!(rt_code_free(address));
    check_eq!(rt_code_alloc_near(100, target, 1), 0);
    check_fails!(rt_code_alloc_near(0, target, distance), 0, RT_ERROR_INVALID_ARGUMENT);
    check_fails!(rt_code_alloc_near(1, 0, distance), 0, RT_ERROR_INVALID_ARGUMENT);
    check!(rt_code_free(target));
    Ok(())
}

fn promotion(_: &World) -> Verdict {
    let address = function(6)?;
    let before = rt_code_promote(0);
    if before < 0 {
        check_fails!(rt_code_promote(0), -1, RT_ERROR_UNSUPPORTED);
        check_fails!(rt_code_promote(i64::MAX), -1, RT_ERROR_UNSUPPORTED);
    } else {
        check_eq!(statistics()?.huge_code_bytes, before);
        // No chunk of this rule is full; those of earlier ones may be.
        let after = rt_code_promote(i64::MAX);
        check!(after >= before || [RT_ERROR_NO_MEMORY, RT_ERROR_UNSUPPORTED].contains(&rt_last_error()));
        check_eq!(statistics()?.huge_code_bytes, before.max(after));
    }
    check_fails!(rt_code_promote(-1), -1, RT_ERROR_INVALID_ARGUMENT);
    check_fails!(rt_code_promote(i64::MIN), -1, RT_ERROR_INVALID_ARGUMENT);
    check_eq!(call(address, &[]), 6);
    check!(rt_code_free(address));
    Ok(())
}

fn refusals(_: &World) -> Verdict {
    for size in [0, -1, i64::MIN] {
        check_fails!(rt_code_alloc(size), 0, RT_ERROR_INVALID_ARGUMENT);
    }
    check_fails!(rt_code_alloc(i64::MAX), 0, RT_ERROR_OVER_LIMIT);
    check_fails!(rt_code_set_limit(0), false, RT_ERROR_INVALID_ARGUMENT);
    let address = function(5)?;
    check_fails!(rt_free_exec_memory(address, 8), false, RT_ERROR_NOT_OWNED);
    check_fails!(rt_munmap(address, 8), false, RT_ERROR_NOT_OWNED);
    check_fails!(rt_make_writable(address, 8), false, RT_ERROR_NOT_OWNED);
    check_fails!(write_bytes(address, &[0], 0), -1, RT_ERROR_NOT_OWNED);
    check_fails!(rt_code_publish(address, i64::MAX), false, rt_last_error());
    check_eq!(call(address, &[]), 5);
    check!(rt_code_free(address));
    Ok(())
}
