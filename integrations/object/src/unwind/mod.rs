//! Unwind tables (`.eh_frame`): which functions they describe, one table of those that are linked, and telling the
//! process's unwinder of it. "DWARF Debugging Information Format", section 6.4, and "Linux Standard Base Core
//! Specification", chapter 10.6.

mod build;
mod cursor;
mod register;
mod table;

pub use build::build;
pub use register::Registration;
pub use table::{Table, check_linked};
