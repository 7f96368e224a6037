//! Objects that are checked in. `samples/build.sh` says how they were made.

/// A file's name and its bytes.
pub type Sample = (&'static str, &'static [u8]);

macro_rules! samples {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../samples/", $name)))),*]
    };
}

/// Made of `features.c`, for aarch64.
pub const AARCH64_C: &[Sample] = samples![
    "aarch64-gcc-O0.o",
    "aarch64-gcc-O2.o",
    "aarch64-gcc-O2-fPIC.o",
    "aarch64-gcc-O2-small-pic.o",
    "aarch64-gcc-O2-no-pie.o",
    "aarch64-gcc-O2-large.o",
    "aarch64-gcc-O2-tiny.o",
    "aarch64-clang-O2.o",
    "aarch64-clang-O2-fPIC.o",
    "aarch64-clang-O2-large.o",
];

/// Made of `features.rs`, for aarch64.
pub const AARCH64_RUST: &[Sample] = samples!["aarch64-rustc-O.o", "aarch64-rustc-large.o"];

/// Made of `features.rs` for macOS on Apple silicon.
pub const MACOS_AARCH64: &[Sample] = samples!["macos-aarch64-rustc-O.o", "macos-aarch64-rustc-O1.o"];

/// Made of `features.rs` for macOS on Intel.
pub const MACOS_X86_64: &[Sample] = samples!["macos-x86_64-rustc-O.o", "macos-x86_64-rustc-O1.o"];

/// The example's bundled samples for macOS.
pub const MACOS_BUNDLED: &[Sample] = &[
    ("sample-macos-x86_64.o", include_bytes!("../../../examples/objects/sample-macos-x86_64.o")),
    ("sample-macos-aarch64.o", include_bytes!("../../../examples/objects/sample-macos-aarch64.o")),
];

/// The example's bundled samples.
pub const BUNDLED: &[Sample] = &[
    ("sample-x86_64.o", include_bytes!("../../../examples/objects/sample-x86_64.o")),
    ("sample-aarch64.o", include_bytes!("../../../examples/objects/sample-aarch64.o")),
];

/// The bundled sample that runs here.
pub fn for_this_machine() -> Sample {
    BUNDLED[usize::from(cfg!(target_arch = "aarch64"))]
}

/// The bundled sample that doesn't.
pub fn for_another_machine() -> Sample {
    BUNDLED[usize::from(cfg!(not(target_arch = "aarch64")))]
}
