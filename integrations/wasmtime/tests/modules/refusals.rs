//! What is refused, with a reason, and leaves nothing behind.

use super::{alone, engine, wasm};
use execmem::runtime;
use wasmtime::{Config, Engine, Instance, Module, Result, Store};

const MODULE: &str = r#"(module (func (export "seven") (result i32) (i32.const 7)))"#;

fn load(engine: &Engine, artifact: &[u8]) -> Result<Module> {
    // SAFETY: an engine compiled it, or it is no artifact, which Wasmtime tells apart.
    unsafe { execmem_wasmtime::deserialize(engine, artifact) }
}

/// Fails by that reason, and frees what it took.
fn is_refused(module: Result<Module>, reason: &str) {
    let error = format!("{:?}", module.map(drop).expect_err(reason));
    assert!(error.contains(reason), "{error}");
}

#[test]
fn what_wasmtime_maps_itself_is_no_code_and_the_error_says_how_to_load_it() {
    let _alone = alone();
    let before = runtime().region_count();
    let engine = engine();
    is_refused(Module::new(&engine, wasm(MODULE)), "execmem_wasmtime::compile");
    let artifact = engine.precompile_module(&wasm(MODULE)).unwrap();
    // SAFETY: the engine has just made it.
    is_refused(unsafe { Module::deserialize(&engine, &artifact) }, "execmem_wasmtime::compile");
    assert_eq!(runtime().region_count(), before);
    assert!(load(&engine, &artifact).is_ok());
}

#[test]
fn bytes_that_are_no_module_are_refused() {
    let _alone = alone();
    let before = runtime().region_count();
    let engine = engine();
    let artifact = engine.precompile_module(&wasm(MODULE)).unwrap();
    for bytes in [&[][..], b"\0asm", &artifact[..100], &artifact[..artifact.len() / 2]] {
        is_refused(load(&engine, bytes), "no compiled module");
    }
    assert_eq!(runtime().region_count(), before);
}

#[test]
fn a_module_of_another_configuration_is_refused() {
    let _alone = alone();
    let before = runtime().region_count();
    let artifact = Engine::default().precompile_module(&wasm(MODULE)).unwrap();
    is_refused(load(&engine(), &artifact), "native unwind records");
    let mut config = Config::new();
    let with_fuel = Engine::new(execmem_wasmtime::configure(&mut config).consume_fuel(true)).unwrap();
    let artifact = with_fuel.precompile_module(&wasm(MODULE)).unwrap();
    is_refused(load(&engine(), &artifact), "fuel");
    assert_eq!(runtime().region_count(), before);
}

#[test]
fn an_engine_that_was_not_configured_refuses() {
    let _alone = alone();
    let before = runtime().region_count();
    let engine = Engine::new(Config::new().native_unwind_info(false)).unwrap();
    let artifact = engine.precompile_module(&wasm(MODULE)).unwrap();
    is_refused(load(&engine, &artifact), "virtual memory");
    assert_eq!(runtime().region_count(), before);
}

#[test]
fn a_module_without_functions_comes_and_goes() {
    let _alone = alone();
    let before = runtime().region_count();
    let engine = engine();
    for text in ["(module)", r#"(module (memory 1) (data (i32.const 0) "data"))"#] {
        let module = execmem_wasmtime::compile(&engine, &wasm(text)).unwrap();
        assert_eq!(runtime().region_count(), before + 1);
        Instance::new(&mut Store::new(&engine, ()), &module, &[]).unwrap();
        drop(module);
        assert_eq!(runtime().region_count(), before);
    }
}
