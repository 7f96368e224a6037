//! Questions about addresses, with few and many live regions.

use execmem_benches::{compare, measure, report};
use execmem_os_linux::*;
use std::hint::black_box;

/// What the first plan for this library had: a list that is searched from the front.
struct List(Vec<(i64, i64)>);

impl List {
    fn holds(&self, address: i64) -> bool {
        self.0.iter().any(|(base, size)| (*base..base + size).contains(&address))
    }
}

fn main() {
    let mut regions = Vec::new();
    // SAFETY: allocation and questions touch no memory of others.
    unsafe {
        for live in [10, 1_000, 50_000] {
            while regions.len() < live {
                let base = rt_alloc_exec_memory(4096);
                assert!(base > 0);
                regions.push((base, 4096));
            }
            questions(&List(regions.clone()));
        }
        memory_of_records();
        foreign();
    }
}

unsafe fn questions(list: &List) {
    let live = list.0.len();
    let regions = &list.0;
    // Each question is about another region, in an order that prefetchers can't guess.
    let mut at = 0usize;
    let mut next = || {
        at = (at.wrapping_mul(6_364_136_223_846_793_005)).wrapping_add(1_442_695_040_888_963_407);
        regions[(at >> 33) % live].0
    };
    let choose = measure(1_000, || {
        black_box(next());
    });
    // SAFETY: only asks.
    let executable = measure(1_000, || unsafe {
        black_box(rt_is_executable(next()));
    });
    // SAFETY: only asks.
    let protection = measure(1_000, || unsafe {
        black_box(rt_get_protection(next()));
    });
    let calls = if live > 10_000 { 20 } else { 1_000 };
    let scan = measure(calls, || {
        black_box(list.holds(next()));
    });
    print!(
        "{live:>6} regions: rt_is_executable {:.1} ns, rt_get_protection {:.1} ns (wanted <= 15 ns), \
         list scan {:.1} ns",
        executable - choose,
        protection - choose,
        scan - choose,
    );
    #[cfg(feature = "peers")]
    print!(", region::query {:.0} ns", region_query(next()));
    println!();
}

/// region 4.0.1 parses the whole of /proc/self/maps; a few times are enough.
#[cfg(feature = "peers")]
fn region_query(address: i64) -> f64 {
    let start = std::time::Instant::now();
    for _ in 0..5 {
        black_box(region::query(address as *const u8).unwrap());
    }
    start.elapsed().as_nanos() as f64 / 5.0
}

unsafe fn memory_of_records() {
    // SAFETY: a structure of integers.
    let mut stats: execmem::abi::RtExecMemoryStats = unsafe { std::mem::zeroed() };
    stats.size = size_of_val(&stats) as i64;
    // SAFETY: the structure has the size that it says.
    unsafe { rt_exec_memory_stats(&mut stats) };
    println!(
        "records of {} regions: {} bytes, {:.1} a region with page-map nodes (wanted <= 64 and the nodes)",
        stats.regions,
        stats.record_bytes,
        stats.record_bytes as f64 / stats.regions as f64
    );
}

/// A foreign address beside the one system call that it takes.
unsafe fn foreign() {
    let address = foreign as *const () as i64;
    // SAFETY: opens a file.
    let maps = unsafe { libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY) };
    let mut query = [0u64; 13];
    let found = compare(
        200,
        // SAFETY: only asks.
        || unsafe {
            black_box(rt_is_executable(address));
        },
        || {
            query = [0; 13];
            (query[0], query[1], query[2]) = (104, 0x10, address as u64);
            // SAFETY: the structure has the 104 bytes that it says.
            assert_eq!(unsafe { libc::ioctl(maps, 0xc068_6611, query.as_mut_ptr()) }, 0);
        },
    );
    report("rt_is_executable of a foreign address", "PROCMAP_QUERY", &found, "<= 1.5");
}
