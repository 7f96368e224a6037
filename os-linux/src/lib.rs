//! execmem on Linux: pages from `mmap`, and the `rt_*` symbols.
//!
//! One small file for each thing that the core asks of a system. The crate uses libc and no `std`, so
//! that the C libraries made from it link into any program.
//!
//! Tested on x86_64, and on aarch64 under qemu-user. Kernel features newer than 4.17 are used where the
//! kernel knows them, with a fallback where it doesn't.
#![no_std]
#![cfg(target_os = "linux")]

mod console;
mod copy;
mod cores;
mod errno;
mod exports;
mod files;
mod fork;
mod mappings;
mod pages;
mod thread;

#[cfg(all(feature = "c-library", not(test)))]
mod c_library;

pub use exports::*;

use core::ffi::CStr;
use core::ops::ControlFlow;
use core::sync::atomic::AtomicU32;
use execmem_core::platform::{FilePart, Mapping, Memory, PageRequest, Pages, Process, Turn, Views};
use execmem_core::{Error, Protection, Runtime, Span};

static RUNTIME: Runtime<Linux> = Runtime::new(Linux);

/// The process's runtime: the one that the `rt_*` symbols use.
pub fn runtime() -> &'static Runtime<Linux> {
    &RUNTIME
}

/// Linux as a supplier of pages.
#[derive(Clone, Copy, Debug)]
pub struct Linux;

// SAFETY: `mmap` gives fresh zeroed pages, or the file's, that nobody else uses; `mprotect` changes exactly
// the given pages; the page size is the kernel's.
unsafe impl Pages for Linux {
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
        unsafe { copy::guarded(source, target, length) }
    }

    fn synchronize_cores(self) -> Result<(), Error> {
        cores::synchronize()
    }

    fn may_run_on_other_cores(self) -> bool {
        !cores::is_single_threaded()
    }
}

// SAFETY: `AtFork` knows which thread forks.
unsafe impl Process for Linux {
    fn environment(self, name: &CStr) -> Option<&'static CStr> {
        thread::environment(name)
    }

    fn wait(self, word: &AtomicU32, value: u32) -> Turn {
        fork::wait(word, value)
    }

    fn wake(self, word: &AtomicU32, everybody: bool) {
        fork::wake(word, everybody);
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
