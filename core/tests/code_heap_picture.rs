//! Chunks as people see them.

mod support;

use execmem_core::{Limits, Policy};
use support::{System, code_block as code};

#[test]
fn a_chunk_is_drawn_by_what_its_parts_hold() {
    // Under policies but `toggle` a part of this chunk is 1,024 bytes.
    let limits = Limits { chunk_bytes: 64 << 10, ..Limits::DEFAULT };
    for policy in [Policy::Rwx, Policy::Dual, Policy::Jit] {
        let system = System::new(policy, 4096);
        let heap = system.runtime.new_code_heap(limits).unwrap();
        let pictures = || {
            let mut pictures = Vec::new();
            system.runtime.each_chunk(&mut |picture| pictures.push(picture));
            pictures
        };
        assert!(pictures().is_empty());
        let first = code(&heap, &[1; 2048]);
        let second = code(&heap, &[2; 1024]);
        let third = code(&heap, &[3; 512 - 64]);
        let drawn = |start: &str| format!("{start:.<64}").into_bytes();
        let picture = pictures()[0];
        assert_eq!((picture.address as i64, picture.length, pictures().len()), (first, 64 << 10, 1));
        assert_eq!(picture.parts.to_vec(), drawn("###-"), "{}", policy.name());
        let fourth = code(&heap, &[4; 1]);
        assert_eq!(pictures()[0].parts.to_vec(), drawn("###+"));
        heap.free(fourth).unwrap();
        heap.free(second).unwrap();
        assert_eq!(pictures()[0].parts.to_vec(), drawn("##,-"));
        // One that has a chunk for itself.
        let large = code(&heap, &vec![4; 1 << 20]);
        let large = pictures().into_iter().find(|picture| picture.address as i64 == large).unwrap();
        assert_eq!((large.length, large.parts), (1 << 20, [b'#'; 64]));
        system.fake.take_text();
        system.runtime.dump();
        let text = system.fake.take_text();
        let line = format!("\nchunk {first:#018x} {:12} ##,-{}\n", 64 << 10, ".".repeat(60));
        assert!(text.contains(&line) && text.matches("\nchunk ").count() == 2, "{text}");
        heap.free(first).unwrap();
        heap.free(third).unwrap();
    }
}
