//! The machine behind the seam, and what the kernel gives for it.

use crate::console::{self, Console};
use crate::tables::{PAGE_SIZE, PageTables};
use crate::{cores, files, mappings, pages, process};
use core::ffi::CStr;
use core::ops::{ControlFlow, Range};
use execmem_core::platform::{FilePart, Mapping, Memory, PageRequest, Pages, Process, Views};
use execmem_core::{Error, Protection, Runtime, Span};

pub(crate) static RUNTIME: Runtime<BareMetal> = Runtime::new(BareMetal);

/// The machine's runtime: the one that the `rt_*` symbols use.
pub fn runtime() -> &'static Runtime<BareMetal> {
    &RUNTIME
}

/// What a kernel gives to the library.
pub struct Setup {
    /// The page tables that all cores use.
    pub tables: &'static dyn PageTables,
    /// Physical memory, page-aligned. The first frames hold the library's own records.
    pub memory: Range<usize>,
    /// Virtual addresses, page-aligned. Code memory has two views, so twice as many as there is memory, and
    /// some room for holes, serve well.
    pub addresses: Range<usize>,
    /// Where the dump and reports go.
    pub console: Console,
    /// Interrupts all other cores that have entered; their handlers call
    /// [`cores::synchronize_this_core`]. `None`: the kernel has one core, or has no interrupt controller and
    /// takes on the duty that [`cores`] describes.
    pub interrupt_others: Option<fn()>,
}

/// Gives the library what it may work with. Until then there is no memory: every allocation fails.
///
/// *Invalid argument*: a range that is empty or not page-aligned. *No memory*: too little for the library's
/// own records. *Refused*: it was called before.
///
/// # Safety
/// Memory and addresses are the library's alone from now on. This core uses the tables already.
pub unsafe fn init(setup: Setup) -> Result<(), Error> {
    // SAFETY: the caller's promise, passed on.
    unsafe { pages::init(setup.tables, setup.memory, setup.addresses) }?;
    console::set(setup.console);
    if let Some(interrupt) = setup.interrupt_others {
        cores::set_interrupt_others(interrupt);
    }
    cores::enter()
}

/// The machine as a supplier of pages.
#[derive(Clone, Copy, Debug)]
pub struct BareMetal;

// SAFETY: `pages` gives each frame to one mapping at a time, zeroed or with a file's bytes, and whoever implements
// `PageTables` says that it changes exactly the given pages; the page size is a constant. Copies and writes are the
// trait's own methods.
unsafe impl Pages for BareMetal {
    fn page_size(self) -> usize {
        PAGE_SIZE
    }

    fn physical_memory(self) -> usize {
        pages::physical_memory()
    }

    fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
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

    fn mappings(self, from: usize, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error> {
        mappings::visit(from, visit)
    }

    #[inline(always)]
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

    fn synchronize_cores(self) -> Result<(), Error> {
        cores::synchronize()
    }
}

// SAFETY: `wait` is the trait's own, which never says *held for fork*: nothing forks here.
unsafe impl Process for BareMetal {
    const CAN_FORK: bool = false;

    fn print(self, line: &[u8]) {
        console::print(line);
    }

    fn set_last_error(self, code: i32) {
        process::set_last_error(code);
    }

    fn last_error(self) -> i32 {
        process::last_error()
    }
}
