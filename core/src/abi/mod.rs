//! The C interface: what turns [`Runtime`](crate::Runtime)'s methods into the `rt_*` symbols.
//!
//! An adapter says [`export_symbols!`](crate::export_symbols) and has them all.

pub mod calls;
mod export;
mod symbols;

pub use crate::header::*;
pub use export::{DECLARATIONS, InRegister, SYMBOL_NAMES, Symbol};
