//! Wasmtime modules whose code lies in execmem's memory, on Linux, macOS and bare metal.
//!
//! Wasmtime lets an embedder decide how memory becomes code ([`CustomCodeMemory`]), but `Module::new` and
//! `Module::deserialize` keep code in mappings of their own, which are none of execmem's. So a module comes in here by
//! [`compile`] or [`deserialize`]: its bytes are copied once into execmem's memory, and Wasmtime uses them where they
//! are. What comes back is Wasmtime's own [`Module`]; the memory goes with the last that uses it, be it an instance.
//!
//! ```
//! let mut config = wasmtime::Config::new();
//! execmem_wasmtime::configure(&mut config);
//! let engine = wasmtime::Engine::new(&config)?;
//! let text = r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#;
//! # #[cfg(feature = "cranelift")] {
//! let module = execmem_wasmtime::compile(&engine, &wat::parse_str(text)?)?;
//!
//! let mut store = wasmtime::Store::new(&engine, ());
//! let instance = wasmtime::Instance::new(&mut store, &module, &[])?;
//! let add = instance.get_typed_func::<(i32, i32), i32>(&mut store, "add")?;
//! assert_eq!(add.call(&mut store, (40, 2))?, 42);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | file | what |
//! |---|---|
//! | `artifact.rs` | what a compiled module says of itself |
//! | `images.rs` | the memory of the modules that are live |
#![no_std]

extern crate alloc;

mod artifact;
mod images;

use alloc::sync::Arc;
use core::ptr::NonNull;
use wasmtime::{Config, CustomCodeMemory, Engine, Error, Module, Result, ensure};

/// Makes an engine of this configuration run code in execmem's memory. Native unwind records are off: Wasmtime would
/// still read them after it has said that a module's code is no longer used. It needs none for traps and backtraces.
pub fn configure(config: &mut Config) -> &mut Config {
    config.with_custom_code_memory(Some(Arc::new(CodePages))).native_unwind_info(false)
}

/// Compiles WebAssembly.
#[cfg(feature = "cranelift")]
pub fn compile(engine: &Engine, wasm: &[u8]) -> Result<Module> {
    let artifact = engine.precompile_module(wasm)?;
    // SAFETY: the engine has just made it, for engines like itself.
    unsafe { deserialize(engine, &artifact) }
}

/// Loads a module that [`Engine::precompile_module`] or [`Module::serialize`] gave.
///
/// # Safety
/// As with [`Module::deserialize`]: the bytes are what these gave, and nothing that somebody else made or changed.
pub unsafe fn deserialize(engine: &Engine, artifact: &[u8]) -> Result<Module> {
    // SAFETY: the bytes are the caller's promise. The memory is that of an image, which stays as it is until Wasmtime
    // says that nobody uses it.
    unsafe { load(artifact, |image| Module::deserialize_raw(engine, image)) }
}

/// Copies an artifact into execmem's memory and makes something of it, in place: what [`deserialize`] is for modules,
/// for components too.
///
/// ```ignore
/// // With Wasmtime's feature `component-model`, of what `Engine::precompile_component` gave:
/// let component = unsafe { load(&artifact, |image| Component::deserialize_raw(&engine, image)) }?;
/// ```
///
/// # Safety
/// As with [`deserialize`]; and `make` does nothing with the memory but hand it to one `deserialize_raw`, with an engine
/// that was made as [`configure`] says.
pub unsafe fn load<T>(artifact: &[u8], make: impl FnOnce(NonNull<[u8]>) -> Result<T>) -> Result<T> {
    let (image, bytes) = images::add(artifact)?;
    let made = make(bytes);
    if made.is_err() {
        // Wasmtime may have refused it before it looked at its code, or given it back since.
        images::remove(image);
    }
    made
}

/// How execmem makes code of memory, for Wasmtime.
struct CodePages;

impl CustomCodeMemory for CodePages {
    fn required_alignment(&self) -> usize {
        execmem::runtime().page_size()
    }

    fn publish_executable(&self, text: *const u8, length: usize) -> Result<()> {
        ensure!(
            images::holds(text.addr()),
            "this code is in Wasmtime's own memory: load modules by execmem_wasmtime::compile or deserialize, components by load"
        );
        execmem::runtime().make_executable(text.addr() as i64, length as i64).map_err(Error::new)
    }

    /// Wasmtime calls it when a module is dropped, also one that was refused by the function above, and panics if it
    /// fails.
    fn unpublish_executable(&self, text: *const u8, _: usize) -> Result<()> {
        images::remove_at(text.addr());
        Ok(())
    }
}
