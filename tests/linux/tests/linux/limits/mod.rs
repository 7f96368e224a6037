//! Limits, each reached for real, each survived and told; then there is more again, and all goes on.

pub mod addresses;
pub mod each;
pub mod mappings;
pub mod space;
