//! The write switch of `MAP_JIT` pages: what signal handlers, nested writes and other threads see of it.

use super::{Machine, Scenario, code};
use crate::host;
use crate::jit;
use crate::library::Library;
use execmem_core::abi::*;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "a write inside a write leaves the switch on, and signals wait until it is off",
        applies: |rules| rules.allows_jit() && rules.has_write_switch(),
        run: nested,
    },
    Scenario {
        name: "a thread executes MAP_JIT pages while another writes them",
        applies: |rules| rules.allows_jit(),
        run: threads,
    },
    Scenario {
        name: "the switch is off after every call, also one that fails",
        applies: |rules| rules.allows_jit(),
        run: off_after_every_call,
    },
];

/// What the signal handlers below work with.
struct Shared {
    library: Library,
    target: i64,
    /// A page that can't be read until the fault handler allows it.
    source: AtomicUsize,
}

static SHARED: OnceLock<Shared> = OnceLock::new();
static FAULTS: AtomicUsize = AtomicUsize::new(0);
static NESTED_RESULT: AtomicI64 = AtomicI64::new(0);
static COULD_WRITE: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
/// 0: not run yet; else 1 + whether the thread could write.
static USER_SIGNAL: AtomicUsize = AtomicUsize::new(0);
static RAN_INSIDE: AtomicBool = AtomicBool::new(false);

extern "C" fn user_signal(_: i32) {
    USER_SIGNAL.store(1 + usize::from(jit::may_write()), Ordering::Relaxed);
}

/// The source of a copy can't be read: writes something else meanwhile, and lets the copy go on.
fn fault(address: usize) -> bool {
    let Some(shared) = SHARED.get() else { return false };
    let source = shared.source.load(Ordering::Relaxed);
    if !(source..source + 16384).contains(&address) {
        return false;
    }
    FAULTS.fetch_add(1, Ordering::Relaxed);
    COULD_WRITE[0].store(jit::may_write(), Ordering::Relaxed);
    // SAFETY: signals the calling thread.
    unsafe { libc::raise(libc::SIGUSR1) };
    RAN_INSIDE.store(USER_SIGNAL.load(Ordering::Relaxed) != 0, Ordering::Relaxed);
    let other = code(1);
    NESTED_RESULT.store(shared.library.write(shared.target + 64, &other), Ordering::Relaxed);
    COULD_WRITE[1].store(jit::may_write(), Ordering::Relaxed);
    host::protect(source..source + 16384, libc::PROT_READ).is_ok()
}

fn nested(machine: &Machine) -> Result<(), String> {
    let library = machine.load_with_policy(RT_POLICY_JIT)?;
    let target = library.call("rt_alloc_exec_memory", &[100]);
    let code = code(42);
    let source = host::map_anywhere(16384, 16384, 3).map_err(|number| number.to_string())?;
    // SAFETY: the page is mapped and writable.
    unsafe { (source as *mut u8).copy_from_nonoverlapping(code.as_ptr(), code.len()) };
    host::protect(source..source + 16384, libc::PROT_NONE).map_err(|number| number.to_string())?;
    let shared = SHARED.get_or_init(|| Shared { library, target, source: AtomicUsize::new(source) });
    jit::pass_other_faults_to(fault);
    // SAFETY: the handler is made for it.
    unsafe { libc::signal(libc::SIGUSR1, user_signal as *const () as libc::sighandler_t) };

    let written = shared.library.call("rt_write_exec_bytes", &[target, source as i64, code.len() as i64, 0]);
    check_eq!(written, code.len() as i64);
    check_eq!(FAULTS.load(Ordering::Relaxed), 1);
    check_eq!(NESTED_RESULT.load(Ordering::Relaxed), code.len() as i64);
    check!(COULD_WRITE.iter().all(|could| could.load(Ordering::Relaxed)));
    // The signal came during the copy, and was handled behind it with the pages executable.
    check!(!RAN_INSIDE.load(Ordering::Relaxed));
    check_eq!(USER_SIGNAL.load(Ordering::Relaxed), 1);
    check!(!jit::may_write());
    shared.library.call("rt_flush_icache", &[target, 100]);
    check_eq!(shared.library.call("rt_call_function_0", &[target]), 42);
    check_eq!(shared.library.call("rt_call_function_0", &[target + 64]), 1);
    Ok(())
}

/// So many writes, each of which makes the other thread's pages fault.
const WRITES: u16 = 200;

fn threads(machine: &Machine) -> Result<(), String> {
    let library = machine.load_with_policy(RT_POLICY_JIT)?;
    let address = library.call("rt_alloc_exec_memory", &[200]);
    check_eq!(library.write(address, &code(42)), code(42).len() as i64);
    library.call("rt_flush_icache", &[address, 200]);
    let finished = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| {
            let mut calls = 0;
            while !finished.load(Ordering::Relaxed) || calls == 0 {
                check_eq!(library.call("rt_call_function_0", &[address]), 42);
                calls += 1;
            }
            Ok(())
        });
        let written = (0..WRITES).try_for_each(|number| {
            check_eq!(library.write(address + 128, &code(number)), code(number).len() as i64);
            library.call("rt_flush_icache", &[address + 128, 16]);
            check_eq!(library.call("rt_call_function_0", &[address + 128]), number.into());
            Ok(())
        });
        finished.store(true, Ordering::Relaxed);
        written.and(runner.join().map_err(|_| "the thread panicked".to_owned())?)
    })
}

fn off_after_every_call(machine: &Machine) -> Result<(), String> {
    let library = machine.load_with_policy(RT_POLICY_JIT)?;
    let address = library.call("rt_alloc_exec_memory", &[100]);
    let bytes = [0u8; 200];
    for (size, result) in [(100, 100), (101, -1), (0, 0), (-1, -1)] {
        check_eq!(library.call("rt_write_exec_bytes", &[address, bytes.as_ptr() as i64, size, 0]), result);
        check!(!jit::may_write());
    }
    check_eq!(library.call("rt_write_exec_bytes", &[address, 0, 10, 0]), -1);
    check_eq!(library.call("rt_write_exec_memory", &[address, 3, 0]), -1);
    check!(!jit::may_write());
    Ok(())
}
