//! Pages larger than anything that the core takes at a time for itself: what every system has to serve.

mod support;

use execmem_core::Limits;
use execmem_core::MapRequest;
use execmem_core::abi::calls;
use execmem_core::{Error, MapFlags, Policy, Protection};
use execmem_fake::Fake;
use support::{POLICIES, System, code_block, write_block};

const SIZES: &[usize] = if cfg!(miri) { &[128 << 10] } else { &[64 << 10, 128 << 10, 1 << 20] };

fn each(test: impl Fn(System)) {
    for policy in POLICIES {
        for &page_size in SIZES {
            let fake = Fake::with_arena(page_size, if cfg!(miri) { 8 << 20 } else { 256 << 20 });
            println!("policy {}, {page_size} bytes a page", policy.name());
            test(System::on(fake, policy));
        }
    }
}

#[test]
fn code_memory_is_written_executed_and_freed() {
    each(|system| {
        let runtime = &system.runtime;
        let address = runtime.alloc_exec(100).unwrap();
        assert!(address.is_multiple_of(system.page));
        system.publish(address, &[1, 2, 3]);
        assert_eq!(system.fake.executed(address, 3), [1, 2, 3]);
        assert_eq!(runtime.protection_at(address as i64), Ok(Some(system.code())));
        let data = runtime.alloc_rw(system.page as i64 + 1).unwrap();
        system.poke(data, &[4, 5, 6]);
        runtime.make_executable(data as i64, 3).unwrap();
        let second = (data + system.page) as i64;
        assert_eq!(runtime.protection_at(second), Ok(Some(Protection::RW)));
        assert_eq!(system.fake.executed(data, 3), [4, 5, 6]);
        let near = runtime.alloc_exec_near(100, address as i64, 64 * system.page as i64).unwrap();
        assert!(near.abs_diff(address) <= 64 * system.page);
        for (address, size) in [(address, 100), (data, system.page as i64 + 1), (near, 100)] {
            runtime.free_exec(address as i64, size).unwrap();
        }
        assert_eq!(runtime.statistics().mapped_bytes, 0);
        assert_eq!(runtime.alloc_exec_near(100, 1, 1 << 16), Err(Error::NoMemory));
    });
}

#[test]
#[cfg_attr(miri, ignore = "blocks of half a megabyte are written byte by byte")]
fn the_code_heap_has_blocks_of_every_size_in_few_pages() {
    each(|system| {
        let heap = system.runtime.new_code_heap(Limits { chunk_bytes: 1, ..Limits::DEFAULT }).unwrap();
        let sizes = [1, 64, 700, 40_000, 65_536, 65_537, 300_000];
        let blocks: Vec<i64> = sizes.map(|size| code_block(&heap, &vec![size as u8 | 1; size])).into();
        for (block, size) in blocks.iter().zip(sizes) {
            assert_eq!(system.fake.executed(*block as usize, size), vec![size as u8 | 1; size]);
            assert_eq!(heap.find(*block + size as i64 - 1).map(|block| block.size), Some(size));
            assert_eq!(system.runtime.protection_at(*block), Ok(Some(system.code())));
        }
        let near = heap.alloc_near(64, blocks[0], 64 * system.page as i64).unwrap();
        assert!(near.abs_diff(blocks[0] as usize) <= 64 * system.page);
        if system.policy == Policy::Toggle {
            assert_ne!(blocks[0] as usize / system.page, blocks[1] as usize / system.page);
        }
        for block in blocks {
            heap.free(block).unwrap();
            assert_eq!(heap.find(block), None);
        }
        let again = code_block(&heap, &[9; 700]);
        assert_eq!(system.fake.executed_elsewhere(again as usize, 700), [9; 700]);
        drop(heap);
        let end = system.runtime.statistics();
        assert_eq!((end.code_blocks, end.code_chunks, end.mapped_bytes), (0, 0, 0));
        // The usual length of a chunk.
        code_block(&system.runtime.code_heap(), &[1; 100]);
    });
}

#[test]
fn a_forked_child_has_functions_of_its_own() {
    for &page_size in SIZES {
        let system = System::new(Policy::Dual, page_size);
        let heap = system.runtime.new_code_heap(Limits { chunk_bytes: 1, ..Limits::DEFAULT }).unwrap();
        let block = code_block(&heap, &[7; 1000]);
        let region = system.runtime.alloc_exec(1000).unwrap();
        system.publish(region, &[8; 1000]);
        assert!(system.runtime.before_fork());
        // SAFETY: `before_fork` was called above; this thread plays the child's only one.
        unsafe { system.runtime.after_fork_in_child() };
        write_block(&heap, block, &[9; 1000]).unwrap();
        heap.publish(block, 1000).unwrap();
        assert_eq!(system.fake.executed(block as usize, 1000), [9; 1000]);
        assert_eq!(system.read(region, 1000).unwrap(), [8; 1000]);
    }
}

#[test]
#[cfg_attr(miri, ignore = "files of several large pages are read byte by byte")]
fn values_and_mapped_files_are_what_they_are_anywhere() {
    each(|system| {
        system.fake.switch(|switches| switches.allow_partial_unmap = true);
        let runtime = &system.runtime;
        let contents: Vec<u8> = (0..2 * system.page + 100).map(|at| (at % 251) as u8 + 1).collect();
        system.fake.add_file(c"file", &contents);
        let request = |offset: usize| MapRequest {
            path: Some(c"file"),
            protection: Protection::READ,
            flags: MapFlags::PRIVATE,
            offset: offset as i64,
            length: 0,
        };
        assert_eq!(runtime.map_file(request(4096)), Err(Error::InvalidArgument));
        let (address, size) = runtime.map_file(request(system.page)).unwrap();
        assert_eq!(size, system.page + 100);
        assert_eq!(system.read(address, size).unwrap(), contents[system.page..]);
        for length in [1, 100, 5000, size] {
            let value = runtime.read_bytes(address as i64, 0, length as i64).unwrap();
            assert_eq!(system.value(value), contents[system.page..][..length]);
            // SAFETY: the store follows no handle that it did not give.
            assert_eq!(unsafe { calls::rt_value_free(runtime, value) }, Ok(true));
        }
        runtime.unmap(address as i64, size as i64).unwrap();
        let shared = MapRequest {
            path: None,
            protection: Protection::RW,
            flags: MapFlags::SHARED | MapFlags::ANONYMOUS,
            offset: 0,
            length: 10,
        };
        let (address, size) = runtime.map_file(shared).unwrap();
        assert_eq!(system.write(address, b"text\0"), Ok(5));
        let text = runtime.read_string(address as i64, 0, 0).unwrap();
        assert_eq!(system.text(text), "text");
        runtime.unmap(address as i64, size as i64).unwrap();
    });
}

#[test]
fn all_of_a_page_that_was_taken_for_values_serves_values() {
    for &page_size in SIZES {
        let system = System::new(Policy::Rwx, page_size);
        system.fake.switch(|switches| switches.allow_partial_unmap = true);
        let store = |byte: u8| {
            let bytes = vec![byte; 32 << 10];
            // SAFETY: a vector is readable.
            unsafe { calls::rt_value_bytes(&system.runtime, bytes.as_ptr(), 32 << 10) }
        };
        store(0).unwrap();
        let before = system.fake.live().bytes;
        for byte in 1..page_size.div_ceil(32 << 10) {
            store(byte as u8).unwrap();
        }
        assert_eq!(system.fake.live().bytes, before, "{page_size}");
    }
}
