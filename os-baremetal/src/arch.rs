//! What the crate takes from a processor's folder. All else here is the same for every processor: another one gets a
//! folder beside [`aarch64`](crate::aarch64) that supplies this.

// Page tables for a kernel that has none of its own, and what they say of the kernel's own memory.
pub use crate::aarch64::{IdentityTables, Usage};

// A serial port, for the console.
#[cfg(target_os = "none")]
pub use crate::aarch64::Serial;

// `core_number` is a number of the calling core's own, never 0. After `drop_fetched` the calling core has fetched no
// instruction yet.
#[cfg(target_os = "none")]
pub(crate) use crate::aarch64::{core_number, drop_fetched};
