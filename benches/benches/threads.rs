//! What more threads bring: how much 1, 2, 4 and 8 do together beside what one does alone, in the same run. With a fork
//! every few milliseconds too: each puts all code that has two views in common again.
//!
//! No row should fall below one thread's; more than there are processors can't be had.

use execmem_benches::{is_quick, median};
use execmem_os_linux::*;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

const THREADS: [usize; 4] = [1, 2, 4, 8];

/// Between two forks.
const PAUSE: Duration = Duration::from_millis(5);

/// A function that returns.
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 1024] = [0xc3; 1024];
#[cfg(target_arch = "aarch64")]
const CODE: [u8; 1024] = {
    let mut code = [0; 1024];
    [code[0], code[1], code[2], code[3]] = 0xd65f_03c0u32.to_le_bytes();
    code
};

/// What a thread has, and what it does again and again. Each does its work on things of its own.
trait Work: Sized {
    const NAME: &'static str;
    fn begin(thread: usize) -> Self;
    /// How many operations it did.
    fn step(&mut self) -> u64;
    fn end(self);
}

struct Random(u64);

impl Random {
    fn of(thread: usize) -> Self {
        Self((thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Functions of the code heap that come and go.
struct Heap {
    blocks: Vec<i64>,
    random: Random,
}

impl Heap {
    fn function(random: &mut Random) -> i64 {
        let size = 64 + random.below(960) as i64;
        // SAFETY: the code is readable, and returns.
        unsafe {
            let block = rt_code_alloc(size);
            assert_eq!(rt_code_write(block, CODE.as_ptr(), size, 0), size);
            assert_eq!(rt_code_publish(block, size), 1);
            black_box(rt_call_function_0(block));
            let mut found = [0i64; 2];
            assert_eq!(rt_code_find(block + size - 1, found.as_mut_ptr().cast()), 1);
            assert_eq!(found, [block, size]);
            block
        }
    }

    fn free(block: i64) {
        // SAFETY: nobody runs the code.
        assert_eq!(unsafe { rt_code_free(block) }, 1);
    }
}

impl Work for Heap {
    const NAME: &'static str = "heap: allocate, write, publish, call, find, free";

    fn begin(thread: usize) -> Self {
        let mut random = Random::of(thread);
        Self { blocks: (0..256).map(|_| Self::function(&mut random)).collect(), random }
    }

    fn step(&mut self) -> u64 {
        for _ in 0..16 {
            let victim = self.random.below(self.blocks.len());
            Self::free(self.blocks[victim]);
            self.blocks[victim] = Self::function(&mut self.random);
        }
        16
    }

    fn end(self) {
        self.blocks.into_iter().for_each(Self::free);
    }
}

/// Regions that come and go.
struct Regions;

impl Work for Regions {
    const NAME: &'static str = "regions: allocate, write, make executable, call, free";

    fn begin(_: usize) -> Self {
        Self
    }

    fn step(&mut self) -> u64 {
        // SAFETY: the code is readable, and returns.
        unsafe {
            let region = rt_alloc_rw_memory(5000);
            assert_eq!(rt_write_exec_bytes(region, CODE.as_ptr(), 1024, 100), 1024);
            assert_eq!(rt_make_executable(region, 5000), 1);
            black_box(rt_call_function_0(region + 100));
            assert_eq!(rt_free_exec_memory(region, 5000), 1);
        }
        1
    }

    fn end(self) {}
}

/// The system calls that a region can't do without, and no library: what of the rows above is the kernel's.
struct SystemCalls;

impl Work for SystemCalls {
    const NAME: &'static str = "beside it: mmap, copy, mprotect, call, munmap";

    fn begin(_: usize) -> Self {
        Self
    }

    fn step(&mut self) -> u64 {
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, which is used and unmapped here; the code returns.
        unsafe {
            let region = libc::mmap(std::ptr::null_mut(), 8192, access, flags, -1, 0);
            assert_ne!(region, libc::MAP_FAILED);
            region.cast::<u8>().add(100).copy_from_nonoverlapping(CODE.as_ptr(), 1024);
            assert_eq!(libc::mprotect(region, 8192, libc::PROT_READ | libc::PROT_EXEC), 0);
            if cfg!(target_arch = "x86_64") {
                std::mem::transmute::<*mut u8, extern "C" fn()>(region.cast::<u8>().add(100))();
            }
            assert_eq!(libc::munmap(region, 8192), 0);
        }
        1
    }

    fn end(self) {}
}

/// Lookups among a hundred regions and a thousand blocks.
struct Lookups {
    regions: Vec<i64>,
    blocks: Vec<i64>,
    random: Random,
}

impl Work for Lookups {
    const NAME: &'static str = "lookups: is it executable, which protection, find a block";

    fn begin(thread: usize) -> Self {
        // SAFETY: allocates.
        let (regions, blocks) = unsafe {
            let regions = (0..100).map(|_| rt_alloc_exec_memory(4096)).collect();
            (regions, (0..1000).map(|_| rt_code_alloc(500)).collect())
        };
        Self { regions, blocks, random: Random::of(thread) }
    }

    fn step(&mut self) -> u64 {
        let mut found = [0i64; 2];
        for _ in 0..300 {
            let region = self.regions[self.random.below(self.regions.len())];
            let block = self.blocks[self.random.below(self.blocks.len())];
            // SAFETY: only asks; there is room for a block.
            unsafe {
                black_box(rt_is_executable(region));
                black_box(rt_get_protection(region));
                assert_eq!(rt_code_find(block + 77, found.as_mut_ptr().cast()), 1);
            }
        }
        900
    }

    fn end(self) {
        // SAFETY: nobody runs what is there.
        unsafe {
            self.regions.into_iter().for_each(|region| assert_eq!(rt_free_exec_memory(region, 4096), 1));
        }
        self.blocks.into_iter().for_each(Heap::free);
    }
}

/// Operations in a microsecond of so many threads together.
fn throughput<W: Work>(threads: usize, with_forks: bool) -> f64 {
    let period = Duration::from_millis(if is_quick() { 40 } else { 150 });
    let (is_over, operations) = (AtomicBool::new(false), AtomicU64::new(0));
    let ready = Barrier::new(threads + 1);
    let mut spent = 0.0;
    thread::scope(|scope| {
        for thread in 0..threads {
            let (is_over, operations, ready) = (&is_over, &operations, &ready);
            scope.spawn(move || {
                let mut work = W::begin(thread);
                ready.wait();
                let mut done = 0;
                while !is_over.load(Relaxed) {
                    done += work.step();
                }
                operations.fetch_add(done, Relaxed);
                work.end();
            });
        }
        ready.wait();
        let start = Instant::now();
        while start.elapsed() < period {
            thread::sleep(if with_forks { PAUSE } else { period });
            if with_forks {
                fork();
            }
        }
        spent = start.elapsed().as_nanos() as f64 / 1000.0;
        is_over.store(true, Relaxed);
    });
    operations.load(Relaxed) as f64 / spent
}

fn fork() {
    // SAFETY: the child does nothing but end, and is waited for.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(0),
            child => libc::waitpid(child, std::ptr::null_mut(), 0),
        };
    }
}

fn row<W: Work>(policy: &str, with_forks: bool) {
    let rounds = if is_quick() { 3 } else { 9 };
    let figures: Vec<[f64; 4]> =
        (0..rounds).map(|_| THREADS.map(|threads| throughput::<W>(threads, with_forks))).collect();
    let alone = median(figures.iter().map(|figure| figure[0]));
    let forks = if with_forks { "forks" } else { "" };
    print!("{policy:<7} {:<58} {forks:<6} {alone:>9.3}/us  ", W::NAME);
    for (index, threads) in THREADS.iter().enumerate().skip(1) {
        let ratio = median(figures.iter().map(|figure| figure[index] / figure[0]));
        print!("  {threads}: {ratio:>5.2}");
    }
    println!();
}

fn run(policy: i32, name: &str) {
    // SAFETY: a wish, before anything was allocated.
    assert_eq!(unsafe { rt_exec_memory_set_policy(policy.into()) }, 1);
    for with_forks in [false, true] {
        row::<Heap>(name, with_forks);
        row::<Regions>(name, with_forks);
        row::<SystemCalls>(name, with_forks);
        row::<Lookups>(name, with_forks);
    }
}

fn main() {
    println!("throughput of threads, relative to one thread's; {PAUSE:?} between forks");
    for (policy, name) in [(1, "rwx"), (2, "dual"), (3, "toggle")] {
        // SAFETY: this process has one thread, and has used the library for nothing yet.
        match unsafe { libc::fork() } {
            0 => {
                run(policy, name);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            child => {
                let mut status = 0;
                // SAFETY: waits for the child made above.
                unsafe { libc::waitpid(child, &mut status, 0) };
                assert_eq!(status, 0, "the rounds under {name}");
            }
        }
    }
}
