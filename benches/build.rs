//! Compiles what stands in front of asmjit, if asmjit is installed: `cfg(asmjit)` says so.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(asmjit)");
    println!("cargo::rerun-if-changed=src/asmjit.cpp");
    println!("cargo::rerun-if-env-changed=ASMJIT_PREFIX");
    #[cfg(feature = "peers")]
    asmjit();
}

#[cfg(feature = "peers")]
fn asmjit() {
    let prefix = std::env::var_os("ASMJIT_PREFIX").map(std::path::PathBuf::from);
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(2).cargo_warnings(false);
    if let Some(prefix) = &prefix {
        build.include(prefix.join("include"));
    }
    // The preprocessor knows best where the compiler finds headers.
    if build.clone().file("src/asmjit.cpp").try_expand().is_err() {
        // A later installation is noticed by looking every time.
        println!("cargo::rerun-if-changed=asmjit-is-not-installed");
        return;
    }
    build.cargo_warnings(true).file("src/asmjit.cpp").compile("asmjit_shim");
    if let Some(lib) = prefix.map(|prefix| prefix.join("lib")) {
        println!("cargo::rustc-link-search=native={}", lib.display());
        println!("cargo::rustc-link-arg-bins=-Wl,-rpath,{}", lib.display());
    }
    println!("cargo::rustc-link-lib=asmjit");
    println!("cargo::rustc-cfg=asmjit");
}
