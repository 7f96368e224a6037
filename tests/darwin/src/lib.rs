//! Runs libraries that were built for macOS on Linux: a loader for their Mach-O images, and a model of
//! libSystem and of Apple's kernel that enforces the rules.
//!
//! Their machine code runs on a processor of the same kind, natively or under QEMU. What passes here is our
//! logic against our model of the kernel: it proves nothing of Apple's kernel itself.
#![cfg(target_os = "linux")]

pub mod caches;
pub mod library;
pub mod mach;
pub mod report;
pub mod rules;
pub mod scenarios;
pub mod suite;
pub mod violation;

mod errno;
mod files;
mod files_for_rules;
mod host;
mod image;
mod jit;
mod kernel;
mod libsystem;
mod regions;
mod signals;
mod switch;
