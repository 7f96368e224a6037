//! Instruction caches: what was written is what runs.
//!
//! These rules can't catch a missing `dc cvau`, `isb` or membarrier: no emulator shows that, and on most
//! machines one core sees its own stores. What they do catch, under qemu's user mode for aarch64, 8.1 or
//! newer, is an `ic ivau` that is missing or goes through the wrong one of two views; and only where
//! the memory has two views. The last rule proves that they can see it.

use crate::code::returning;
use crate::memory::*;
use crate::symbols::*;
use crate::verdict::{Stop, Verdict, check, check_eq};
use crate::{Rule, World};

pub(super) const RULES: &[Rule] = &[
    Rule::new("100 rewrites of code in place, flushed: every call runs the newest", rewrites),
    Rule::new(
        "100 rewrites through rt_make_writable and rt_make_executable: every call runs the newest",
        flips,
    ),
    Rule::new("a flush of a few bytes in the middle covers them, at any alignment", small_flushes),
    Rule::new("code at an address that was freed and given out again is the new code", reused_addresses),
    Rule::new("without `ic ivau` on the executable view stale code runs, and these rules see it", twin),
];

const ROUNDS: u8 = 100;

/// Rewrites a function so often, and counts the calls that ran an older one.
fn stale_calls(
    address: i64,
    mut write: impl FnMut(&[u8]) -> Verdict,
    mut make_coherent: impl FnMut(),
) -> Result<u32, Stop> {
    let mut stale = 0;
    for round in 0..ROUNDS {
        write(&returning(round))?;
        make_coherent();
        if call(address, &[]) != round as i64 {
            stale += 1;
        }
    }
    Ok(stale)
}

fn rewrites(_: &World) -> Verdict {
    let address = alloc_exec(page())?;
    let write = |code: &[u8]| {
        check_eq!(write_bytes(address, code, 0), code.len() as i64);
        Ok(())
    };
    check_eq!(stale_calls(address, write, || rt_flush_icache(address, 8))?, 0);
    let size = page();
    free(address, size)
}

fn flips(_: &World) -> Verdict {
    protection_can_change()?;
    for address in [alloc_exec(page())?, alloc_rw(page())?] {
        let write = |code: &[u8]| {
            check!(rt_make_writable(address, 8));
            store(address, code);
            check!(rt_make_executable(address, 8));
            Ok(())
        };
        check_eq!(stale_calls(address, write, || ())?, 0);
        free(address, page())?;
    }
    Ok(())
}

fn small_flushes(_: &World) -> Verdict {
    let address = alloc_exec(2 * page())?;
    let step = returning(0).len() as i64;
    // Across the pages' border, function by function.
    let places = || (page() - 5 * step..page() + 5 * step).step_by(step as usize);
    for value in 0..3u8 {
        for place in places() {
            let code = returning(value + (place / step % 50) as u8);
            check_eq!(write_bytes(address, &code, place), step);
            rt_flush_icache(address + place, step);
        }
        for place in places() {
            check_eq!(call(address + place, &[]), value as i64 + place / step % 50);
        }
    }
    free(address, 2 * page())
}

fn reused_addresses(_: &World) -> Verdict {
    let mut earlier = 0;
    let mut reused = 0;
    for round in 0..50u8 {
        let code = returning(round);
        let address = executable(&code)?;
        check_eq!(call(address, &[]), round as i64);
        reused += i32::from(address == earlier);
        earlier = address;
        free(address, code.len() as i64)?;
    }
    // A system that never gives an address out again passes without having been tried.
    match reused {
        0 => Err("this system gave out no address twice".into()),
        _ => Ok(()),
    }
}

fn twin(world: &World) -> Verdict {
    world.shows_stale_code?;
    let (writable, executable) = world.two_views?(page() as usize);
    let write = |code: &[u8]| {
        store(writable, code);
        Ok(())
    };
    let none = stale_calls(executable, write, || maintenance::without_invalidation(writable))?;
    let wrong = stale_calls(executable, write, || maintenance::complete(writable, writable))?;
    let right = stale_calls(executable, write, || maintenance::complete(writable, executable))?;
    // The very first call may be right: nothing older was there to run.
    check!(none >= ROUNDS as u32 - 1);
    check!(wrong >= ROUNDS as u32 - 1);
    check_eq!(right, 0);
    Ok(())
}

/// The test's own cache maintenance, to leave a part out: the library has no such switch.
#[cfg(target_arch = "aarch64")]
mod maintenance {
    use core::arch::asm;

    /// All that is needed but `ic ivau`.
    pub fn without_invalidation(written: i64) {
        // SAFETY: the line is mapped; the rest are barriers.
        unsafe { asm!("dc cvau, {}", "dsb ish", "isb", in(reg) written, options(nostack)) };
    }

    /// The first line of each view.
    pub fn complete(written: i64, executed: i64) {
        // SAFETY: both lines are mapped; the rest are barriers.
        unsafe {
            asm!(
                "dc cvau, {}", "dsb ish", "ic ivau, {}", "dsb ish", "isb",
                in(reg) written, in(reg) executed, options(nostack)
            )
        };
    }
}

#[cfg(not(target_arch = "aarch64"))]
mod maintenance {
    /// Only an aarch64 machine shows stale code.
    pub fn without_invalidation(_: i64) {}
    /// Only an aarch64 machine shows stale code.
    pub fn complete(_: i64, _: i64) {}
}
