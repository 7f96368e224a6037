//! What the registry costs: for one huge region, and for many small ones.

mod support;

use execmem_core::MapRequest;
use execmem_core::platform::Memory;
use execmem_core::{MapFlags, Policy, Protection};
use execmem_fake::{Call, Fake};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use support::{POOL, System};

/// Counts the bytes that the registry takes for its records.
fn pool_bytes(fake: &Fake) -> Arc<AtomicUsize> {
    let bytes = Arc::new(AtomicUsize::new(0));
    let counter = bytes.clone();
    fake.observe(move |event| {
        let is_pool =
            event.memory == Some(Memory::Private(Protection::RW)) && event.length.is_multiple_of(POOL);
        if event.call == Call::Map && is_pool {
            counter.fetch_add(event.length, Relaxed);
        }
    });
    bytes
}

#[test]
fn a_terabyte_costs_a_few_nodes() {
    System::each(|system| {
        let pool = pool_bytes(&system.fake);
        system.fake.add_sparse_file(c"huge", 1 << 40);
        let request = MapRequest {
            path: Some(c"huge"),
            protection: Protection::READ,
            flags: MapFlags::PRIVATE,
            offset: system.page as i64,
            length: 0,
        };
        let (address, size) = system.runtime.map_file(request).unwrap();
        assert_eq!(size, (1 << 40) - system.page);
        let (base, last) = (address as i64, (address + size - 1) as i64);
        let mappings = system.fake.count(Call::Mappings);
        for inside in [base, base + (1 << 39), last] {
            assert_eq!(system.runtime.protection_at(inside), Ok(Some(Protection::READ)));
        }
        system.runtime.set_protection(base + (1 << 39), 1, Protection::NONE).unwrap();
        assert_eq!(system.runtime.protection_at(base + (1 << 39)), Ok(Some(Protection::NONE)));
        assert_eq!(system.runtime.protection_at(base + (1 << 39) - 1), Ok(Some(Protection::READ)));
        assert_eq!(system.runtime.protection_at(last), Ok(Some(Protection::READ)));
        assert_eq!(system.runtime.statistics().bytes_by_protection[1], (size - system.page) as i64);
        assert_eq!(system.fake.count(Call::Mappings), mappings, "the registry knew all of it");
        system.runtime.unmap(base, size as i64).unwrap();
        assert_eq!(system.runtime.protection_at(base), Ok(None));
        // Two ends and the page between, three nodes each; and a block for the records.
        assert_eq!(pool.load(Relaxed), 2 * POOL);
    });
}

#[test]
fn a_region_costs_at_most_64_bytes_and_its_share_of_the_nodes() {
    let regions = if cfg!(miri) { 60 } else { 50_000 };
    let fake = Fake::with_arena(4096, regions * 4096 + (16 << 20));
    let pool = pool_bytes(&fake);
    let runtime = execmem_core::Runtime::new(fake.platform());
    runtime.set_policy(Policy::Rwx).unwrap();
    let all: Vec<usize> = (0..regions).map(|_| runtime.alloc_exec(100).unwrap()).collect();
    assert_eq!(runtime.region_count(), regions as i64);
    // A node holds 512 pages and has 4 KiB; above them is next to nothing. Tables double, so up to half of
    // one is still unused.
    let nodes = (regions.div_ceil(512) + 6) * 4096;
    let records = pool.load(Relaxed) - nodes.min(pool.load(Relaxed));
    println!("{regions} regions: {:.1} bytes each with nodes", pool.load(Relaxed) as f64 / regions as f64);
    assert!(records <= 2 * 64 * regions.next_power_of_two().max(2 * 1024), "{records} bytes of records");
    let mappings = fake.count(Call::Mappings);
    for region in &all {
        assert_eq!(runtime.protection_at(*region as i64), Ok(Some(Protection::RWX)));
    }
    assert_eq!(fake.count(Call::Mappings), mappings);
    // Every second one goes and comes back: records are used again.
    let before = pool.load(Relaxed);
    for region in all.iter().step_by(2) {
        runtime.free_exec(*region as i64, 100).unwrap();
    }
    for _ in all.iter().step_by(2) {
        runtime.alloc_exec(100).unwrap();
    }
    assert_eq!(pool.load(Relaxed), before);
    fake.stop_observing();
}

#[test]
fn regions_that_come_and_go_far_apart_leave_no_records() {
    // The platform puts each of these at a place of its own, two gigabytes from the last. They end a page
    // behind a gigabyte, so that each needs nodes of its own.
    System::each(|system| {
        system.fake.add_sparse_file(c"large", (1 << 30) + system.page as u64);
        let request = MapRequest {
            path: Some(c"large"),
            protection: Protection::READ,
            flags: MapFlags::PRIVATE,
            offset: 0,
            length: 0,
        };
        let mut places = std::collections::BTreeSet::new();
        let rounds = if cfg!(miri) { 20 } else { 5_000 };
        for _ in 0..rounds {
            let (address, size) = system.runtime.map_file(request).unwrap();
            let last = (address + size - 1) as i64;
            assert_eq!(system.runtime.protection_at(last), Ok(Some(Protection::READ)));
            system.runtime.unmap(address as i64, size as i64).unwrap();
            assert_eq!(system.runtime.protection_at(last), Ok(None));
            places.insert(address >> 30);
        }
        assert_eq!(places.len(), rounds);
        // Three nodes for each place that was emptied lately and for the one in use, and a table of records.
        assert!(system.runtime.statistics().record_bytes <= 2 * POOL as i64);
    });
}
