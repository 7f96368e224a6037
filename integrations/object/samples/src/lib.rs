//! Objects that are checked in, and what their functions return. `build.sh` says how the objects were made.

/// A file's name and its bytes.
pub type Sample = (&'static str, &'static [u8]);

/// A function, its arguments and its result.
pub type Case = (&'static str, &'static [i64], i64);

macro_rules! samples {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!("../", $name)))),*]
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

/// Made of `features.c`, for aarch64, with landing pads.
pub const AARCH64_GUARDED: &[Sample] = samples!["aarch64-gcc-O2-standard.o", "aarch64-clang-O2-bti.o"];

/// Made of `pads.c`, for aarch64, with landing pads and without.
pub const AARCH64_PADS: &[Sample] = samples!["aarch64-gcc-pads.o", "aarch64-gcc-no-pads.o"];

/// Made of `indirect.c`, for aarch64, with landing pads.
pub const AARCH64_INDIRECT: Sample = ("aarch64-gcc-indirect.o", include_bytes!("../aarch64-gcc-indirect.o"));

/// Made of `features.rs`, for aarch64.
pub const AARCH64_RUST: &[Sample] = samples!["aarch64-rustc-O.o", "aarch64-rustc-large.o"];

/// Made of `features.rs`, for macOS on Apple silicon.
pub const MACOS_AARCH64: &[Sample] = samples!["macos-aarch64-rustc-O.o", "macos-aarch64-rustc-O1.o"];

/// Made of `features.rs`, for macOS on Intel.
pub const MACOS_X86_64: &[Sample] = samples!["macos-x86_64-rustc-O.o", "macos-x86_64-rustc-O1.o"];

/// The samples of the example run_object for macOS, on Intel and on Apple silicon.
pub const MACOS_BUNDLED: &[Sample] = &[
    ("sample-macos-x86_64.o", include_bytes!("../../../../examples/objects/sample-macos-x86_64.o")),
    ("sample-macos-aarch64.o", include_bytes!("../../../../examples/objects/sample-macos-aarch64.o")),
];

/// The samples of the example run_object for other systems, on x86_64 and on aarch64.
pub const BUNDLED: &[Sample] = &[
    ("sample-x86_64.o", include_bytes!("../../../../examples/objects/sample-x86_64.o")),
    ("sample-aarch64.o", include_bytes!("../../../../examples/objects/sample-aarch64.o")),
];

/// The sample of the example run_object on riscv64.
pub const RISCV64_BUNDLED: Sample =
    ("sample-riscv64.o", include_bytes!("../../../../examples/objects/sample-riscv64.o"));

/// The bundled ELF sample for this machine's processor.
pub fn for_this_machine() -> Sample {
    match std::env::consts::ARCH {
        "x86_64" => BUNDLED[0],
        "aarch64" => BUNDLED[1],
        _ => RISCV64_BUNDLED,
    }
}

/// The bundled ELF sample for another processor.
pub fn for_another_machine() -> Sample {
    BUNDLED[usize::from(cfg!(not(target_arch = "aarch64")))]
}

/// The bundled Mach-O sample for this machine's processor.
pub fn macos_for_this_machine() -> Sample {
    MACOS_BUNDLED[usize::from(cfg!(target_arch = "aarch64"))]
}

/// The Mach-O objects of `features.rs` for this machine's processor.
pub const fn macos_features() -> &'static [Sample] {
    if cfg!(target_arch = "aarch64") { MACOS_AARCH64 } else { MACOS_X86_64 }
}

/// The functions of `features.c`. Some change data that later ones read: the order matters.
///
/// The same source gave these results when the system's own linker made a program of it.
pub const C_CASES: &[Case] = &[
    ("six", &[1, 2, 3, 4, 5, 6], 654_321),
    ("was_constructed", &[], 18),
    ("started", &[], 1),
    ("remember", &[2], 42),
    ("remember", &[-50], -8),
    ("zeros", &[], 0),
    ("fill_zeros", &[], 7016),
    ("weak", &[], 1),
    ("letters", &[], 219_146),
    ("sorted", &[], 1_413_519),
    ("one_address", &[], 1),
    ("switched", &[], 323_291),
    ("labels", &[21], 12),
    ("labels", &[58], 9),
    ("widths", &[], 0x4444_4444_7777_3326),
    ("formatted", &[-123_456_789], 20_050),
    ("ackermann", &[2, 9], 21),
    // A digit each for a function, a table and zeroed data: read-execute, read-only, read-write.
    ("own_protection", &[], 513),
];

/// The functions of `features.rs`, as [`C_CASES`].
pub const RUST_CASES: &[Case] = &[
    ("shapes", &[7], 19_617),
    ("calls", &[], 1),
    ("calls", &[], 2),
    ("prime", &[4], 11),
    ("prime", &[6], -1),
    ("prime", &[-1], -1),
    ("word", &[2], 1103),
    ("word", &[5], 1906),
    ("word", &[6], -1),
    ("imported", &[], 112),
];
