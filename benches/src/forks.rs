//! What a fork costs a process with much code, and the first write after one.
//!
//! A process has one policy, so each has a process of its own, and these take turns.

use crate::allocators::bare::map;
use execmem_benches::{Role, Unit, now, rounds, row, set_policy};
use execmem_os_linux::*;
use std::hint::black_box;
use std::io::{PipeReader, PipeWriter, Read, Write};

const TABLE: &str = "Forks";
const BLOCK: usize = 64_000;
static CODE: [u8; BLOCK] = [0xc3; BLOCK];

/// What a chunk of the heap has at most.
const CHUNK: usize = 4 << 20;

/// Nanoseconds of this thread; those of a fork are the parent's.
fn time(work: impl FnOnce()) -> f64 {
    let start = now();
    work();
    now() - start
}

/// Memory that parent and child share.
fn shared_number() -> *mut f64 {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), 4096, access, flags, -1, 0) };
    assert_ne!(start, libc::MAP_FAILED);
    start.cast()
}

/// A process with code.
struct Process {
    blocks: Vec<i64>,
    source: Vec<u8>,
    result: *mut f64,
}

impl Process {
    fn new() -> Self {
        Self { blocks: Vec::new(), source: vec![1; CHUNK], result: shared_number() }
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

    fn copy(&mut self, target: *mut u8) {
        let length = self.used();
        // SAFETY: both have room for a chunk.
        unsafe { target.copy_from_nonoverlapping(self.source.as_ptr(), length) };
        black_box(target);
    }

    /// Does a task, and gives its time.
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
            FRESH_COPY | FRESH_COPY_IN_CHILD => {
                let fresh = map(CHUNK, libc::PROT_READ | libc::PROT_WRITE, 0) as *mut u8;
                let in_child = self.fork(|process| process.copy(fresh)).1;
                let spent = if task == FRESH_COPY { time(|| self.copy(fresh)) } else { in_child };
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
/// A copy of as many bytes as the chunk has after a fork, to pages that come when they are touched.
const FRESH_COPY: Task = 6;
const FRESH_COPY_IN_CHILD: Task = 7;

/// A process that does what it is told.
struct Worker {
    tasks: PipeWriter,
    results: PipeReader,
}

impl Worker {
    fn start(policy: &str) -> Self {
        let (mut read, tasks) = std::io::pipe().expect("a pipe");
        let (results, mut write) = std::io::pipe().expect("a pipe");
        // SAFETY: this process has one thread, and has used the library for nothing yet.
        if unsafe { libc::fork() } == 0 {
            drop((tasks, results));
            set_policy(policy);
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

/// What tasks that take turns measured, each of a worker by its number.
fn take_turns<const N: usize>(workers: &mut [Worker], tasks: [(usize, Task); N]) -> [Vec<f64>; N] {
    let mut samples = [const { Vec::new() }; N];
    for _ in 0..rounds(31, 5) {
        for (samples, (worker, task)) in samples.iter_mut().zip(tasks) {
            samples.push(workers[worker].ask(task));
        }
    }
    samples
}

const RWX: usize = 0;
const DUAL: usize = 1;
const TOGGLE: usize = 2;

pub fn run() {
    let mut workers = ["rwx", "dual", "toggle"].map(Worker::start);
    let steps: [(usize, &[Task]); 3] =
        [(1, &[GROW_BY_1]), (100, &[GROW_BY_100]), (400, &[GROW_BY_100, GROW_BY_100, GROW_BY_100])];
    for (mebibytes, growth) in steps {
        for worker in &mut workers {
            for task in growth {
                worker.ask(*task);
            }
        }
        let [dual, rwx, toggle] = take_turns(&mut workers, [DUAL, RWX, TOGGLE].map(|worker| (worker, FORK)));
        let subjects =
            [(Role::Ours, "dual", &dual[..]), (Role::Own, "rwx", &rwx), (Role::Own, "toggle", &toggle)];
        row(TABLE, "fork", Unit::Nanoseconds, &subjects).at(mebibytes, "MiB of code").print();
        for (name, tasks) in [
            ("first write to a chunk in the parent", [FIRST_WRITE, FRESH_COPY]),
            ("first write to a chunk in the child", [FIRST_WRITE_IN_CHILD, FRESH_COPY_IN_CHILD]),
        ] {
            let [ours, fresh] = take_turns(&mut workers, tasks.map(|task| (DUAL, task)));
            let subjects =
                [(Role::Ours, "dual", &ours[..]), (Role::Bare, "memcpy of as much to fresh pages", &fresh)];
            row(TABLE, name, Unit::Nanoseconds, &subjects).at(mebibytes, "MiB of code").why(
                "the copy is new shared memory, which is mapped, filled and then put behind both views, while others \
                 execute in them",
            ).print();
        }
        let [second] = take_turns(&mut workers, [(DUAL, SECOND_WRITE)]);
        let subjects = [(Role::Ours, "dual", &second[..])];
        row(TABLE, "second write", Unit::Nanoseconds, &subjects).at(mebibytes, "MiB of code").print();
    }
}
