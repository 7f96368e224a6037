//! macOS behind the seam, and what happens when the library is loaded.

use crate::{copy, cores, files, jit, mappings, pages, process};
use core::ffi::CStr;
use core::ops::ControlFlow;
use core::sync::atomic::AtomicUsize;
use execmem_core::platform::{FilePart, Mapping, Memory, PageRequest, Pages, Process, Turn, Views};
use execmem_core::unix::fork::{Forking, Forks};
use execmem_core::{Error, Protection, Runtime, Span, unix};

pub(crate) static RUNTIME: Runtime<MacOs> = Runtime::new(MacOs);
static FORKS: Forks<MacOs> = Forks::new(&RUNTIME);

/// The process's runtime: the one that the `rt_*` symbols use.
pub fn runtime() -> &'static Runtime<MacOs> {
    &RUNTIME
}

/// Runs when the library is loaded, before the program's own code.
#[used]
#[unsafe(link_section = "__DATA,__mod_init_func,mod_init_funcs")]
static ON_LOAD: extern "C" fn() = watch_forks;

/// Also called where memory is mapped, by code that runs before this library's when it is loaded.
extern "C" fn watch_forks() {
    FORKS.watch();
}

/// macOS as a supplier of pages.
#[derive(Clone, Copy, Debug)]
pub struct MacOs;

// SAFETY: the kernel's word: what it maps is zeroed, or the file's, and nobody else's (mmap(2)); `mprotect` and
// `mach_vm_remap` touch exactly the pages that they are given; a page has the same size, of 4 or 16 KiB, as long as it
// runs. A copy is done when the kernel says so. `jit::with_writes` calls `write` once, by itself or by libSystem.
unsafe impl Pages for MacOs {
    const HAS_WRITE_SWITCH: bool = true;

    fn page_size(self) -> usize {
        unix::pages::page_size()
    }

    fn physical_memory(self) -> usize {
        unix::pages::physical_memory()
    }

    fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
        watch_forks();
        pages::map(length, memory, at)
    }

    unsafe fn unmap(self, pages: Span) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { unix::pages::unmap(pages) }
    }

    unsafe fn protect(self, pages: Span, protection: Protection) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::protect(pages, protection) }
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
        unix::files::map(path, for_write, choose, files::map_part)
    }

    fn map_descriptor(
        self,
        descriptor: i32,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        unix::files::map_descriptor(descriptor, choose, files::map_part)
    }

    fn file_size(self, path: &CStr) -> Result<u64, Error> {
        unix::files::size(path)
    }

    unsafe fn request(self, pages: Span, request: PageRequest) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::request(pages, request) }
    }

    unsafe fn copy_guarded(self, source: usize, target: usize, length: usize) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { copy::guarded(source, target, length) }
    }

    unsafe fn flush_icache(self, _written: usize, executed: usize, length: usize) {
        // SAFETY: the caller's promise, passed on.
        unsafe { cores::invalidate(executed, length) }
    }

    fn synchronize_cores(self) -> Result<(), Error> {
        cores::synchronize()
    }

    fn with_jit_writes(self, write: &mut dyn FnMut()) {
        jit::with_writes(write);
    }
}

// SAFETY: `Forks` says *held for fork* only in the thread whose number its handler before the fork has noted.
unsafe impl Process for MacOs {
    fn environment(self, name: &CStr) -> Option<&'static CStr> {
        unix::process::environment(name)
    }

    fn thread(self) -> usize {
        unix::errno::thread()
    }

    fn wait(self, word: &AtomicUsize, value: usize) -> Turn {
        FORKS.wait(|| process::sleep(word, value))
    }

    fn print(self, line: &[u8]) {
        unix::process::print(line);
    }

    fn set_last_error(self, code: i32) {
        unix::process::set_last_error(code);
    }

    fn last_error(self) -> i32 {
        unix::process::last_error()
    }
}

impl Forking for MacOs {
    fn forks() -> &'static Forks<Self> {
        &FORKS
    }
}
