//! Comparing ways of doing the same on a machine that is shared and noisy.
//!
//! The usual harnesses measure one function after the other, so that a neighbour who wakes up between the two looks like
//! a difference. Here they take turns in short rounds, each round gives one ratio, and the median of the ratios is
//! reported.

use crate::{Role, Row, Unit, row};
use std::process::Command;

/// Whether fewer rounds are wanted (`--quick`): enough to see that all works, too few to be quoted.
pub fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// How many rounds there are.
pub fn rounds(full: usize, quick: usize) -> usize {
    if is_quick() { quick } else { full }
}

/// Processor time of this thread in nanoseconds: on a busy machine the clock on the wall measures the neighbours.
pub fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// The nanoseconds of one of so many calls.
pub fn timed(calls: usize, mut work: impl FnMut()) -> impl FnMut() -> f64 {
    move || {
        let start = now();
        for _ in 0..calls {
            work();
        }
        (now() - start) / calls as f64
    }
}

/// Who takes turns, ours first; each gives a figure for each round.
pub struct Race<'a>(Vec<(Role, &'a str, Work<'a>)>);

type Work<'a> = Box<dyn FnMut() -> f64 + 'a>;

impl<'a> Race<'a> {
    /// Ours, and nobody else yet.
    pub fn of(ours: impl FnMut() -> f64 + 'a) -> Self {
        Self(vec![(Role::Ours, "execmem", Box::new(ours))])
    }

    /// One more.
    pub fn beside(mut self, role: Role, name: &'a str, work: impl FnMut() -> f64 + 'a) -> Self {
        self.0.push((role, name, Box::new(work)));
        self
    }

    /// Lets them take turns; the figures are nanoseconds.
    pub fn row(mut self, table: &str, name: &str) -> Row {
        let mut samples = vec![Vec::new(); self.0.len()];
        for round in 0..rounds(101, 9) {
            // Who goes first changes: the first finds caches as the last left them.
            for turn in 0..samples.len() {
                let which = (round + turn) % samples.len();
                samples[which].push(self.0[which].2());
            }
        }
        let cells: Vec<_> =
            self.0.iter().zip(&samples).map(|(work, samples)| (work.0, work.1, &samples[..])).collect();
        row(table, name, Unit::Nanoseconds, &cells)
    }
}

/// Lets processes of this program take turns, and gives each one's figures: of each figure, the rounds. Every first
/// allocation in such a process is a first one.
pub fn children(rounds: usize, processes: &[Vec<&str>]) -> Vec<Vec<Vec<f64>>> {
    let mut samples = vec![Vec::<Vec<f64>>::new(); processes.len()];
    for round in 0..rounds {
        for turn in 0..processes.len() {
            let which = (round + turn) % processes.len();
            let figures = child(&processes[which]);
            samples[which].resize_with(figures.len(), Vec::new);
            samples[which].iter_mut().zip(figures).for_each(|(samples, figure)| samples.push(figure));
        }
    }
    samples
}

fn child(arguments: &[&str]) -> Vec<f64> {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.arg("child").args(arguments).args(is_quick().then_some("--quick"));
    let mut attempts = 0;
    loop {
        let output = command.output().expect("a child");
        if output.status.success() {
            return numbers(&String::from_utf8_lossy(&output.stdout));
        }
        attempts += 1;
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("{arguments:?}: {}: {said}", output.status);
        // In four threads asmjit 1.21 ends by a segmentation fault once in about eighty runs.
        assert!(arguments.contains(&"asmjit") && attempts < 3, "a benchmark failed");
    }
}

/// Bytes of this process: its share of all pages that it has, and of page tables.
pub fn memory() -> f64 {
    let read = |path: &str, name: &str| -> f64 {
        let text = std::fs::read_to_string(path).expect("proc is mounted");
        let line = text.lines().find(|line| line.starts_with(name)).expect("a kernel that tells");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("KiB")
    };
    1024.0 * (read("/proc/self/smaps_rollup", "Pss:") + read("/proc/self/status", "VmPTE:"))
}

/// The numbers between spaces.
fn numbers(text: &str) -> Vec<f64> {
    text.split_whitespace().map(|word| word.parse().expect("a number")).collect()
}

/// The value in the middle.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Of these names, those of peers that this program was built with.
pub fn peers<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let is_there = |name: &&&str| cfg!(feature = "peers") && (cfg!(asmjit) || !name.starts_with("asmjit"));
    names.iter().filter(is_there).copied().collect()
}

/// Wishes for a policy, before anything is allocated.
pub fn set_policy(name: &str) {
    let policy = ["auto", "rwx", "dual", "toggle"].iter().position(|known| *known == name).expect("a policy");
    // SAFETY: a wish.
    assert_eq!(unsafe { execmem_os_linux::rt_exec_memory_set_policy(policy as i64) }, 1);
}

/// So many bytes of code, of which the first instructions are a function that gives 42, and the rest traps.
pub fn live_function(size: usize) -> Vec<u8> {
    let (function, trap): (&[u8], &[u8]) = if cfg!(target_arch = "x86_64") {
        (&[0xb8, 42, 0, 0, 0, 0xc3], &[0xcc])
    } else {
        (&[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6], &[0, 0, 0x20, 0xd4])
    };
    let traps = trap.iter().cycle().skip(function.len()).take(size.saturating_sub(function.len()));
    function.iter().chain(traps).copied().collect()
}
