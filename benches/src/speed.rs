//! How fast code runs where it lies: calls into many functions, which are as fast as a core finds their pages.

use crate::allocators::bare::map;
use crate::allocators::ours::Ours;
use crate::allocators::{Allocator, with_allocator};
use execmem_benches::{Random, Role, Unit, children, live_function, now, peers, rounds, row};
use execmem_os_linux::*;
use std::ffi::c_void;
use std::hint::black_box;

pub const TABLE: &str = "The code's own speed: a call of one of so many functions of 512 bytes";
/// How many functions there are.
const COUNTS: [usize; 4] = [1_000, 10_000, 50_000, 200_000];
const SIZE: usize = 512;
/// In which order functions are called, and why that is slower than it could be.
const ORDERS: [(&str, &str); 3] =
    [("at random", SPEED), ("nine in ten to a tenth", SPEED), ("neighbours, eight by eight", SPEED)];
const SPEED: &str = "the end of the last chunk is not full, and stays on small pages: of 10,000 functions 18 %, of 50,000 and \
     200,000 2 %";
const HUGE: usize = 2 << 20;

pub fn run() {
    let mut subjects =
        vec![(Role::Ours, "promoted"), (Role::Own, "not promoted"), (Role::Bare, "anonymous huge pages")];
    subjects.extend(peers(&["asmjit"]).iter().map(|name| (Role::Peer, *name)));
    for count in COUNTS {
        let number = count.to_string();
        let processes: Vec<_> = subjects.iter().map(|(_, name)| vec!["speed", name, &number]).collect();
        let samples = children(rounds(7, 1), &processes);
        let row = |index: usize, name: &str, unit: Unit, why: &str| {
            let cells = subjects.iter().zip(&samples);
            let cells: Vec<_> =
                cells.map(|(&(role, name), samples)| (role, name, &samples[index][..])).collect();
            row(TABLE, name, unit, &cells).at(count, "functions").why(why).print();
        };
        for (order, (name, why)) in ORDERS.into_iter().enumerate() {
            row(2 * order, name, Unit::Nanoseconds, why);
            row(2 * order + 1, &format!("misses of the iTLB, {name}"), Unit::Count, "");
        }
        let cells = [(Role::Ours, "promoted", &samples[0][6][..])];
        self::row(TABLE, "part of the code on huge pages", Unit::Times, &cells)
            .at(count, "functions")
            .print();
    }
}

/// By the order of calls, nanoseconds and misses of the table of addresses for a call; then the part of the code that is
/// on huge pages.
pub fn child(words: &[&str]) -> Vec<f64> {
    let [kind, count] = *words else { panic!("there is no {words:?}") };
    let count: usize = count.parse().expect("a number");
    let (functions, huge) = match kind {
        "not promoted" => (made::<Ours>(count), 0),
        // SAFETY: the contract takes any budget.
        "promoted" => (made::<Ours>(count), unsafe { rt_code_promote(i64::MAX) }),
        "anonymous huge pages" => (on_huge_pages(count), (count * SIZE).next_multiple_of(HUGE) as i64),
        peer => (with_allocator!(peer, self::made(count)), 0),
    };
    assert!(huge >= 0);
    let mut random = Random::new(0);
    let mut shuffled = functions.clone();
    random.shuffle(&mut shuffled);
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
    let times = [any, mostly_hot, neighbours].map(|order| {
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
    let huge = (huge as f64 / (count * SIZE) as f64).min(1.0);
    [times.as_flattened(), &[huge]].concat()
}

fn call_each(functions: &[usize]) {
    for function in functions {
        // SAFETY: each address is that of such a function.
        let function = unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(*function) };
        black_box(function());
    }
}

fn made<A: Allocator>(count: usize) -> Vec<usize> {
    let code = live_function(SIZE);
    let mut allocator = A::new();
    let mut make = |_| {
        let block = allocator.alloc(SIZE);
        allocator.write(block, &code);
        block.code
    };
    let made = (0..count).map(&mut make).collect();
    std::mem::forget(allocator);
    made
}

/// Nothing but functions, in memory that the kernel gives huge at once.
fn on_huge_pages(count: usize) -> Vec<usize> {
    let length = (count * SIZE).next_multiple_of(HUGE);
    let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let start = map(length + HUGE, protection, 0).next_multiple_of(HUGE);
    let code = live_function(SIZE);
    // SAFETY: the mapping is long enough for a start at a multiple of a huge page.
    unsafe {
        assert_eq!(libc::madvise(start as *mut c_void, length, libc::MADV_HUGEPAGE), 0);
        for offset in (0..length).step_by(SIZE) {
            std::ptr::copy_nonoverlapping(code.as_ptr(), (start + offset) as *mut u8, SIZE);
        }
        // Where no huge page was free at the first store.
        assert_eq!(libc::madvise(start as *mut c_void, length, libc::MADV_COLLAPSE), 0);
        (0..count).map(|number| start + number * SIZE).collect()
    }
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
