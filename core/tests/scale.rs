//! What the registry costs: for one huge region, and for many small ones.

mod support;

use execmem_core::MapRequest;
use execmem_core::platform::Memory;
use execmem_core::{Error, MapFlags, Policy, Protection};
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
    // A few stay: a block of records for each, one more, and what nodes may keep.
    let is_rare = |region: &usize| (region / 4096).is_multiple_of(5000);
    let free = |region: &usize| runtime.free_exec(*region as i64, 100).unwrap();
    all.iter().filter(|region| !is_rare(region)).for_each(free);
    let held = || runtime.statistics().record_bytes as usize;
    let rare = all.iter().filter(|region| is_rare(region)).count();
    assert!(held() <= (rare + 1) * POOL + (rare + 3) * 4096 + KEPT, "{} bytes for {rare}", held());
    all.iter().filter(|region| is_rare(region)).for_each(free);
    assert!(held() <= POOL + KEPT, "{} bytes for none", held());
}

/// Regions that each need nodes of their own: they end a page behind a gigabyte.
fn far_apart(system: &System) -> MapRequest<'static> {
    system.fake.add_sparse_file(c"large", (1 << 30) + system.page as u64);
    MapRequest {
        path: Some(c"large"),
        protection: Protection::READ,
        flags: MapFlags::PRIVATE,
        offset: 0,
        length: 0,
    }
}

/// What the registry may keep beside blocks of records: 64 spare nodes, one that notes those without memory, and what of
/// the last piece of memory was not used yet.
const KEPT: usize = 65 * 4096 + POOL;

#[test]
#[cfg_attr(miri, ignore = "there are few nodes that could go: the unit tests of the page map drop them")]
fn what_records_take_falls_with_what_is_live_and_rises_again() {
    let system = System::new(Policy::Rwx, 4096);
    let request = far_apart(&system);
    let map = || system.runtime.map_file(request).unwrap();
    let unmap = |region: &(usize, usize)| system.runtime.unmap(region.0 as i64, region.1 as i64).unwrap();
    let knows = |region: &(usize, usize)| {
        [region.0, region.0 + region.1 - 1].map(|address| system.runtime.protection_at(address as i64))
            == [Ok(Some(Protection::READ)); 2]
    };
    let held = || system.runtime.statistics().record_bytes as usize;
    for round in 0..2 {
        let all: Vec<_> = (0..5_000).map(|_| map()).collect();
        let most = held();
        assert!(most > 5_000 * 2 * 4096 && all.iter().all(knows), "round {round}: {most} bytes");
        let (stay, go): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|region| (region.0 >> 31).is_multiple_of(50));
        go.iter().for_each(unmap);
        // Four times the nodes of what is live (two each, and those above), blocks of records, and what is always kept.
        let bound = stay.len() * (4 * 3 * 4096) + (stay.len().min(6) + 1) * POOL + KEPT;
        println!("{most} bytes for 5000 regions, {} for {} of them: at most {bound}", held(), stay.len());
        assert!(held() <= bound && bound < most / 4);
        assert!(stay.iter().all(knows), "what is live is known still");
        assert!(!go.iter().any(knows));
        stay.iter().for_each(unmap);
        // What was dropped is noted in eight bytes for each 4096.
        assert!(held() <= POOL + KEPT + most / 500, "{} bytes for none", held());
    }
    // Who alternates gives nothing back, and takes nothing.
    let calls = || (system.fake.count(Call::Request), system.fake.count(Call::Unmap));
    unmap(&map());
    let ((requests, unmaps), before) = (calls(), held());
    (0..100).for_each(|_| unmap(&map()));
    assert_eq!((calls(), held()), ((requests, unmaps + 100), before));
    system.fake.verify();
}

#[test]
#[cfg_attr(miri, ignore = "there are few nodes that could go: the unit tests of the page map drop them")]
fn where_the_system_keeps_records_they_serve_again() {
    let system = System::new(Policy::Rwx, 4096);
    let request = far_apart(&system);
    let mut held = Vec::new();
    for round in 0..3 {
        let all: Vec<_> = (0..300).map(|_| system.runtime.map_file(request).unwrap()).collect();
        held.push(system.runtime.statistics().record_bytes);
        system.fake.fail_always(Call::Request, Error::InvalidArgument);
        for (address, size) in all {
            system.runtime.unmap(address as i64, size as i64).unwrap();
        }
        // What refused once is asked again when there is more to give.
        assert_eq!(system.fake.clear_faults() > 0, round == 0);
        assert_eq!(system.runtime.statistics().record_bytes, held[0]);
    }
    assert_eq!(held, [held[0]; 3]);
}

#[test]
fn regions_that_come_and_go_far_apart_leave_no_records() {
    // The platform puts each of these at a place of its own, two gigabytes from the last.
    System::each(|system| {
        let request = far_apart(&system);
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
