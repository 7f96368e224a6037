//! Several cores: what one writes, the others execute.
//!
//! QEMU's system mode never executes stale code, so a core that was not interrupted is not found by what it
//! executes: the tests count the interrupts. That `isb` is in the handler no QEMU can prove.

use crate::machine;
use crate::report::{Report, check, check_eq};
use crate::vectors::{self, SYNCHRONIZED};
use core::array;
use core::sync::atomic::{AtomicU64, Ordering};
use execmem_conformance::code::returning;
use execmem_conformance::memory::*;
use execmem_conformance::symbols::*;
use execmem_conformance::verdict::Verdict;

/// So many cores can take part.
pub const MAX_CORES: usize = 4;
const ROUNDS: u64 = 10_000;

/// What a core is asked to do: call a function in the C convention, with an argument.
struct Job {
    function: AtomicU64,
    argument: AtomicU64,
    result: AtomicU64,
    /// Counts jobs that were given, and that were done.
    given: AtomicU64,
    done: AtomicU64,
}

static JOBS: [Job; MAX_CORES] = [const {
    Job {
        function: AtomicU64::new(0),
        argument: AtomicU64::new(0),
        result: AtomicU64::new(0),
        given: AtomicU64::new(0),
        done: AtomicU64::new(0),
    }
}; MAX_CORES];

/// How many other cores wait for jobs.
static READY: AtomicU64 = AtomicU64::new(0);

/// What each core but the first does for ever. `enter_tables` lets it use the machine's page tables.
pub fn serve(enter_tables: impl FnOnce()) -> ! {
    enter_tables();
    vectors::install();
    machine::take_interrupts();
    READY.fetch_add(1, Ordering::SeqCst);
    machine::wake_others();
    let job = &JOBS[vectors::core_number()];
    let mut served = 0;
    loop {
        machine::sleep_until(|| job.given.load(Ordering::Acquire) != served);
        served += 1;
        let function = job.function.load(Ordering::Relaxed) as usize;
        // SAFETY: the first core gives functions of this type.
        let function: extern "C" fn(u64) -> u64 = unsafe { core::mem::transmute(function) };
        job.result.store(function(job.argument.load(Ordering::Relaxed)), Ordering::Relaxed);
        job.done.store(served, Ordering::Release);
        machine::wake_others();
    }
}

/// Waits until so many cores are there.
pub fn wait_for(others: usize) {
    machine::sleep_until(|| READY.load(Ordering::SeqCst) >= others as u64);
}

fn give(core: usize, function: u64, argument: u64) {
    let job = &JOBS[core];
    job.function.store(function, Ordering::Relaxed);
    job.argument.store(argument, Ordering::Relaxed);
    job.given.fetch_add(1, Ordering::Release);
    machine::wake_others();
}

fn result(core: usize) -> u64 {
    let job = &JOBS[core];
    machine::sleep_until(|| job.done.load(Ordering::Acquire) == job.given.load(Ordering::Relaxed));
    job.result.load(Ordering::Relaxed)
}

/// Runs all of them, on so many cores.
pub fn run(report: &mut Report, cores: usize) {
    report
        .test("cores: what one core rewrites in place the others execute, 10,000 times", || rewriting(cores));
    report.test("cores: code that moves between pages arrives on the other cores", || moving(cores));
    report.test("cores: cores that publish at the same time don't wait for each other for ever", || {
        at_once(cores)
    });
    report.test("cores: every core has its own last error", || last_errors(cores));
}

fn rewriting(cores: usize) -> Verdict {
    let address = executable(&returning(0))?;
    let before: [u64; MAX_CORES] = array::from_fn(|core| SYNCHRONIZED[core].load(Ordering::Relaxed));
    for round in 0..ROUNDS {
        let value = round as u8;
        check_eq!(write_bytes(address, &returning(value), 0), 8);
        rt_flush_icache(address, 8);
        for core in 1..cores {
            give(core, address as u64, 0);
        }
        for core in 1..cores {
            check_eq!(result(core), u64::from(value));
        }
    }
    for core in 1..cores {
        check!(SYNCHRONIZED[core].load(Ordering::Relaxed) - before[core] >= ROUNDS);
    }
    free(address, 8)
}

fn moving(cores: usize) -> Verdict {
    for round in 0..200 {
        let address = executable(&returning(round))?;
        for core in 1..cores {
            give(core, address as u64, 0);
        }
        for core in 1..cores {
            check_eq!(result(core), u64::from(round));
        }
        free(address, 8)?;
    }
    Ok(())
}

/// Rewrites code of its own and calls it. Returns how many rounds went well.
extern "C" fn rewrite_own(rounds: u64) -> u64 {
    let Ok(address) = executable(&returning(0)) else { return 0 };
    let mut good = 0;
    for round in 0..rounds {
        let value = round as u8;
        write_bytes(address, &returning(value), 0);
        rt_flush_icache(address, 8);
        good += u64::from(call(address, &[]) == i64::from(value));
    }
    if free(address, 8).is_ok() { good } else { 0 }
}

fn at_once(cores: usize) -> Verdict {
    const ROUNDS: u64 = 1000;
    for core in 1..cores {
        give(core, rewrite_own as *const () as u64, ROUNDS);
    }
    check_eq!(rewrite_own(ROUNDS), ROUNDS);
    for core in 1..cores {
        check_eq!(result(core), ROUNDS);
    }
    Ok(())
}

extern "C" fn fail_and_ask(_: u64) -> u64 {
    rt_alloc_exec_memory(-1);
    rt_last_error() as u64
}

fn last_errors(cores: usize) -> Verdict {
    use execmem_core::abi::{RT_ERROR_INVALID_ARGUMENT, RT_ERROR_NOT_OWNED};
    check!(!rt_free_exec_memory(1, 1));
    for core in 1..cores {
        give(core, fail_and_ask as *const () as u64, 0);
        check_eq!(result(core), RT_ERROR_INVALID_ARGUMENT as u64);
    }
    check_eq!(rt_last_error(), RT_ERROR_NOT_OWNED);
    Ok(())
}
