//! The threads of the storm: eight that work, two that fork, one that watches them, and one that watches the pages.

use crate::calls::{Checked, FORKERS, Report, Wrong, board, holds};
use crate::child;
use crate::everything::{self, Shared};
use crate::things::{self, CHILDREN_FROM, Kind, Thing, WORKERS, World};
use crate::values;
use execmem_core::abi::{RT_POLICY_DUAL, RT_POLICY_TOGGLE};
use execmem_tests_linux::children::{Status, wait};
use execmem_tests_linux::maps;
use execmem_tests_linux::programs;
use execmem_tests_linux::random::Random;
use execmem_tests_linux::system::{is_emulated, is_slow};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A storm: so many forks in all.
pub struct Storm<'a> {
    pub world: &'a World,
    pub shared: &'a Shared,
    pub forks: u64,
    /// Whether values of a language runtime come in the middle.
    pub with_values: bool,
}

/// What the threads tell each other.
struct Run {
    start: Instant,
    is_over: AtomicBool,
    has_ended: AtomicBool,
    has_values: AtomicBool,
    forks: AtomicU64,
    failures: AtomicU64,
    /// How much each worker has done.
    steps: [AtomicU64; WORKERS],
}

/// So many wrong results are told; then the storm ends.
const MOST_FAILURES: u64 = 10;

impl Run {
    fn fail(&self, what: &str) {
        println!("    {what}");
        if self.failures.fetch_add(1, Relaxed) + 1 >= MOST_FAILURES {
            self.is_over.store(true, Relaxed);
        }
    }

    fn check(&self, who: &str, done: Checked) {
        if let Err(wrong) = done {
            self.is_over.store(true, Relaxed);
            self.fail(&format!("{who}: {wrong}"));
        }
    }
}

impl Storm<'_> {
    /// How many things were wrong.
    pub fn run(&self) -> u64 {
        let run = Run {
            start: Instant::now(),
            is_over: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            has_values: AtomicBool::new(false),
            forks: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            steps: [const { AtomicU64::new(0) }; WORKERS],
        };
        run.check("before the threads", self.shared.begin(self.world));
        thread::scope(|scope| {
            let run = &run;
            let workers: Vec<_> = (0..WORKERS)
                .map(|owner| scope.spawn(move || run.check("a thread", self.work(owner, run))))
                .collect();
            let forkers: Vec<_> = (0..FORKERS)
                .map(|number| {
                    scope.spawn(move || run.check("a thread that forks", self.fork_often(number, run)))
                })
                .collect();
            scope.spawn(|| watch(run));
            let has_own_kernel = !is_emulated();
            if has_own_kernel && [RT_POLICY_DUAL, RT_POLICY_TOGGLE].contains(&self.world.policy) {
                scope.spawn(|| watch_pages(run));
            }
            // A thread that panics says so itself.
            let mut panics = forkers.into_iter().filter_map(|thread| thread.join().err()).count();
            run.is_over.store(true, Relaxed);
            panics += workers.into_iter().filter_map(|thread| thread.join().err()).count();
            run.failures.fetch_add(panics as u64, Relaxed);
            run.has_ended.store(true, Relaxed);
        });
        let steps: u64 = run.steps.iter().map(|steps| steps.load(Relaxed)).sum();
        let (forks, seconds) = (run.forks.load(Relaxed), run.start.elapsed().as_secs_f64());
        println!("    {forks} forks and {steps} steps of the threads in {seconds:.1} s");
        if forks < self.forks {
            run.fail("the forks were not all made");
        }
        run.failures.load(Relaxed)
    }

    fn work(&self, owner: usize, run: &Run) -> Checked {
        let mut random = Random::new(owner as u64);
        let things: Vec<(Kind, &Thing)> = things::of(owner).collect();
        let mut step = 0u64;
        while !run.is_over.load(Relaxed) {
            step += 1;
            run.steps[owner].store(step, Relaxed);
            let (kind, thing) = things[random.below(things.len())];
            let number = random.below(CHILDREN_FROM.into()) as u8;
            if thing.is_absent() {
                thing.arrive(owner, kind, number, 100 + random.below(6000) as i64, self.world)?;
                continue;
            }
            match random.below(8) {
                0 => thing.leave(owner, kind, self.world)?,
                1..=4 => thing.change(owner, kind, number, self.world)?,
                _ => thing.expect(kind)?,
            }
            if step.is_multiple_of(8) {
                self.shared.use_with_others(owner, self.world)?;
            }
            if step.is_multiple_of(16) {
                everything::all(self.shared.files[owner], self.world, step.is_multiple_of(256))?;
            }
            if run.has_values.load(Relaxed) && step.is_multiple_of(64) {
                values::register()?;
            }
        }
        self.leave_all(owner)
    }

    fn leave_all(&self, owner: usize) -> Checked {
        let mut present = things::of(owner).filter(|(_, thing)| !thing.is_absent());
        present.try_for_each(|(kind, thing)| thing.leave(owner, kind, self.world))
    }

    fn fork_often(&self, number: usize, run: &Run) -> Checked {
        let owner = WORKERS + number;
        let report = &board().reports[number];
        let mut random = Random::new(owner as u64);
        for (kind, thing) in things::of(owner) {
            thing.arrive(owner, kind, 1, 100 + random.below(4000) as i64, self.world)?;
        }
        while !run.is_over.load(Relaxed) {
            let fork = run.forks.fetch_add(1, Relaxed);
            if fork >= self.forks {
                run.forks.store(self.forks, Relaxed);
                break;
            }
            if self.with_values && fork >= self.forks / 2 && !run.has_values.swap(true, Relaxed) {
                values::register()?;
            }
            report.since.store(run.start.elapsed().as_millis() as u64 + 1, Relaxed);
            report.enter(&"a fork");
            match fork % 50 {
                49 => spawn()?,
                _ => self.fork(fork, run, report)?,
            }
            report.enter(&"what is the parent's after a fork");
            for (kind, thing) in things::of(owner) {
                thing.expect(kind)?;
                if random.below(8) == 0 {
                    thing.change(owner, kind, random.below(CHILDREN_FROM.into()) as u8, self.world)?;
                }
            }
            report.since.store(0, Relaxed);
        }
        self.leave_all(owner)
    }

    fn fork(&self, number: u64, run: &Run, report: &Report) -> Checked {
        let has_values = run.has_values.load(Relaxed);
        // SAFETY: the child uses this library, the C library's allocator, and memory; it ends without clean-up.
        let child = unsafe { libc::fork() };
        if child == 0 {
            crate::calls::become_child();
            let done = child::run(number, self.world, self.shared, report, has_values);
            let status = done.map_or_else(
                |wrong| {
                    report.tell(wrong);
                    1
                },
                |()| 0,
            );
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(status) };
        }
        holds(child > 0, &"the process can fork")?;
        report.child.store(child, Relaxed);
        await_end(child);
        report.child.store(0, Relaxed);
        let status = wait(child);
        if status != Status::Exit(0) {
            run.fail(&format!("the child of fork {number} ended with {status:?}, {}", report.read()));
        }
        Ok(())
    }
}

/// Waits until a child has ended; its number stays its own until it is waited for.
fn await_end(child: libc::pid_t) {
    // SAFETY: room for what is told of a child of this process.
    unsafe {
        let mut information: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOWAIT;
        while libc::waitid(libc::P_PID, child as libc::id_t, &mut information, flags) < 0 {}
    }
}

/// Another program: its process shares this one's memory until then.
fn spawn() -> Checked {
    let [program, argument] = programs::idle();
    let arguments = [program.as_ptr().cast_mut(), argument.as_ptr().cast_mut(), std::ptr::null_mut()];
    let nothing = [std::ptr::null_mut()];
    let mut child = 0;
    // SAFETY: C strings, and lists that end with NULL.
    let error = unsafe {
        libc::posix_spawn(
            &mut child,
            program.as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            arguments.as_ptr(),
            nothing.as_ptr(),
        )
    };
    crate::calls::same(error.into(), 0, &"posix_spawn of a program")?;
    holds(wait(child) == Status::Exit(0), &"a program that does nothing")
}

/// Nothing takes so long.
fn patience() -> Duration {
    Duration::from_secs(if is_slow() { 300 } else { 60 })
}

/// Ends what hangs, and says what that was at: a child, or else the whole process.
fn watch(run: &Run) {
    let mut last = [(0, Instant::now()); WORKERS];
    let mut told = Instant::now();
    while !run.has_ended.load(Relaxed) {
        thread::sleep(Duration::from_millis(100));
        if told.elapsed() > Duration::from_secs(60) {
            told = Instant::now();
            println!("    {} forks so far", run.forks.load(Relaxed));
        }
        for (number, report) in board().reports.iter().enumerate() {
            let since = report.since.load(Relaxed);
            if since == 0 || run.start.elapsed() < Duration::from_millis(since) + patience() {
                continue;
            }
            let child = report.child.load(Relaxed);
            run.fail(&format!("fork of thread {number}, child {child}, hangs {}", report.read()));
            tell_threads(child);
            if child == 0 {
                end_all();
            }
            // SAFETY: a child of this process that was not waited for yet.
            unsafe { libc::kill(child, libc::SIGKILL) };
            report.since.store(0, Relaxed);
            run.is_over.store(true, Relaxed);
        }
        for ((steps, since), worker) in last.iter_mut().zip(&run.steps) {
            let now = worker.load(Relaxed);
            if now != *steps {
                (*steps, *since) = (now, Instant::now());
            } else if since.elapsed() > patience() {
                run.fail(&format!("a thread hangs after {now} steps"));
                tell_threads(0);
                end_all();
            }
        }
    }
}

/// No page may be writable and executable, at any moment that the kernel can be asked at.
fn watch_pages(run: &Run) {
    let mut samples = 0u64;
    while !run.has_ended.load(Relaxed) {
        samples += 1;
        if let Some(line) = maps::lines().into_iter().find(|line| line.protection & 6 == 6) {
            run.fail(&format!("pages are writable and executable: {line:?}"));
            run.is_over.store(true, Relaxed);
        }
    }
    println!("    {samples} looks at the pages");
}

/// What the kernel says of the threads of a child, or of this process.
fn tell_threads(process: libc::pid_t) {
    let process = if process == 0 { "self".to_owned() } else { process.to_string() };
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process}/task")) else { return };
    for thread in threads.flatten() {
        let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        println!("    thread {:?} in {}: {}", thread.file_name(), read("wchan"), read("syscall").trim());
    }
}

fn end_all() -> ! {
    // SAFETY: ends the process; a thread of it hangs.
    unsafe { libc::_exit(1) }
}

/// Wrong results of the whole are told as those of threads are.
pub fn tell(wrong: Wrong) -> u64 {
    println!("    {wrong}");
    1
}
