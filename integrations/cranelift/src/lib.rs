//! A [`cranelift_module::Module`] on execmem's code heap.
//!
//! Code is linked in a buffer, written where it belongs, and published with all that is finalized at the same time. So no
//! page has to be writable and executable, whatever the policy; functions share pages, and each can be freed alone.
//!
//! | file | what |
//! |---|---|
//! | `module.rs` | the module: what is defined, linked, published, freed |
//! | `data.rs` | memory of data objects |
//! | `provider.rs` | memory for `cranelift-jit`'s own module (feature `provider`) |
//! | `symbols.rs` | what code refers to and the module does not define |
//! | `relocate.rs` | how an address comes into an instruction |

mod data;
mod module;
#[cfg(feature = "provider")]
mod provider;
mod relocate;
mod symbols;

pub use module::{Code, HeapModule};
#[cfg(feature = "provider")]
pub use provider::Provider;
