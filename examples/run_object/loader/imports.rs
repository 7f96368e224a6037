//! Where undefined symbols come from: this library, the process, and a small table.

use super::error::Error;
use super::object_file::{Definition, ObjectFile, Symbol};
use std::ffi::CString;

/// A symbol of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Import {
    /// 0 for a weak symbol that nobody defines.
    pub address: u64,
    /// Whether it can be called: it may be reached through a stub then, where data can't.
    pub is_code: bool,
}

/// What the undefined symbols of an object are, by symbol index; `None` for others, and for those that
/// nothing loaded refers to.
pub type Imports = Vec<Option<Import>>;

/// Functions that have others called later: at the process's end, at a thread's, at a fork. They know nothing
/// of an image that is freed before.
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

/// Finds every undefined symbol that a loaded section refers to.
pub fn resolve(object: &ObjectFile<'_>, find: impl Fn(&str) -> Option<Import>) -> Result<Imports, Error> {
    let is_undefined = |symbol: &&Symbol<'_>| matches!(symbol.definition, Definition::Undefined { .. });
    // Whoever refers to them: it may be the unwind tables, which aren't loaded.
    let unwinding = object.symbols.iter().filter(is_undefined).find(|symbol| is_unwinding(&symbol.name));
    if let Some(symbol) = unwinding {
        return Err(Error::Unwinding(symbol.name.to_string()));
    }
    let mut imports = vec![None; object.symbols.len()];
    let referred = object.loaded().flat_map(|(_, section)| &section.relocations);
    for relocation in referred {
        let symbol = &object.symbols[relocation.symbol];
        let Definition::Undefined { weak } = symbol.definition else { continue };
        if imports[relocation.symbol].is_some() {
            continue;
        }
        if LATER_CALLS.contains(&&*symbol.name) {
            return Err(Error::LaterCall(symbol.name.to_string()));
        }
        // Symbol 0 has no name: the relocation refers to no symbol, that is to address 0.
        let nowhere = (weak || symbol.name.is_empty()).then_some(Import { address: 0, is_code: false });
        let import = find(&symbol.name).or(nowhere);
        imports[relocation.symbol] =
            Some(import.ok_or_else(|| Error::MissingSymbol(symbol.name.to_string()))?);
    }
    Ok(imports)
}

/// Whether only code that throws, catches or cleans up refers to a symbol. Nobody registers the unwind tables of
/// loaded code, so an exception would end the process there.
fn is_unwinding(name: &str) -> bool {
    let is_personality = name.contains("_personality_v") || name.ends_with("_eh_personality");
    let throws = ["__cxa_throw", "__cxa_rethrow", "__cxa_begin_catch", "__cxa_end_catch"];
    is_personality || name.starts_with("_Unwind_") || throws.contains(&name)
}

/// Finds a symbol in this process.
pub fn find(name: &str) -> Option<Import> {
    let address = own(name).or_else(|| dynamic(name)).or_else(|| c_library(name))?;
    // Asked of the system for foreign pages: it tells functions from data, which a symbol's name does not.
    let is_code = execmem::runtime().is_executable(address as i64).unwrap_or(false);
    Some(Import { address, is_code })
}

/// The library's own functions, which a static program does not show to `dlsym`.
fn own(name: &str) -> Option<u64> {
    let name = CString::new(name).ok().filter(|_| name.starts_with("rt_"))?;
    // SAFETY: the name is a C string.
    let address = unsafe { execmem::os::rt_symbol_lookup(name.as_ptr()) };
    u64::try_from(address).ok().filter(|address| *address != 0)
}

/// What the dynamic loader knows.
fn dynamic(name: &str) -> Option<u64> {
    let name = CString::new(name).ok().filter(|name| !name.is_empty())?;
    // SAFETY: the name is a C string; the default handle is always valid.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address as u64)
}

/// A match from names to the functions of those names.
macro_rules! functions {
    ($wanted:ident: $($name:ident)*) => {
        match $wanted {
            $(stringify!($name) => Some(libc::$name as *const () as u64),)*
            _ => None,
        }
    };
}

/// In a static program there is no dynamic loader, and only what is named here is linked in at all.
fn c_library(name: &str) -> Option<u64> {
    // clang calls bcmp where only equality matters; memcmp tells that too.
    let name = if name == "bcmp" { "memcmp" } else { name };
    functions! { name:
        memcpy memmove memset memcmp memchr
        strlen strcmp strncmp strcpy strncpy strcat strchr strrchr strstr strtol atoi
        malloc calloc realloc free
        printf sprintf snprintf puts putchar
        qsort abort exit getenv write
    }
}
