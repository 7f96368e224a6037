//! What a child does. It has one thread, and all that its parent had: at rest, or in the middle of a change.

use crate::calls::{Checked, Report, did, holds, same, within};
use crate::everything::{self, Shared};
use crate::things::{self, CHILD, CHILDREN_FROM, KINDS, Kind, OWNERS, Thing, WORKERS, World};
use crate::values;
use execmem_conformance::memory::EMPTY_STATISTICS;
use execmem_conformance::symbols::*;
use execmem_core::abi::RtExecMemoryStats;
use execmem_tests_linux::children::{Status, wait};
use execmem_tests_linux::random::Random;

/// A grandchild that takes longer hangs.
const SECONDS: u32 = 30;

fn all() -> impl Iterator<Item = (usize, Kind, &'static Thing)> {
    (0..OWNERS).flat_map(|owner| things::of(owner).map(move |(kind, thing)| (owner, kind, thing)))
}

fn resting() -> impl Iterator<Item = (usize, Kind, &'static Thing)> {
    all().filter(|(_, _, thing)| thing.is_resting())
}

/// Every record has its pages; what is neither code memory nor a chunk is a mapping, of which a thread has one at most.
fn expect_records() -> Checked {
    let figures = figures()?;
    let mappings = figures.regions_by_protection.iter().sum::<i64>() - figures.regions - figures.code_chunks;
    within(
        mappings,
        0..WORKERS as i64 + 1,
        &"records of regions that have no pages, or pages without a record",
    )
}

fn figures() -> Checked<RtExecMemoryStats> {
    let mut figures = EMPTY_STATISTICS;
    holds(did!(rt_exec_memory_stats: fill_statistics(Some(&mut figures))), &"rt_exec_memory_stats")?;
    Ok(figures)
}

fn expect_all() -> Checked {
    resting().try_for_each(|(_, kind, thing)| thing.expect(kind))
}

/// The work of the child of this number.
pub fn run(number: u64, world: &World, shared: &Shared, report: &Report, has_values: bool) -> Checked {
    let mut random = Random::new(number);
    report.enter(&"a child counts what it has");
    expect_records()?;
    report.enter(&"a child looks at what rested");
    expect_all()?;
    report.enter(&"a child settles what was changing");
    for (owner, kind, thing) in all().filter(|(_, _, thing)| thing.is_changing()) {
        thing.settle(owner, kind, world)?;
    }
    report.enter(&"a child uses what its parent's threads share");
    shared.use_alone(CHILDREN_FROM + 1, 0..CHILDREN_FROM, world)?;
    report.enter(&"a child changes its parent's things");
    change_some(&mut random, world)?;
    if has_values {
        values::register()?;
    }
    if number.is_multiple_of(2) {
        report.enter(&"a child makes things of its own");
        for (kind, thing) in things::of(CHILD) {
            thing.arrive(CHILD, kind, CHILDREN_FROM + 2, 100 + random.below(4000) as i64, world)?;
            thing.expect(kind)?;
        }
    }
    if number % 4 == 1 {
        report.enter(&"a child does all the rest");
        everything::all(shared.files[CHILD], world, false)?;
    }
    if number % 16 == 3 {
        report.enter(&"a child forks");
        grandchild(world, shared)?;
    }
    report.enter(&"a child looks at everything again");
    expect_all()?;
    if number % 8 == 5 {
        report.enter(&"a child frees everything");
        free_all(world, shared)?;
    }
    Ok(())
}

fn change_some(random: &mut Random, world: &World) -> Checked {
    let number = CHILDREN_FROM + 3 + random.below(40) as u8;
    for (owner, kind, thing) in resting().filter(|_| random.below(8) == 0) {
        thing.change(owner, kind, number, world)?;
        thing.expect(kind)?;
    }
    Ok(())
}

/// The child's child finds what the child has left, and leaves nothing to it.
fn grandchild(world: &World, shared: &Shared) -> Checked {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: asks for a SIGALRM, which ends the process; so does `_exit`.
        unsafe {
            libc::alarm(SECONDS);
            let children = CHILDREN_FROM..u8::MAX;
            let done = expect_all()
                .and_then(|()| shared.use_alone(CHILDREN_FROM + 50, children, world))
                .and_then(|()| change_some(&mut Random::new(7), world));
            if let Err(wrong) = done {
                libc::_exit(wrong.line());
            }
            libc::_exit(0);
        }
    }
    holds(child > 0, &"a child can fork")?;
    match wait(child) {
        Status::Exit(line) => same(line.into(), 0, &"the line where the grandchild found something wrong"),
        Status::Signal(signal) => same(signal.into(), 0, &"the signal that ended the grandchild"),
    }
}

/// What is left then is what other threads had in hand: each at most a thing, or what it uses for all the rest.
fn free_all(world: &World, shared: &Shared) -> Checked {
    const REGIONS: i64 = OWNERS as i64;
    const BLOCKS: i64 = 4 * OWNERS as i64;
    for (owner, kind, thing) in resting() {
        thing.leave(owner, kind, world)?;
    }
    shared.free()?;
    let figures = figures()?;
    within(figures.regions, 0..REGIONS, &"regions that nobody knows of")?;
    within(figures.code_blocks, 0..BLOCKS, &"blocks that nobody knows of")?;
    // The memory can be used again.
    for kind in KINDS {
        if let Some((_, thing)) = things::of(CHILD).find(|(other, thing)| *other == kind && thing.is_absent())
        {
            thing.arrive(CHILD, kind, CHILDREN_FROM + 51, 300, world)?;
            thing.expect(kind)?;
        }
    }
    Ok(())
}
