//! What is built for, by the names that the Rust compiler has for it.

/// aarch64 Linux, of the kind that links without a cross compiler.
pub const AARCH64_LINUX: &str = "aarch64-unknown-linux-musl";

/// aarch64 Linux with glibc.
pub const AARCH64_LINUX_GNU: &str = "aarch64-unknown-linux-gnu";

/// x86_64 Linux, which links without a cross compiler too.
pub const X86_64_LINUX: &str = "x86_64-unknown-linux-musl";

/// riscv64 Linux. Its standard library comes for glibc, which a cross compiler has to link.
pub const RISCV64_LINUX: &str = "riscv64gc-unknown-linux-gnu";

/// A machine without a system.
pub const BARE_MACHINE: &str = "aarch64-unknown-none";

/// Macs: Apple silicon and Intel.
pub const MACS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-apple-darwin"];

/// Whether a target is a Mac.
pub fn is_mac(target: &str) -> bool {
    target.ends_with("-apple-darwin")
}

/// Whether a target is a machine without a system.
pub fn is_bare(target: &str) -> bool {
    target.ends_with("-none")
}
