//! Stands in for the crate `execmem` where `execmem-object` works on a modelled Mac: its memory is that of the macOS
//! library, which it reaches by the C symbols.

pub use execmem_core::icache::is_aarch64_landing_pad;
pub use execmem_core::{Error as ErrorKind, Hardening, Protection};

use execmem_core::{Error, Statistics};
use std::ffi::CStr;
use std::sync::OnceLock;

/// Finds a symbol of the library.
static SYMBOLS: OnceLock<fn(&str) -> usize> = OnceLock::new();

/// Says where the library's symbols are.
///
/// # Panics
/// If that was said before.
pub fn install(symbols: fn(&str) -> usize) {
    SYMBOLS.set(symbols).expect("a process has one library");
}

fn call(name: &str, arguments: &[i64]) -> i64 {
    let address = SYMBOLS.get().expect("a library is installed")(name);
    let mut five = [0; 5];
    five[..arguments.len()].copy_from_slice(arguments);
    let [a, b, c, d, e] = five;
    // SAFETY: `rt_*` functions take numbers, of which further ones are ignored.
    let function: extern "C" fn(i64, i64, i64, i64, i64) -> i64 = unsafe { std::mem::transmute(address) };
    function(a, b, c, d, e)
}

/// The result of a call whose failure is `failure`.
fn checked(name: &str, arguments: &[i64], failure: i64) -> Result<i64, Error> {
    match call(name, arguments) {
        result if result == failure => {
            Err(Error::from_code(call("rt_last_error", &[]) as i32).unwrap_or(Error::Unsupported))
        }
        result => Ok(result),
    }
}

/// The library's runtime.
#[derive(Clone, Copy, Debug)]
pub struct Runtime;

/// The library's runtime.
pub fn runtime() -> Runtime {
    Runtime
}

impl Runtime {
    /// `rt_get_page_size`.
    pub fn page_size(self) -> usize {
        call("rt_get_page_size", &[]) as usize
    }

    /// `rt_alloc_rw_memory`.
    pub fn alloc_rw(self, size: i64) -> Result<usize, Error> {
        checked("rt_alloc_rw_memory", &[size], 0).map(|address| address as usize)
    }

    /// `rt_alloc_exec_memory`.
    pub fn alloc_exec(self, size: i64) -> Result<usize, Error> {
        checked("rt_alloc_exec_memory", &[size], 0).map(|address| address as usize)
    }

    /// The library's code heap.
    pub fn code_heap(self) -> CodeHeap {
        CodeHeap
    }

    /// `rt_alloc_exec_memory_near`.
    pub fn alloc_exec_near(self, size: i64, target: i64, max_distance: i64) -> Result<usize, Error> {
        let arguments = [size, target, max_distance];
        checked("rt_alloc_exec_memory_near", &arguments, 0).map(|address| address as usize)
    }

    /// `rt_free_exec_memory`.
    pub fn free_exec(self, address: i64, size: i64) -> Result<(), Error> {
        checked("rt_free_exec_memory", &[address, size], 0).map(drop)
    }

    /// `rt_set_protection`.
    pub fn set_protection(self, address: i64, size: i64, wanted: Protection) -> Result<(), Error> {
        checked("rt_set_protection", &[address, size, wanted.bits().into()], 0).map(drop)
    }

    /// `rt_make_executable`.
    pub fn make_executable(self, address: i64, size: i64) -> Result<(), Error> {
        checked("rt_make_executable", &[address, size], 0).map(drop)
    }

    /// `rt_get_protection`.
    pub fn protection_at(self, address: i64) -> Result<Option<Protection>, Error> {
        let bits = u8::try_from(call("rt_get_protection", &[address]));
        Ok(bits.ok().and_then(Protection::from_bits))
    }

    /// What `rt_exec_memory_stats` says of it.
    pub fn hardening(self) -> Hardening {
        let mut figures = Statistics { size: size_of::<Statistics>() as i64, ..Statistics::default() };
        call("rt_exec_memory_stats", &[(&raw mut figures).expose_provenance() as i64]);
        Hardening::from_bits_truncate(figures.hardening as i32)
    }

    /// `rt_code_set_name`.
    pub fn set_name(self, address: i64, size: i64, name: &CStr) -> Result<(), Error> {
        checked("rt_code_set_name", &[address, size, name.as_ptr().expose_provenance() as i64], 0).map(drop)
    }

    /// `rt_is_executable`.
    pub fn is_executable(self, address: i64) -> Result<bool, Error> {
        Ok(call("rt_is_executable", &[address]) == 1)
    }

    /// `rt_write_exec_bytes`.
    ///
    /// # Safety
    /// `source` is readable for `length` bytes.
    pub unsafe fn write(
        self,
        address: i64,
        source: *const u8,
        length: i64,
        offset: i64,
    ) -> Result<usize, Error> {
        let arguments = [address, source as i64, length, offset];
        checked("rt_write_exec_bytes", &arguments, -1).map(|written| written as usize)
    }

    /// `rt_try_call`.
    ///
    /// # Safety
    /// If the address is executable there is a function of so many integers, which returns.
    pub unsafe fn call(self, function: i64, arguments: &[i64]) -> Result<i64, Error> {
        let mut result = 0;
        let (list, place) = (arguments.as_ptr() as i64, &raw mut result as i64);
        checked("rt_try_call", &[function, list, arguments.len() as i64, place], 0).map(|_| result)
    }
}

/// The library's code heap.
#[derive(Clone, Copy, Debug)]
pub struct CodeHeap;

impl CodeHeap {
    /// `rt_code_alloc`.
    pub fn alloc(self, size: i64) -> Result<usize, Error> {
        checked("rt_code_alloc", &[size], 0).map(|address| address as usize)
    }

    /// `rt_code_write`.
    ///
    /// # Safety
    /// `source` is readable for `length` bytes.
    pub unsafe fn write(
        self,
        address: i64,
        source: *const u8,
        length: i64,
        offset: i64,
    ) -> Result<usize, Error> {
        let arguments = [address, source as i64, length, offset];
        checked("rt_code_write", &arguments, -1).map(|written| written as usize)
    }

    /// `rt_code_publish`.
    pub fn publish(self, address: i64, size: i64) -> Result<(), Error> {
        checked("rt_code_publish", &[address, size], 0).map(drop)
    }

    /// `rt_code_free`.
    pub fn free(self, address: i64) -> Result<(), Error> {
        checked("rt_code_free", &[address], 0).map(drop)
    }
}

/// What `execmem-object` uses of an adapter.
pub mod os {
    /// `rt_symbol_lookup`.
    ///
    /// # Safety
    /// The name is a C string.
    pub unsafe fn rt_symbol_lookup(name: *const std::ffi::c_char) -> i64 {
        super::call("rt_symbol_lookup", &[name as i64])
    }
}
