//! What more threads bring: what 1, 2 and 4 do together, each with things of its own. With a fork every few milliseconds
//! too: each puts all code that has two views in common again.
//!
//! No figure should fall below one thread's; more than there are processors can't be had.

use crate::allocators::bare::map;
#[cfg(asmjit)]
use crate::allocators::{Allocator, Block, asmjit::Asmjit};
use execmem_benches::{Random, Role, Unit, children, is_quick, live_function, rounds, row, set_policy};
use execmem_os_linux::*;
use std::hint::black_box;
#[cfg(asmjit)]
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

pub const TABLE: &str = "Threads: operations in a microsecond of the clock on the wall";
const THREADS: [usize; 3] = [1, 2, 4];

/// Between two forks.
const PAUSE: Duration = Duration::from_millis(5);

/// A function.
fn code() -> &'static [u8] {
    static CODE: LazyLock<Vec<u8>> = LazyLock::new(|| live_function(1024));
    &CODE
}

/// What a thread has, and what it does again and again. Each does its work on things of its own.
trait Work: Sized {
    fn begin(thread: usize) -> Self;
    /// How many operations it did.
    fn step(&mut self) -> u64;
    fn end(self);
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
            assert_eq!(rt_code_write(block, code().as_ptr(), size, 0), size);
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
    fn begin(thread: usize) -> Self {
        let mut random = Random::new(thread);
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

/// As `Heap`, in asmjit's allocator, which has one lock.
#[cfg(asmjit)]
struct AsmjitHeap {
    allocator: ManuallyDrop<Asmjit<false>>,
    blocks: Vec<Block>,
    random: Random,
}

#[cfg(asmjit)]
impl AsmjitHeap {
    fn function(&mut self) -> Block {
        let size = 64 + self.random.below(960);
        let block = self.allocator.alloc(size);
        self.allocator.write(block, &code()[..size]);
        // SAFETY: the code is such a function.
        black_box(unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(block.code)() });
        assert_ne!(self.allocator.find(block.code + size - 1), 0);
        block
    }
}

#[cfg(asmjit)]
impl Work for AsmjitHeap {
    fn begin(thread: usize) -> Self {
        // One for all threads, as the process's heap is.
        let allocator = Asmjit::shared();
        let mut work = Self { allocator, blocks: Vec::new(), random: Random::new(thread) };
        work.blocks = (0..256).map(|_| work.function()).collect();
        work
    }

    fn step(&mut self) -> u64 {
        for _ in 0..16 {
            let victim = self.random.below(self.blocks.len());
            self.allocator.release(self.blocks[victim]);
            self.blocks[victim] = self.function();
        }
        16
    }

    fn end(self) {}
}

/// Regions that come and go.
struct Regions;

impl Work for Regions {
    fn begin(_: usize) -> Self {
        Self
    }

    fn step(&mut self) -> u64 {
        // SAFETY: the code is readable, and returns.
        unsafe {
            let region = rt_alloc_rw_memory(5000);
            assert_eq!(rt_write_exec_bytes(region, code().as_ptr(), 1024, 100), 1024);
            assert_eq!(rt_make_executable(region, 5000), 1);
            black_box(rt_call_function_0(region + 100));
            assert_eq!(rt_free_exec_memory(region, 5000), 1);
        }
        1
    }

    fn end(self) {}
}

/// The system calls that a region can't do without, and no library.
struct SystemCalls;

impl Work for SystemCalls {
    fn begin(_: usize) -> Self {
        Self
    }

    fn step(&mut self) -> u64 {
        let region = map(8192, libc::PROT_READ | libc::PROT_WRITE, 0);
        let start = region as *mut std::ffi::c_void;
        // SAFETY: mapped above, and unmapped here; the code is such a function.
        unsafe {
            ((region + 100) as *mut u8).copy_from_nonoverlapping(code().as_ptr(), 1024);
            assert_eq!(libc::mprotect(start, 8192, libc::PROT_READ | libc::PROT_EXEC), 0);
            black_box(std::mem::transmute::<usize, extern "C" fn() -> i32>(region + 100)());
            assert_eq!(libc::munmap(start, 8192), 0);
        }
        1
    }

    fn end(self) {}
}

/// The system calls of policy `toggle`: a function's page is writable while it is written, and while traps take its place.
struct Flips {
    pages: usize,
    random: Random,
}

impl Flips {
    const PAGES: usize = 1024;

    fn write(page: usize, bytes: &[u8]) {
        let protect = |protection| {
            // SAFETY: the page is this thread's.
            assert_eq!(unsafe { libc::mprotect(page as *mut std::ffi::c_void, 4096, protection) }, 0);
        };
        protect(libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: it is writable, and as long.
        unsafe { (page as *mut u8).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        protect(libc::PROT_READ | libc::PROT_EXEC);
    }
}

impl Work for Flips {
    fn begin(thread: usize) -> Self {
        let pages = map(Self::PAGES * 4096, libc::PROT_READ | libc::PROT_EXEC, 0);
        Self { pages, random: Random::new(thread) }
    }

    fn step(&mut self) -> u64 {
        let page = self.pages + self.random.below(Self::PAGES) * 4096;
        let size = 64 + self.random.below(960);
        Self::write(page, &code()[..size]);
        // SAFETY: the code is such a function.
        black_box(unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(page)() });
        Self::write(page, &[0xcc; 1024][..size]);
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
    fn begin(thread: usize) -> Self {
        // SAFETY: allocates.
        let (regions, blocks) = unsafe {
            let regions = (0..100).map(|_| rt_alloc_exec_memory(4096)).collect();
            (regions, (0..1000).map(|_| rt_code_alloc(500)).collect())
        };
        Self { regions, blocks, random: Random::new(thread) }
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

/// What is done, the policies under which it is, who else does it, and why it loses.
const WORKS: [(&str, &[&str], Other, &str); 8] = [
    (
        "heap: allocate, write, publish, call, find, free",
        &["dual", "rwx"],
        Some((Role::Peer, "asmjit")),
        TRAPS,
    ),
    ("heap: the same", &["toggle"], Some((Role::Bare, "two pairs of mprotect")), FLIPS),
    ("heap, with forks", &["dual", "rwx"], None, ""),
    ("heap: the same, with forks", &["toggle"], Some((Role::Bare, "two pairs of mprotect")), FLIPS),
    (
        "regions: allocate, write, make executable, call, free",
        &["rwx", "dual", "toggle"],
        Some((Role::Bare, "mmap, mprotect")),
        SYSTEM,
    ),
    ("regions, with forks", &["rwx"], Some((Role::Bare, "mmap, mprotect")), SYSTEM),
    ("lookups: is it executable, which protection, find a block", &["dual"], None, ""),
    ("lookups, with forks", &["dual"], None, ""),
];
const TRAPS: &str =
    "what is freed is filled with traps; asmjit leaves it callable, and has one lock for all threads";
const SYSTEM: &str = "the kernel takes a lock of the whole address space for each of these calls; ours adds checks, claims and a \
     record";
const FLIPS: &str = "each change of a page's protection takes the lock of the whole address space and interrupts all other \
     processors, so the kernel's own calls fall below one thread's";
type Other = Option<(Role, &'static str)>;
const POLICIES: [&str; 3] = ["dual", "rwx", "toggle"];

pub fn run() {
    let processors = thread::available_parallelism().map_or(1, |count| count.get());
    let numbers = THREADS.map(|threads| threads.to_string());
    for (name, policies, other, why) in WORKS {
        let roles = [Role::Ours, Role::Own, Role::Own];
        let mut subjects: Vec<(Role, &str)> = roles.into_iter().zip(policies.iter().copied()).collect();
        subjects.extend(other.filter(|other| other.1 != "asmjit" || cfg!(asmjit)));
        let processes: Vec<_> = numbers
            .iter()
            .flat_map(|threads| {
                subjects.iter().map(move |(_, policy)| vec!["threads", name, policy, threads])
            })
            .collect();
        let samples = children(rounds(7, 1), &processes);
        let alone = &samples[0][0];
        for (threads, samples) in THREADS.into_iter().zip(samples.chunks(subjects.len())) {
            let limit: Vec<f64> = alone.iter().map(|alone| alone * threads.min(processors) as f64).collect();
            let cells = subjects.iter().zip(samples);
            let mut cells: Vec<_> =
                cells.map(|(&(role, name), samples)| (role, name, &samples[0][..])).collect();
            if threads > 1 {
                cells.push((Role::Limit, "one thread's for each processor", &limit));
            }
            row(TABLE, name, Unit::PerMicrosecond, &cells).at(threads, "threads").why(why).print();
        }
    }
}

pub fn child(words: &[&str]) -> Vec<f64> {
    let [name, policy, threads] = *words else { panic!("there is no {words:?}") };
    let (threads, with_forks) = (threads.parse().expect("a number"), name.contains("forks"));
    if POLICIES.contains(&policy) {
        set_policy(policy);
    }
    let throughput = match (name, policy) {
        (_, "mmap, mprotect") => throughput::<SystemCalls>,
        (_, "two pairs of mprotect") => throughput::<Flips>,
        #[cfg(asmjit)]
        (_, "asmjit") => throughput::<AsmjitHeap>,
        (name, _) if name.contains("regions") => throughput::<Regions>,
        (name, _) if name.contains("lookups") => throughput::<Lookups>,
        _ => throughput::<Heap>,
    };
    vec![throughput(threads, with_forks)]
}
