//! What is aarch64's: registers, instructions and devices. Written for exception level 1, 4 KiB pages and processors
//! with the generic interrupt controller's version 3; tested in QEMU as Cortex-A53, Cortex-A72 and `max`.
//!
//! A [`PageTables`](crate::PageTables) of a kernel's own maps normal write-back inner-shareable memory. It sets UXN in
//! every page, and PXN in each that may not be executed.

mod identity_tables;

#[cfg(target_os = "none")]
mod cores;
#[cfg(target_os = "none")]
mod serial;

pub use identity_tables::{IdentityTables, Usage};

#[cfg(target_os = "none")]
pub use {
    cores::{SYNCHRONIZE, interrupt_others_by_gicv3},
    serial::Serial,
};

#[cfg(target_os = "none")]
pub(crate) use cores::{core_number, drop_fetched};
