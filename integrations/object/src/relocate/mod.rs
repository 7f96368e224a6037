//! Relocations: what each number of the psABI asks for, as data and pure functions.

mod aarch64;
mod dispatch;
mod form;
mod riscv64;
mod x86_64;

pub use form::{Field, Form, Origin, STUB, Target};
