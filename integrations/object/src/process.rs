//! Symbols of this process.

use crate::builtins;
use crate::import::Import;
use std::ffi::CString;

/// Finds a symbol in this process: an `rt_*` function of execmem, what the dynamic loader knows, and in a static
/// program the usual functions of C, and what compilers call without being told. The resolver for objects that are to see what the program sees.
pub fn process_symbol(name: &str) -> Option<Import> {
    let address = of_execmem(name).or_else(|| dynamic(name)).or_else(|| c_library(name));
    let address = address.or_else(|| builtins::find(name))?;
    // A name doesn't tell functions from data; the protection of the memory does.
    let is_code = execmem::runtime().is_executable(address as i64).unwrap_or(false);
    Some(Import { address, is_code })
}

/// The functions of execmem itself: in a static program `dlsym` does not find them.
fn of_execmem(name: &str) -> Option<usize> {
    let name = CString::new(name).ok().filter(|_| name.starts_with("rt_"))?;
    // SAFETY: `name` is a C string that lives during the call.
    let address = unsafe { execmem::os::rt_symbol_lookup(name.as_ptr()) };
    usize::try_from(address).ok().filter(|address| *address != 0)
}

/// What the dynamic loader knows.
fn dynamic(name: &str) -> Option<usize> {
    let name = CString::new(name).ok().filter(|name| !name.is_empty())?;
    // SAFETY: `name` is a C string that lives during the call, and POSIX has RTLD_DEFAULT always valid.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address as usize)
}

/// A match from names to the functions of those names.
macro_rules! functions {
    ($wanted:ident: $($name:ident)*) => {
        match $wanted {
            $(stringify!($name) => Some(libc::$name as *const () as usize),)*
            _ => None,
        }
    };
}

/// The usual functions of C. A static program has no dynamic loader, and holds only what something refers to: this
/// list does.
fn c_library(name: &str) -> Option<usize> {
    // clang calls bcmp where only equality matters. memcmp tells that too.
    let name = if name == "bcmp" { "memcmp" } else { name };
    functions! { name:
        memcpy memmove memset memcmp memchr
        strlen strcmp strncmp strcpy strncpy strcat strchr strrchr strstr strtol atoi
        malloc calloc realloc free
        printf sprintf snprintf puts putchar
        qsort abort exit getenv write
    }
}
