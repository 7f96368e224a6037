//! What an object needs from outside of itself.

use crate::error::Error;
use crate::object_file::{Definition, ObjectFile, Symbol};

/// What a symbol is that an object does not define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its address.
    pub address: usize,
    /// Whether it is a function. References that don't reach a function go through a stub; those that don't reach data
    /// are an error.
    pub is_code: bool,
}

/// By symbol index: what an undefined symbol is. `None` if the object defines it, or nothing loaded refers to it.
pub type Imports = Vec<Option<Import>>;

/// What a weak symbol is that nobody defines: address 0.
const NOWHERE: Import = Import { address: 0, is_code: false };

/// Functions that have others called later: when the process ends, when a thread ends, at a fork. The image may be
/// gone by then.
const LATER_CALLS: &[&str] = &[
    "atexit",
    "on_exit",
    "at_quick_exit",
    "__cxa_atexit",
    "__cxa_at_quick_exit",
    "__cxa_thread_atexit",
    "__cxa_thread_atexit_impl",
    "_tlv_atexit",
    "pthread_atfork",
    "__register_atfork",
];

/// Asks `resolver` for every undefined symbol that a loaded section refers to.
pub fn resolve(
    object: &ObjectFile<'_>,
    mut resolver: impl FnMut(&str) -> Option<Import>,
) -> Result<Imports, Error> {
    let is_undefined = |symbol: &&Symbol<'_>| matches!(symbol.definition, Definition::Undefined { .. });
    // All symbols are searched, also those that only unwind tables refer to, which aren't loaded.
    let unwinding = object.symbols.iter().filter(is_undefined).find(|symbol| is_unwinding(&symbol.name));
    if let Some(symbol) = unwinding {
        return Err(Error::Unwinding(symbol.name.to_string()));
    }
    let mut imports = vec![None; object.symbols.len()];
    for relocation in object.loaded().flat_map(|(_, section)| &section.relocations) {
        let symbol = &object.symbols[relocation.symbol];
        let Definition::Undefined { weak } = symbol.definition else { continue };
        if imports[relocation.symbol].is_some() {
            continue;
        }
        if LATER_CALLS.contains(&&*symbol.name) {
            return Err(Error::LaterCall(symbol.name.to_string()));
        }
        // Symbol 0 has no name: a relocation with it refers to address 0.
        let default = (weak || symbol.name.is_empty()).then_some(NOWHERE);
        let import = resolver(&symbol.name).or(default);
        imports[relocation.symbol] =
            Some(import.ok_or_else(|| Error::MissingSymbol(symbol.name.to_string()))?);
    }
    Ok(imports)
}

/// Whether only code that throws, catches or cleans up refers to a symbol. The unwind tables of loaded code are
/// registered nowhere, so an exception would end the process there.
fn is_unwinding(name: &str) -> bool {
    let is_personality = name.contains("_personality_v") || name.ends_with("_eh_personality");
    let throws = ["__cxa_throw", "__cxa_rethrow", "__cxa_begin_catch", "__cxa_end_catch"];
    is_personality || name.starts_with("_Unwind_") || throws.contains(&name)
}
