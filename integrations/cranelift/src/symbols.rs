//! What code refers to and the module does not define.

use std::collections::HashMap;
use std::ffi::CString;

type Lookup = Box<dyn Fn(&str) -> Option<usize> + Send>;

/// Names with their addresses, and where to look for others.
#[derive(Default)]
pub struct Symbols {
    known: HashMap<String, usize>,
    lookups: Vec<Lookup>,
}

impl Symbols {
    pub fn insert(&mut self, name: String, address: usize) {
        self.known.insert(name, address);
    }

    pub fn add_lookup(&mut self, lookup: Lookup) {
        self.lookups.push(lookup);
    }

    /// The address of a symbol: what was inserted, what the last lookup finds, and so on, and what the process has.
    pub fn find(&self, name: &str) -> Option<usize> {
        let looked_up = || self.lookups.iter().rev().find_map(|lookup| lookup(name));
        let known = self.known.get(name).copied();
        known.or_else(looked_up).or_else(|| dynamic(name)).or_else(|| c_library(name))
    }
}

/// What the dynamic loader knows.
fn dynamic(name: &str) -> Option<usize> {
    let name = CString::new(name).ok().filter(|name| !name.is_empty())?;
    // SAFETY: `name` is a C string that lives during the call, and POSIX has RTLD_DEFAULT always valid.
    let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!address.is_null()).then_some(address as usize)
}

/// What Cranelift calls for long copies. A static program has no dynamic loader that would find them.
fn c_library(name: &str) -> Option<usize> {
    Some(match name {
        "memcpy" => libc::memcpy as *const () as usize,
        "memmove" => libc::memmove as *const () as usize,
        "memset" => libc::memset as *const () as usize,
        "memcmp" => libc::memcmp as *const () as usize,
        _ => return None,
    })
}
