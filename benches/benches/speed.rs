//! How fast code runs where it lies: random calls into many functions, which are as fast as a core finds their pages.
//!
//! Each figure is of a process of its own; the kinds of memory take turns, and medians of the rounds are reported.

use execmem_benches::{is_quick, median};
use execmem_os_linux::*;
use std::ffi::c_void;
use std::hint::black_box;
use std::process::Command;

/// How many functions there are.
const COUNTS: [usize; 4] = [1_000, 10_000, 50_000, 200_000];
const SIZE: usize = 512;
/// Nothing is faster than the first.
const KINDS: [&str; 4] = ["anonymous huge pages", "ours, promoted", "ours", "asmjit"];
const HUGE: usize = 2 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("round") => {
            let figures = round(&arguments[1], arguments[2].parse().expect("a number"));
            println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        }
        _ => compare_all(),
    }
}

fn compare_all() {
    let rounds = if is_quick() { 3 } else { 7 };
    let kinds: Vec<&str> = KINDS.into_iter().filter(|kind| cfg!(asmjit) || *kind != "asmjit").collect();
    let orders = ["calls at random", "nine in ten to a tenth", "neighbours, eight by eight"];
    for count in COUNTS {
        let measured: Vec<Vec<Figures>> =
            (0..rounds).map(|_| kinds.iter().map(|kind| measure(kind, count)).collect()).collect();
        println!("\n{count} functions of {SIZE} bytes");
        println!("{:<24} {:>6}  {}", "", "huge", orders.map(|order| format!("{order:^36}")).join("  "));
        for (kind, name) in kinds.iter().enumerate() {
            let figure = |index: usize| median(measured.iter().map(|round| round[kind][index]));
            print!("{name:<24} {:>4.0} %", 100.0 * figure(0));
            for (time, misses) in [(1, 2), (3, 4), (5, 6)] {
                let ratio = median(measured.iter().map(|round| round[kind][time] / round[0][time]));
                let misses = match figure(misses) {
                    misses if misses.is_nan() => "not counted".to_owned(),
                    misses => format!("{misses:.2} misses"),
                };
                print!("  {:>6.1} ns {ratio:>6.3} times {misses:>12}", figure(time));
            }
            println!();
        }
    }
}

/// The part of the code that is on huge pages; then, by the order of calls, nanoseconds and misses of the table of
/// addresses for a call.
type Figures = [f64; 7];

fn measure(kind: &str, count: usize) -> Figures {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["round", kind, &count.to_string()]).output().expect("a child");
    assert!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("numbers");
    let figures: Vec<f64> = text.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    figures.try_into().expect("so many numbers")
}

fn round(kind: &str, count: usize) -> Figures {
    let (functions, huge) = match kind {
        "ours" => (of_ours(count), 0),
        "ours, promoted" => {
            let functions = of_ours(count);
            // SAFETY: takes a number.
            (functions, unsafe { rt_code_promote(i64::MAX) })
        }
        #[cfg(asmjit)]
        "asmjit" => (of_asmjit(count), 0),
        "anonymous huge pages" => (on_huge_pages(count), (count * SIZE).next_multiple_of(HUGE) as i64),
        other => panic!("there is no {other}"),
    };
    assert!(huge >= 0);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut shuffled = functions.clone();
    for last in (1..count).rev() {
        shuffled.swap(last, random.below(last + 1));
    }
    let calls = 1 << 18;
    let any: Vec<usize> = (0..calls).map(|_| shuffled[random.below(count)]).collect();
    let mut mostly_hot = || {
        let among = if random.below(10) > 0 { count / 10 } else { count };
        shuffled[random.below(among)]
    };
    let mostly_hot: Vec<usize> = (0..calls).map(|_| mostly_hot()).collect();
    // Functions that were made one after another, as those that call each other are.
    let mut neighbours = Vec::with_capacity(calls);
    for _ in 0..calls / 8 {
        neighbours.extend_from_slice(&functions[random.below(count - 8)..][..8]);
    }
    let [a, b, c] = [any, mostly_hot, neighbours].map(|order| {
        call_each(&shuffled);
        let pass = || {
            let (counter, start) = (Counter::start(), now());
            call_each(&order);
            let time = now() - start;
            [time / calls as f64, counter.stop() / calls as f64]
        };
        // The quickest is the one that neighbours disturbed least.
        (0..7).map(|_| pass()).min_by(|a, b| a[0].total_cmp(&b[0])).expect("passes")
    });
    [(huge as f64 / (count * SIZE) as f64).min(1.0), a[0], a[1], b[0], b[1], c[0], c[1]]
}

fn call_each(functions: &[usize]) {
    for function in functions {
        // SAFETY: each address is that of such a function.
        let function = unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(*function) };
        black_box(function());
    }
}

/// `mov eax, 42; ret`, and traps.
fn code() -> [u8; SIZE] {
    let mut code = [0xcc; SIZE];
    code[..6].copy_from_slice(&[0xb8, 42, 0, 0, 0, 0xc3]);
    code
}

fn of_ours(count: usize) -> Vec<usize> {
    let code = code();
    let make = |_| {
        // SAFETY: the array is readable.
        unsafe {
            let block = rt_code_alloc(SIZE as i64);
            assert_eq!(rt_code_write(block, code.as_ptr(), SIZE as i64, 0), SIZE as i64);
            assert_eq!(rt_code_publish(block, SIZE as i64), 1);
            block as usize
        }
    };
    (0..count).map(make).collect()
}

#[cfg(asmjit)]
fn of_asmjit(count: usize) -> Vec<usize> {
    use execmem_benches::asmjit::*;
    let code = code();
    // SAFETY: an allocator that lives as long as the process; the array is readable.
    unsafe {
        let allocator = asmjit_new(false);
        let make = |_| {
            let mut writable: *mut c_void = std::ptr::null_mut();
            let block = asmjit_alloc(allocator, SIZE, &mut writable);
            assert!(!block.is_null());
            asmjit_write(block, writable, code.as_ptr().cast(), SIZE);
            block as usize
        };
        (0..count).map(make).collect()
    }
}

/// Nothing but functions, in memory that the kernel gives huge at once.
fn on_huge_pages(count: usize) -> Vec<usize> {
    let length = (count * SIZE).next_multiple_of(HUGE);
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, long enough for a start at a multiple of a huge page.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), length + HUGE, protection, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        let start = (start as usize).next_multiple_of(HUGE);
        assert_eq!(libc::madvise(start as *mut c_void, length, libc::MADV_HUGEPAGE), 0);
        for offset in (0..length).step_by(SIZE) {
            std::ptr::copy_nonoverlapping(code().as_ptr(), (start + offset) as *mut u8, SIZE);
        }
        // Where no huge page was free at the first store.
        assert_eq!(libc::madvise(start as *mut c_void, length, libc::MADV_COLLAPSE), 0);
        (0..count).map(|number| start + number * SIZE).collect()
    }
}

/// Processor time of this thread: on a busy machine the clock on the wall measures the neighbours.
fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Counts how often this thread's fetches miss the tables of addresses, if the kernel lets it.
struct Counter(i32);

impl Counter {
    fn start() -> Self {
        const CACHE: u64 = 3;
        const ITLB_READ_MISS: u64 = 4 | 1 << 16;
        const EXCLUDE_KERNEL: u64 = 1 << 5 | 1 << 6;
        // perf_event_attr, its first version: type and size, config, period, sample, format, flags.
        let attributes: [u64; 8] = [CACHE | 64 << 32, ITLB_READ_MISS, 0, 0, 0, EXCLUDE_KERNEL, 0, 0];
        // SAFETY: the structure is as long as it says. This thread, on any core, in no group.
        let file = unsafe { libc::syscall(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0) };
        Self(file as i32)
    }

    fn stop(self) -> f64 {
        let mut count = 0u64;
        // SAFETY: room for a number; a descriptor that is none is refused.
        let length = unsafe { libc::read(self.0, (&raw mut count).cast(), size_of::<u64>()) };
        if length == size_of::<u64>() as isize { count as f64 } else { f64::NAN }
    }
}

/// xorshift64: the same sequence in each run.
struct Random(u64);

impl Random {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}
