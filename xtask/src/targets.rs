//! What is built for, by the names that the Rust compiler has for it.

/// aarch64 Linux, of the kind that links without a cross compiler.
pub const AARCH64_LINUX: &str = "aarch64-unknown-linux-musl";

/// A machine without a system.
pub const BARE_MACHINE: &str = "aarch64-unknown-none";

/// Macs: Apple silicon and Intel.
pub const MACS: [&str; 2] = ["aarch64-apple-darwin", "x86_64-apple-darwin"];

/// Whether a target is a Mac.
pub fn is_mac(target: &str) -> bool {
    target.ends_with("-apple-darwin")
}
