//! Limits, each reached for real, each survived and told; then there is more again, and all goes on.

pub mod addresses;
pub mod amounts;
pub mod each;
pub mod exhaustion;
pub mod forks;
pub mod groups;
pub mod mappings;
pub mod space;
