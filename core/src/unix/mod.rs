//! What the adapters of Unix systems have in common, over `libc`. Nothing else should use it: it is there with the
//! feature `unix` alone, and may change in any version.
//!
//! The core itself knows nothing of this module, and the module knows of the core what any adapter does: the seam,
//! its types and the runtime. What systems do in different ways stays in their adapters.

pub mod errno;
pub mod files;
pub mod fork;
#[cfg(target_os = "linux")]
pub mod listeners;
pub mod pages;
pub mod process;
