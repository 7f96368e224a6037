//! What a fork costs a process with much code, and the first write after one.
//!
//! A process has one policy, so each has a process of its own, and these take turns.

use execmem_benches::{is_quick, median};
use execmem_os_linux::*;
use std::hint::black_box;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::time::Instant;

const BLOCK: usize = 64_000;
static CODE: [u8; BLOCK] = [0xc3; BLOCK];

/// What a chunk of the heap has at most.
const CHUNK: usize = 4 << 20;

/// Microseconds.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / 1000.0
}

/// Memory that parent and child share.
fn shared_number() -> *mut f64 {
    map(4096, libc::MAP_SHARED).cast()
}

fn map(length: usize, kind: i32) -> *mut u8 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping.
    let start =
        unsafe { libc::mmap(std::ptr::null_mut(), length, access, kind | libc::MAP_ANONYMOUS, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.cast()
}

/// A process with code.
struct Process {
    blocks: Vec<i64>,
    source: Vec<u8>,
    target: Vec<u8>,
    result: *mut f64,
}

impl Process {
    fn new() -> Self {
        Self { blocks: Vec::new(), source: vec![1; CHUNK], target: vec![2; CHUNK], result: shared_number() }
    }

    /// How many bytes of the first block's chunk are code.
    fn used(&self) -> usize {
        CHUNK.min(self.blocks.len() * BLOCK)
    }

    /// Forks, and lets the child work and end. The time of the fork in the parent, and that of the child's work.
    fn fork(&mut self, work: impl FnOnce(&mut Self)) -> (f64, f64) {
        let mut child = 0;
        // SAFETY: the process has one thread.
        let spent = time(|| child = unsafe { libc::fork() });
        // SAFETY: the child ends, and is waited for; the number is shared memory of this program's.
        unsafe {
            if child == 0 {
                let spent = time(|| work(self));
                self.result.write(spent);
                libc::_exit(0);
            }
            libc::waitpid(child, std::ptr::null_mut(), 0);
            (spent, self.result.read())
        }
    }

    fn write(&mut self) {
        // SAFETY: the code is readable.
        assert_eq!(unsafe { rt_code_write(self.blocks[0], CODE.as_ptr(), 8, 0) }, 8);
    }

    fn copy(&mut self, fresh: Option<*mut u8>) {
        let length = self.used();
        let target = fresh.unwrap_or(self.target.as_mut_ptr());
        // SAFETY: both have room for a chunk.
        unsafe { target.copy_from_nonoverlapping(self.source.as_ptr(), length) };
        black_box(target);
    }

    /// Does a task, and gives its time in microseconds.
    fn run(&mut self, task: Task) -> f64 {
        match task {
            GROW_BY_1 | GROW_BY_100 => {
                let mebibytes = if task == GROW_BY_1 { 1 } else { 100 };
                (0..mebibytes * (1 << 20) / BLOCK).for_each(|_| self.grow());
                0.0
            }
            FORK => self.fork(|_| ()).0,
            SECOND_WRITE => {
                self.write();
                time(|| self.write())
            }
            FIRST_WRITE => {
                self.fork(|_| ());
                time(|| self.write())
            }
            FIRST_WRITE_IN_CHILD => self.fork(Self::write).1,
            COPY => {
                self.copy(None);
                time(|| self.copy(None))
            }
            FRESH_COPY | FRESH_COPY_IN_CHILD => {
                let fresh = map(CHUNK, libc::MAP_PRIVATE);
                let in_child = self.fork(|process| process.copy(Some(fresh))).1;
                let spent = if task == FRESH_COPY { time(|| self.copy(Some(fresh))) } else { in_child };
                // SAFETY: mapped above, so long.
                unsafe { libc::munmap(fresh.cast(), CHUNK) };
                spent
            }
            _ => panic!("no such task"),
        }
    }

    fn grow(&mut self) {
        // SAFETY: the code is readable.
        unsafe {
            let block = rt_code_alloc(BLOCK as i64);
            assert_eq!(rt_code_write(block, CODE.as_ptr(), BLOCK as i64, 0), BLOCK as i64);
            assert_eq!(rt_code_publish(block, BLOCK as i64), 1);
            self.blocks.push(block);
        }
    }
}

/// What a process is told to do.
type Task = u8;

const GROW_BY_1: Task = 0;
const GROW_BY_100: Task = 1;
const FORK: Task = 2;
/// A write to the chunk after a fork.
const FIRST_WRITE: Task = 3;
const FIRST_WRITE_IN_CHILD: Task = 4;
const SECOND_WRITE: Task = 5;
/// A copy of as many bytes as the chunk has, to pages that are there.
const COPY: Task = 6;
/// The same after a fork, to pages that come when they are touched.
const FRESH_COPY: Task = 7;
const FRESH_COPY_IN_CHILD: Task = 8;

/// A process that does what it is told.
struct Worker {
    tasks: PipeWriter,
    results: PipeReader,
}

impl Worker {
    fn start(policy: i32) -> Self {
        let (mut read, tasks) = std::io::pipe().expect("a pipe");
        let (results, mut write) = std::io::pipe().expect("a pipe");
        // SAFETY: this process has one thread, and has used the library for nothing yet.
        if unsafe { libc::fork() } == 0 {
            drop((tasks, results));
            // SAFETY: a wish.
            assert_eq!(unsafe { rt_exec_memory_set_policy(policy.into()) }, 1);
            let mut process = Process::new();
            let mut task = [0];
            while read.read_exact(&mut task).is_ok() {
                let spent = process.run(task[0]);
                write.write_all(&spent.to_ne_bytes()).expect("somebody waits for the time");
            }
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        Self { tasks, results }
    }

    fn ask(&mut self, task: Task) -> f64 {
        let mut spent = [0; 8];
        self.tasks.write_all(&[task]).expect("the process waits for tasks");
        self.results.read_exact(&mut spent).expect("the process tells the time");
        f64::from_ne_bytes(spent)
    }
}

/// Median times of tasks that take turns, each of a worker by its number; and median ratios of the first one's to each.
fn take_turns<const N: usize>(workers: &mut [Worker], tasks: [(usize, Task); N]) -> ([f64; N], [f64; N]) {
    let rounds = if is_quick() { 5 } else { 31 };
    let mut round = || tasks.map(|(worker, task)| workers[worker].ask(task));
    let times: Vec<[f64; N]> = (0..rounds).map(|_| round()).collect();
    let medians = std::array::from_fn(|index| median(times.iter().map(|times| times[index])));
    let ratios = std::array::from_fn(|index| median(times.iter().map(|times| times[0] / times[index])));
    (medians, ratios)
}

const RWX: usize = 0;
const DUAL: usize = 1;
const TOGGLE: usize = 2;

fn main() {
    let mut workers = [1, 2, 3].map(Worker::start);
    let steps: [(usize, &[Task]); 3] =
        [(1, &[GROW_BY_1]), (100, &[GROW_BY_100]), (400, &[GROW_BY_100, GROW_BY_100, GROW_BY_100])];
    for (mebibytes, growth) in steps {
        for worker in &mut workers {
            for task in growth {
                worker.ask(*task);
            }
        }
        let (times, ratios) = take_turns(&mut workers, [DUAL, RWX, TOGGLE].map(|worker| (worker, FORK)));
        println!(
            "{mebibytes:>4} MiB of code: fork {:>6.0} us under dual, {:>6.0} under rwx, {:>6.0} under toggle   \
             dual / rwx {:.2} (wanted <= 2)",
            times[0], times[1], times[2], ratios[1]
        );
        for (who, tasks) in [
            ("parent", [FIRST_WRITE, FRESH_COPY, COPY]),
            ("child", [FIRST_WRITE_IN_CHILD, FRESH_COPY_IN_CHILD, COPY]),
        ] {
            let (times, ratios) = take_turns(&mut workers, tasks.map(|task| (DUAL, task)));
            println!(
                "  first write by the {who:<6} {:>6.0} us   memcpy of as much: to fresh pages {:>6.0} us, to others \
                 {:>6.0} us   ratio {:.2} (wanted <= 2), {:.2}",
                times[0], times[1], times[2], ratios[1], ratios[2]
            );
        }
        println!("  a second write         {:>6.1} us", workers[DUAL].ask(SECOND_WRITE));
    }
}
