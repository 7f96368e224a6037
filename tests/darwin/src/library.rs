//! A machine with a library loaded on it: what tests work with.

use crate::image::{self, Image};
use crate::rules::Rules;
use crate::{jit, kernel, libsystem, switch};
use execmem_core::abi::RtExecMemoryStats;
use std::ffi::CStr;
use std::path::Path;

/// A loaded library. A process can have one.
pub struct Library {
    image: Image,
}

/// The pair of registers that `rt_mmap_file` returns.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair(pub i64, pub i64);

impl Library {
    /// Starts the machine and loads the library.
    pub fn load(file: &Path, rules: Rules) -> Result<Self, String> {
        let data = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        kernel::start(rules);
        let image = image::load(&data, rules.page_size(), libsystem::symbol)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        switch::set_list(image.jit_callbacks());
        image.initialise();
        Ok(Self { image })
    }

    /// As `load`, on a machine whose `MAP_JIT` pages keep what was fetched from them until
    /// `sys_icache_invalidate`.
    pub fn load_to_judge_caches(file: &Path, rules: Rules) -> Result<Self, String> {
        jit::keep_translations();
        Self::load(file, rules)
    }

    /// The address of an exported symbol.
    pub fn address(&self, name: &str) -> Result<usize, String> {
        self.image.symbol(name)
    }

    /// Calls a function that takes up to six numbers.
    ///
    /// # Panics
    /// If the library does not export it.
    pub fn call(&self, name: &str, arguments: &[i64]) -> i64 {
        let address = self.address(name).unwrap_or_else(|error| panic!("{error}"));
        let mut six = [0; 6];
        six[..arguments.len()].copy_from_slice(arguments);
        let [a, b, c, d, e, f] = six;
        // SAFETY: `rt_*` functions take numbers, of which further ones are ignored.
        let function: extern "C" fn(i64, i64, i64, i64, i64, i64) -> i64 =
            unsafe { std::mem::transmute(address) };
        function(a, b, c, d, e, f)
    }

    /// Calls a function that takes five numbers and returns two.
    ///
    /// # Panics
    /// If the library does not export it.
    pub fn call_for_pair(&self, name: &str, [a, b, c, d, e]: [i64; 5]) -> Pair {
        let address = self.address(name).unwrap_or_else(|error| panic!("{error}"));
        // SAFETY: `rt_*` functions take numbers, of which further ones are ignored; the name is one of a pair's.
        let function: extern "C" fn(i64, i64, i64, i64, i64) -> Pair =
            unsafe { std::mem::transmute(address) };
        function(a, b, c, d, e)
    }

    /// Copies bytes into code memory with `rt_write_exec_bytes`.
    pub fn write(&self, address: i64, bytes: &[u8]) -> i64 {
        self.call("rt_write_exec_bytes", &[address, bytes.as_ptr() as i64, bytes.len() as i64, 0])
    }

    /// `rt_exec_memory_stats`.
    pub fn statistics(&self) -> Result<RtExecMemoryStats, String> {
        // SAFETY: a structure of numbers.
        let mut statistics: RtExecMemoryStats = unsafe { std::mem::zeroed() };
        statistics.size = size_of::<RtExecMemoryStats>() as i64;
        match self.call("rt_exec_memory_stats", &[&raw mut statistics as i64]) {
            1 => Ok(statistics),
            other => Err(format!("rt_exec_memory_stats answers {other}")),
        }
    }

    /// The sentence of the thread's last error.
    pub fn last_error(&self) -> String {
        let message = self.call("rt_error_message", &[self.call("rt_last_error", &[])]);
        // SAFETY: the library's own static C string.
        unsafe { CStr::from_ptr(message as *const _) }.to_string_lossy().into_owned()
    }
}
