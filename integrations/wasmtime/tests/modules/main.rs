//! Modules whose code lies in execmem's memory do what WebAssembly says, and leave nothing behind.

mod life;
mod refusals;
mod running;

use std::sync::{Mutex, MutexGuard, PoisonError};
use wasmtime::{Config, Engine, Instance, Module, Store, WasmParams, WasmResults};

/// One test at a time: they count the process's memory.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn engine() -> Engine {
    Engine::new(execmem_wasmtime::configure(&mut Config::new())).expect("the configuration is valid")
}

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("it is WebAssembly")
}

fn compile(engine: &Engine, text: &str) -> Module {
    execmem_wasmtime::compile(engine, &wasm(text)).expect("it compiles")
}

/// Calls an export of that type.
fn call<P: WasmParams, R: WasmResults>(
    store: &mut Store<()>,
    instance: &Instance,
    name: &str,
    arguments: P,
) -> wasmtime::Result<R> {
    instance.get_typed_func::<P, R>(&mut *store, name).expect("it is exported").call(store, arguments)
}
