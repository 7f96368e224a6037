//! Compiles the WebAssembly module for the bare machine, and links the kernel as aarch64-rt lays it out.

use wasmtime::{Config, Engine, Result};

// One set of options for compiling and for running: Wasmtime refuses a module that was compiled with others.
include!("src/options.rs");

fn main() -> Result<()> {
    println!("cargo::rustc-link-arg=-Timage.ld");
    println!("cargo::rustc-link-arg=-T{}/memory.ld", env!("CARGO_MANIFEST_DIR"));
    for file in ["memory.ld", "src/module.wat", "src/options.rs"] {
        println!("cargo::rerun-if-changed={file}");
    }
    let mut config = options();
    config.native_unwind_info(false);
    config.target("aarch64-unknown-none")?;
    config.concurrency_support(false);
    let engine = Engine::new(&config)?;
    let folder = std::env::var("OUT_DIR").expect("cargo sets it");
    for (name, text) in [("module", &include_bytes!("src/module.wat")[..]), ("empty", b"(module)")] {
        std::fs::write(format!("{folder}/{name}.cwasm"), engine.precompile_module(text)?)?;
    }
    Ok(())
}
