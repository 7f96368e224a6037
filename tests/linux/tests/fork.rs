//! Forking with dual memory. One test: the policy belongs to the process.

use execmem_core::Policy;
use execmem_os_linux::runtime;
use std::io::Read;

const SIZE: i64 = 8192;

/// `mov eax, number; ret` or its aarch64 twin.
fn function(number: u8) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    return vec![0xb8, number, 0, 0, 0, 0xc3];
    #[cfg(target_arch = "aarch64")]
    return [0x5280_0000 | u32::from(number) << 5, 0xd65f_03c0]
        .iter()
        .flat_map(|word: &u32| word.to_le_bytes())
        .collect();
    // li a0, number; ret
    #[cfg(target_arch = "riscv64")]
    return [0x0000_0513 | u32::from(number) << 20, 0x0000_8067].map(u32::to_le_bytes).concat();
}

/// Writes a function to a region, and one to a block of the code heap.
fn write(address: i64, block: i64, number: u8) {
    let code = function(number);
    let (source, length) = (code.as_ptr(), code.len() as i64);
    let heap = runtime().code_heap();
    // SAFETY: the vector is readable.
    unsafe {
        runtime().write(address, source, length, 0).unwrap();
        heap.write(block, source, length, 0).unwrap();
    }
    runtime().flush_icache(address, SIZE).unwrap();
    heap.publish(block, length).unwrap();
}

fn call(address: i64) -> i64 {
    // SAFETY: a function without arguments was written there.
    unsafe { runtime().call(address, &[]) }.unwrap()
}

/// What the function of the region and that of the block say.
fn both(address: i64, block: i64) -> [i64; 2] {
    [address, block].map(call)
}

fn byte(address: i64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(address as usize)
}

/// What the child does; its exit status says whether it saw what it should.
fn child(code: i64, block: i64, data: i64, parent_has_written: impl FnOnce()) -> bool {
    let inherited = both(code, block) == [42; 2];
    write(code, block, 1);
    // A new block lies beside the old one.
    let heap = runtime().code_heap();
    let another = heap.alloc(100).unwrap() as i64;
    write(code, another, 1);
    // SAFETY: `data` is writable memory of this test.
    unsafe { byte(data).write(8) };
    parent_has_written();
    runtime().make_executable(data, SIZE).unwrap();
    // SAFETY: still readable.
    inherited && both(code, block) == [1; 2] && call(another) == 1 && unsafe { byte(data).read() } == 8
}

#[test]
fn after_a_fork_neither_process_changes_the_others_code() {
    runtime().set_policy(Policy::Dual).unwrap();
    let code = runtime().alloc_exec(SIZE).unwrap() as i64;
    let data = runtime().alloc_rw(SIZE).unwrap() as i64;
    let block = runtime().code_heap().alloc(100).unwrap() as i64;
    write(code, block, 42);
    // SAFETY: `data` is writable memory of this test.
    unsafe { byte(data).write(7) };

    let (mut child_wrote, child_says) = std::io::pipe().unwrap();
    let (mut parent_wrote, parent_says) = std::io::pipe().unwrap();
    // SAFETY: the child only makes calls that a single-threaded program may make.
    let process = unsafe { libc::fork() };
    assert!(process >= 0);
    if process == 0 {
        drop(parent_says);
        let fine = child(code, block, data, || {
            drop(child_says);
            let _ = parent_wrote.read(&mut [0]);
        });
        // SAFETY: ends the child without the test harness's clean-up.
        unsafe { libc::_exit(if fine { 0 } else { 1 }) };
    }
    drop(child_says);
    let _ = child_wrote.read(&mut [0]);
    assert_eq!(both(code, block), [42; 2], "the child wrote 1 over its own copy");
    // SAFETY: still readable.
    assert_eq!(unsafe { byte(data).read() }, 7);
    write(code, block, 99);
    drop(parent_says);
    let mut status = 0;
    // SAFETY: waits for the child made above.
    unsafe { libc::waitpid(process, &mut status, 0) };
    assert_eq!(status, 0, "the child saw its own code and data");
    assert_eq!(both(code, block), [99; 2]);
}
