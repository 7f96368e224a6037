//! Links the kernel with aarch64-rt's layout, at the address where QEMU loads it.

fn main() {
    println!("cargo::rustc-link-arg=-Timage.ld");
    println!("cargo::rustc-link-arg=-T{}/memory.ld", env!("CARGO_MANIFEST_DIR"));
    println!("cargo::rerun-if-changed=memory.ld");
}
