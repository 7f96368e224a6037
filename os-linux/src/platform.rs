//! Linux behind the seam, and what happens when the library is loaded.

use crate::process::uncancelled;
use crate::{copy, cores, files, keys, mappings, pages, process};
use core::ffi::CStr;
use core::ops::ControlFlow;
use core::sync::atomic::AtomicUsize;
use execmem_core::platform::{About, FilePart, Mapping, Memory, PageRequest, Pages, Process, Turn, Views};
use execmem_core::unix::fork::{Forking, Forks};
use execmem_core::unix::listeners::Listeners;
use execmem_core::{Error, Hardening, Protection, Runtime, Span, unix};

pub(crate) static RUNTIME: Runtime<Linux> = Runtime::new(Linux);
static FORKS: Forks<Linux> = Forks::new(&RUNTIME);
static LISTENERS: Listeners<Linux> = Listeners::new(Linux);

/// The process's runtime: the one that the `rt_*` symbols use.
pub fn runtime() -> &'static Runtime<Linux> {
    &RUNTIME
}

/// Runs when the library is loaded, before the program's own code.
#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = watch_forks;

/// Also called where memory is mapped, by code that runs before this library's when it is loaded.
extern "C" fn watch_forks() {
    if FORKS.watch() {
        cores::find_variable();
        pages::find_stack();
    }
}

/// Linux as a supplier of pages.
#[derive(Clone, Copy, Debug)]
pub struct Linux;

// SAFETY: the kernel's word: what it maps is zeroed, or the file's, and nobody else's (mmap(2)); `mprotect` and
// `mremap` touch exactly the pages that they are given; a page has the same size, of 4 to 64 KiB, as long as it runs.
// `copy::guarded` has counted each byte. The methods around writes call theirs once.
unsafe impl Pages for Linux {
    /// The kernel replaces each page by one of zeros when it is next touched (madvise(2)).
    const DROPS_PAGES: bool = true;
    const CAN_SEAL: bool = true;
    const HARDENING: Hardening = Hardening::GUARDS.union(if cfg!(target_arch = "x86_64") {
        Hardening::KEYS
    } else if cfg!(target_arch = "aarch64") {
        Hardening::BTI
    } else {
        Hardening::empty()
    });

    fn page_size(self) -> usize {
        unix::pages::page_size()
    }

    fn physical_memory(self) -> usize {
        unix::pages::physical_memory()
    }

    fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
        watch_forks();
        uncancelled(|| pages::map(length, memory, at))
    }

    fn try_hardening(self, wish: Hardening) -> Result<(), Error> {
        if wish.contains(Hardening::BTI) && !pages::has_landing_pads() {
            return Err(Error::Unsupported);
        }
        match wish.contains(Hardening::KEYS) {
            true => uncancelled(keys::acquire),
            false => Ok(()),
        }
    }

    fn map_hardened(
        self,
        length: usize,
        memory: Memory,
        at: Option<usize>,
        hardening: Hardening,
    ) -> Result<Views, Error> {
        watch_forks();
        uncancelled(|| pages::map_hardened(length, memory, at, hardening))
    }

    unsafe fn unmap(self, pages: Span) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { unix::pages::unmap(pages) }
    }

    unsafe fn protect(self, pages: Span, protection: Protection) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { unix::pages::protect(pages, protection) }
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
        uncancelled(|| mappings::visit(from, visit))
    }

    fn map_file(
        self,
        path: &CStr,
        for_write: bool,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        uncancelled(|| unix::files::map(path, for_write, choose, files::map_part))
    }

    fn map_descriptor(
        self,
        descriptor: i32,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        uncancelled(|| unix::files::map_descriptor(descriptor, choose, files::map_part))
    }

    fn file_size(self, path: &CStr) -> Result<u64, Error> {
        unix::files::size(path)
    }

    unsafe fn request(self, pages: Span, request: PageRequest) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        let ask = || unsafe {
            let populate = |for_write| keys::with_access(|| copy::populate(pages, for_write));
            unix::pages::request(pages, request, populate, |inherited| pages::inherit(pages, inherited))
        };
        uncancelled(ask)
    }

    unsafe fn seal(self, pages: Span) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::seal(pages) }
    }

    fn huge_page(self) -> Option<usize> {
        pages::huge_page()
    }

    unsafe fn resident(self, pages: Span) -> Result<usize, Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::resident(pages) }
    }

    unsafe fn make_huge(self, pages: Span) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { pages::make_huge(pages) }
    }

    unsafe fn copy_guarded(self, source: usize, target: usize, length: usize) -> Result<(), Error> {
        // SAFETY: the caller's promise, passed on.
        unsafe { copy::guarded(source, target, length) }
    }

    #[cfg(target_arch = "riscv64")]
    unsafe fn flush_icache(self, _written: usize, _executed: usize, _length: usize) {
        cores::flush_all_harts();
    }

    fn synchronize_cores(self) -> Result<(), Error> {
        cores::synchronize()
    }

    fn may_run_on_other_cores(self) -> bool {
        !cores::is_single_threaded()
    }

    #[inline]
    fn with_view_writes(self, write: &mut dyn FnMut()) {
        keys::with_access(write);
    }
}

// SAFETY: `Forks` says *held for fork* only in the thread whose number its handler before the fork has noted.
unsafe impl Process for Linux {
    fn environment(self, name: &CStr) -> Option<&'static CStr> {
        unix::process::environment(name)
    }

    fn thread(self) -> usize {
        unix::errno::thread()
    }

    fn wait(self, word: &AtomicUsize, value: usize) -> Turn {
        FORKS.wait(|| process::sleep(word, value))
    }

    fn wake(self, word: &AtomicUsize, everybody: bool) {
        process::wake(word, everybody);
    }

    unsafe fn announce(self, code: Span, about: About<'_>) -> Result<(), Error> {
        if !LISTENERS.is_wanted(about) {
            return Ok(());
        }
        // SAFETY: the caller's promise, passed on.
        uncancelled(|| process::unharmed(|| unsafe { LISTENERS.announce(code, about) }))
    }

    fn can_unwind(self) -> bool {
        uncancelled(|| process::unharmed(Listeners::<Self>::can_unwind))
    }

    #[inline]
    fn has_announced(self) -> bool {
        LISTENERS.has_announced()
    }

    fn while_retracted(self, code: Span, end: &mut dyn FnMut() -> bool) {
        LISTENERS.while_retracted(code, end);
    }

    fn forget_announced(self, code: Span) {
        if LISTENERS.has_announced() {
            LISTENERS.forget(code);
        }
    }

    fn print(self, line: &[u8]) {
        uncancelled(|| process::print(line));
    }

    fn set_last_error(self, code: i32) {
        unix::process::set_last_error(code);
    }

    fn last_error(self) -> i32 {
        unix::process::last_error()
    }
}

impl Forking for Linux {
    fn forks() -> &'static Forks<Self> {
        &FORKS
    }

    fn listeners() -> &'static Listeners<Self> {
        &LISTENERS
    }

    fn forget_parent() {
        uncancelled(mappings::forget_parent);
    }
}
