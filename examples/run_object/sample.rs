//! The bundled object for this machine.

#[cfg(all(target_os = "macos", target_arch = "x86_64"))]
pub const SAMPLE: (&str, &[u8]) =
    ("sample-macos-x86_64.o", include_bytes!("../objects/sample-macos-x86_64.o"));
#[cfg(all(target_os = "macos", target_arch = "aarch64"))]
pub const SAMPLE: (&str, &[u8]) =
    ("sample-macos-aarch64.o", include_bytes!("../objects/sample-macos-aarch64.o"));
#[cfg(all(not(target_os = "macos"), target_arch = "x86_64"))]
pub const SAMPLE: (&str, &[u8]) = ("sample-x86_64.o", include_bytes!("../objects/sample-x86_64.o"));
#[cfg(all(not(target_os = "macos"), target_arch = "aarch64"))]
pub const SAMPLE: (&str, &[u8]) = ("sample-aarch64.o", include_bytes!("../objects/sample-aarch64.o"));
#[cfg(all(not(target_os = "macos"), target_arch = "riscv64"))]
pub const SAMPLE: (&str, &[u8]) = ("sample-riscv64.o", include_bytes!("../objects/sample-riscv64.o"));
