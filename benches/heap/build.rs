//! Compiles the C++ shim in front of asmjit, from Debian's `libasmjit-dev`.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=src/asmjit.cpp");
    if !Path::new("/usr/include/asmjit/asmjit.h").exists() {
        println!("cargo:error=the asmjit headers are missing: apt-get install libasmjit-dev");
        std::process::exit(1);
    }
    cc::Build::new().cpp(true).std("c++17").opt_level(2).file("src/asmjit.cpp").compile("asmjit_shim");
    println!("cargo:rustc-link-lib=asmjit");
}
