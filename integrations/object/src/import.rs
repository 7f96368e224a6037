//! What an object needs from outside of itself.

use crate::error::Error;
use crate::exit;
use crate::object_file::{Definition, ObjectFile, SectionKind, Symbol};

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
/// gone by then. `atexit` and `__cxa_atexit` are not here: what they register is called when the image ends.
const LATER_CALLS: &[&str] = &[
    "on_exit",
    "at_quick_exit",
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
    resolver: &mut dyn FnMut(&str) -> Option<Import>,
) -> Result<Imports, Error> {
    let mut imports = vec![None; object.symbols.len()];
    let mut missing = Vec::new();
    for relocation in object.loaded().flat_map(|(_, section)| &section.relocations) {
        let symbol = &object.symbols[relocation.symbol];
        check_thread_local(object, symbol)?;
        let Definition::Undefined { weak } = symbol.definition else { continue };
        if imports[relocation.symbol].is_some() {
            continue;
        }
        if LATER_CALLS.contains(&&*symbol.name) {
            return Err(Error::LaterCall(symbol.name.to_string()));
        }
        let import = match &*symbol.name {
            exit::NAME => Some(Import { address: exit::address(), is_code: true }),
            // Symbol 0 has no name: a relocation with it refers to address 0.
            "" => Some(NOWHERE),
            name => resolver(name).or(weak.then_some(NOWHERE)),
        };
        if import.is_none() {
            missing.push(symbol.name.to_string());
        }
        imports[relocation.symbol] = Some(import.unwrap_or(NOWHERE));
    }
    missing.sort();
    match missing.is_empty() {
        true => Ok(imports),
        false => Err(Error::MissingSymbols(missing)),
    }
}

/// Thread-local storage has no addresses here: it would have to be there for threads that were started before.
fn check_thread_local(object: &ObjectFile<'_>, symbol: &Symbol<'_>) -> Result<(), Error> {
    match symbol.definition {
        Definition::InSection { section, .. }
            if object.sections[section].kind == SectionKind::ThreadLocal =>
        {
            let section = &object.sections[section].name;
            Err(Error::ThreadLocal(match *section == symbol.name {
                true => format!("section {section}"),
                false => symbol.name.to_string(),
            }))
        }
        _ if symbol.is_thread_local => Err(Error::ThreadLocal(symbol.name.to_string())),
        _ => Ok(()),
    }
}
