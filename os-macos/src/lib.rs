//! execmem on macOS: pages from `mmap` and `mach_vm`, and the `rt_*` symbols.
//!
//! One small file for each thing that the core asks of a system. The crate uses libSystem and no `std`,
//! so that the C libraries made from it link into any program. It needs macOS 11.
//!
//! What Apple's kernel allows depends on the processor and on how the program was signed:
//!
//! | | W and X at once | `MAP_JIT` | RW to RX by `mprotect` |
//! |---|---|---|---|
//! | Intel | yes | yes | yes |
//! | Apple silicon | no | yes | yes |
//! | hardened runtime, with `com.apple.security.cs.allow-jit` | no | yes | kills who executes it |
//! | hardened runtime, without | no | no | kills who executes it |
//!
//! The core tries on one page what is granted; what would kill is refused here (`signing`). Memory of
//! `rt_alloc_rw_memory` is plain memory always, and becomes executable by `mprotect`: where that is refused,
//! only `rt_alloc_exec_memory` gives code memory.
//!
//! Its machine code is tested on Linux, against a model of libSystem and the kernel (`tests/darwin`).
#![no_std]
#![cfg(target_os = "macos")]
#![allow(rustdoc::private_intra_doc_links, reason = "who reads the source can follow them")]

mod console;
mod cores;
mod errno;
mod exports;
mod files;
mod fork;
mod jit;
mod mappings;
mod pages;
mod signing;
mod thread;

#[cfg(all(feature = "c-library", not(test)))]
mod c_library;

pub use exports::*;

use core::ffi::CStr;
use core::ops::ControlFlow;
use core::sync::atomic::AtomicU32;
use execmem_core::platform::{FilePart, Mapping, Memory, PageRequest, Pages, Process, Turn, Views};
use execmem_core::{Error, Protection, Runtime, Span};

static RUNTIME: Runtime<MacOs> = Runtime::new(MacOs);

/// The process's runtime: the one that the `rt_*` symbols use.
pub fn runtime() -> &'static Runtime<MacOs> {
    &RUNTIME
}

/// macOS as a supplier of pages.
#[derive(Clone, Copy, Debug)]
pub struct MacOs;

// SAFETY: `mmap` gives fresh zeroed pages, or the file's, that nobody else uses; `mprotect` changes exactly
// the given pages; the page size is the kernel's.
unsafe impl Pages for MacOs {
    fn page_size(self) -> usize {
        pages::page_size()
    }

    fn physical_memory(self) -> usize {
        pages::physical_memory()
    }

    fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
        fork::watch();
        pages::map(length, memory, at)
    }

    unsafe fn unmap(self, pages: Span) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::unmap(pages) }
    }

    unsafe fn protect(self, pages: Span, protection: Protection) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::protect(pages, protection) }
    }

    unsafe fn map_again(self, source: Span, onto: Option<usize>) -> Result<usize, Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::map_again(source, onto) }
    }

    unsafe fn move_onto(self, source: Span, onto: usize) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::move_onto(source, onto) }
    }

    fn mappings(self, from: usize, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error> {
        mappings::visit(from, visit)
    }

    fn map_file(
        self,
        path: &CStr,
        for_write: bool,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        files::map(path, for_write, choose)
    }

    fn file_size(self, path: &CStr) -> Result<u64, Error> {
        files::size(path)
    }

    unsafe fn request(self, pages: Span, request: PageRequest) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::request(pages, request) }
    }

    unsafe fn copy_guarded(self, source: usize, target: usize, length: usize) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::copy_guarded(source, target, length) }
    }

    unsafe fn flush_icache(self, _written: usize, executed: usize, length: usize) {
        // SAFETY: the caller promises readable ranges.
        unsafe { cores::invalidate(executed, length) }
    }

    fn synchronize_cores(self) -> Result<(), Error> {
        cores::synchronize()
    }

    fn with_jit_writes(self, write: &mut dyn FnMut()) {
        jit::with_writes(write);
    }
}

// SAFETY: `AtFork` knows which thread forks.
unsafe impl Process for MacOs {
    fn environment(self, name: &CStr) -> Option<&'static CStr> {
        thread::environment(name)
    }

    fn wait(self, word: &AtomicU32, value: u32) -> Turn {
        fork::wait(word, value)
    }

    fn print(self, line: &[u8]) {
        console::print(line);
    }

    fn set_last_error(self, code: i32) {
        thread::set_last_error(code);
    }

    fn last_error(self) -> i32 {
        thread::last_error()
    }
}
