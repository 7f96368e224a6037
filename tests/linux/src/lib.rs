//! What the tests on Linux share: a forked child for each of them, files to map, the kernel's own view of
//! the process.
//!
//! A policy is chosen once in a process, and a broken library may kill it, so every test runs in its own
//! child. The children are forked, not started anew: under qemu-user a program can't start itself.
#![cfg(target_os = "linux")]

pub mod children;
pub mod confinement;
pub mod faults;
pub mod files;
pub mod hosts;
pub mod limits;
pub mod maps;
pub mod programs;
pub mod random;
pub mod report;
pub mod selinux;
pub mod stepping;
pub mod system;
pub mod threads;
