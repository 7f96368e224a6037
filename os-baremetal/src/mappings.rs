//! What is mapped: asked of the page tables.

use crate::pages::tables;
use core::ops::ControlFlow;
use execmem_core::Error;
use execmem_core::platform::Mapping;

/// Visits the mappings from the one at `from`, or the next one, in address order. Takes no lock.
pub(crate) fn visit(from: usize, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error> {
    let tables = tables()?;
    let mut from = from;
    while let Some(mapping) = tables.next(from) {
        if visit(mapping).is_break() {
            break;
        }
        from = mapping.end;
    }
    Ok(())
}
