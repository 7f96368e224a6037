//! A kernel that runs WebAssembly, compiled ahead of time, with Wasmtime: `execmem-wasmtime`, which Linux programs use as
//! well, has its code in memory of this library's.
//!
//! In this folder: `cargo run --release`. It needs qemu-system-aarch64 and the target aarch64-unknown-none.
#![no_std]
#![no_main]

extern crate alloc;

mod kernel;

use buddy_system_allocator::LockedHeap;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};
use execmem_wasmtime::deserialize;
use kernel::println;
use wasmtime::{Config, Engine, Error, Instance, Linker, Result, Store, Trap, bail, ensure};

include!("options.rs");

const HEAP_SIZE: i64 = 16 << 20;

/// Regions beside the modules'.
const HEAPS: i64 = 1;

#[global_allocator]
static HEAP: LockedHeap<32> = LockedHeap::new();

/// Calls an export that takes a number and gives one.
fn call(store: &mut Store<()>, instance: &Instance, name: &str, argument: i32) -> Result<i32> {
    instance.get_typed_func::<i32, i32>(&mut *store, name)?.call(store, argument)
}

fn run() -> Result<()> {
    let mut config = options();
    let engine = Engine::new(execmem_wasmtime::configure(&mut config))?;
    // SAFETY: build.rs compiled it, with the same Wasmtime.
    let module = unsafe { deserialize(&engine, include_bytes!(concat!(env!("OUT_DIR"), "/module.cwasm"))) }?;
    println!("the module takes one region: {}", execmem::runtime().region_count() - HEAPS);
    // SAFETY: build.rs compiled this one with the same Wasmtime, too.
    let empty = unsafe { deserialize(&engine, include_bytes!(concat!(env!("OUT_DIR"), "/empty.cwasm"))) }?;
    drop(empty);
    println!("an empty module comes and goes");
    let mut linker = Linker::new(&engine);
    linker.func_wrap("host", "triple", |number: i32| number * 3)?;
    let mut store = Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &module)?;

    let fib = call(&mut store, &instance, "fib", 20)?;
    println!("fib(20) = {fib}");
    ensure!(fib == 6765, "fib(20) is 6765");
    let tripled = call(&mut store, &instance, "triple_in_memory", 14)?;
    println!("the host says that three times 14 is {tripled}");
    ensure!(tripled == 42, "three times 14 is 42");
    let trapped = instance.get_typed_func::<(), i32>(&mut store, "out_of_bounds")?.call(&mut store, ());
    match trapped.map_err(|error| error.downcast::<Trap>()) {
        Err(Ok(Trap::MemoryOutOfBounds)) => println!("a load out of bounds is a trap"),
        other => bail!("a load out of bounds is no trap, but {other:?}"),
    }
    Ok(())
}

/// Called by the kernel when the library is set up.
fn main() -> Result<()> {
    let heap = execmem::runtime().alloc_rw(HEAP_SIZE).map_err(Error::new)?;
    // SAFETY: the memory is read-write and for the heap alone.
    unsafe { HEAP.lock().init(heap, HEAP_SIZE as usize) };
    run()?;
    // Wasmtime has given all code back: the heap is left.
    execmem::runtime().dump();
    println!("done");
    Ok(())
}

static THREAD_STATE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// One core and no threads: one cell for what Wasmtime keeps for each thread.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(_: usize) -> *mut u8 {
    THREAD_STATE.load(Ordering::Relaxed)
}

/// See [`wasmtime_tls_get`].
#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(_: usize, state: *mut u8) {
    THREAD_STATE.store(state, Ordering::Relaxed);
}
