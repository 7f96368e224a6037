//! The set-up for kernels in C: `init` with page tables as callbacks, cores, and the archive. cbindgen makes
//! `include/execmem_baremetal.h` from this file, which therefore says all that a user of C has to know.

use crate::console::Console;
use crate::platform::Setup;
use crate::tables::PageTables;
use crate::{cores, files, platform};
use core::ffi::c_void;
use core::ops::Range;
use core::ptr::null_mut;
use core::slice;
use core::sync::atomic::{AtomicPtr, Ordering};
use execmem_core::platform::Mapping;
use execmem_core::{Error, Protection};

/// What is told of each frame that `unmap` sets free.
pub type ExecmemReleased = Option<unsafe extern "C" fn(to: *mut c_void, frame: i64)>;

/// Addresses that are mapped, by anybody, and allow the same everywhere.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExecmemMapping {
    /// The first address.
    pub start: i64,
    /// The address behind the last.
    pub end: i64,
    /// `RT_PROT_*`: what the pages allow.
    pub protection: i32,
}

/// Page tables that the library may change at the addresses that the kernel gave it. None of these may be NULL.
///
/// Pages are of 4096 bytes, and a range is all pages from `start` up to `end`. They are normal memory: write-back, inner
/// shareable. They are the kernel's alone: UXN is set in all of them, and PXN in each that may not be executed. WRITE
/// without READ may give both, and EXEC without READ too. WRITE with EXEC is never asked for.
///
/// Functions that return a number give 0, or an `RT_ERROR_*` and have changed nothing. They do exactly what they are
/// asked for, to no other pages, and all cores see it when they return (`tlbi ...is`, `dsb ish`, `isb`). The library
/// calls `map`, `protect` and `unmap` one at a time; the others at any time, also in a handler that has interrupted one
/// of these.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExecmemPageTables {
    /// Makes an unmapped page show a frame of physical memory. `RT_ERROR_NO_MEMORY`: no memory for a table.
    pub map:
        Option<unsafe extern "C" fn(context: *mut c_void, page: i64, frame: i64, protection: i32) -> i32>,
    /// Changes what mapped pages allow. Without any access they keep their frames, and are mapped.
    pub protect:
        Option<unsafe extern "C" fn(context: *mut c_void, start: i64, end: i64, protection: i32) -> i32>,
    /// Unmaps pages. Then, when no core can reach the frames through them any more, calls `released(to, frame)` for
    /// each frame.
    pub unmap: Option<
        unsafe extern "C" fn(
            context: *mut c_void,
            start: i64,
            end: i64,
            released: ExecmemReleased,
            to: *mut c_void,
        ) -> i32,
    >,
    /// The frame that a mapped page shows; -1 if nothing is mapped there.
    pub frame: Option<unsafe extern "C" fn(context: *mut c_void, page: i64) -> i64>,
    /// The mapping that holds an address, or the next one: of anybody's, the kernel's own included. False if there is
    /// none.
    pub next:
        Option<unsafe extern "C" fn(context: *mut c_void, from: i64, mapping: *mut ExecmemMapping) -> bool>,
}

/// What a kernel gives to the library. It stays where it is, unchanged, for as long as the kernel runs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExecmemSetup {
    /// `sizeof(ExecmemSetup)`: the structure can grow in later versions.
    pub size: i64,
    /// What the functions here get as their first argument. May be NULL.
    pub context: *mut c_void,
    /// The page tables that all cores use.
    pub tables: ExecmemPageTables,
    /// Physical memory, page-aligned, the library's alone from now on. The first frames hold its own records.
    pub memory_start: i64,
    /// Its end.
    pub memory_end: i64,
    /// Virtual addresses in the lower half, page-aligned, the library's alone from now on. Code memory has two views,
    /// so twice as many as there is memory, and some room for holes, serve well.
    pub addresses_start: i64,
    /// Their end.
    pub addresses_end: i64,
    /// Prints whole lines of text; the dump goes there. NULL: nowhere.
    pub print: Option<unsafe extern "C" fn(context: *mut c_void, text: *const u8, length: i64)>,
    /// Interrupts all other cores that have entered; their handlers call `execmem_synchronize_core`, and the library
    /// waits for that. So no core that has entered may keep interrupts masked for ever, or while it waits for a core
    /// that is in one of the library's functions. NULL: the kernel has one core, or sees to it that a core that is told
    /// of new code calls `execmem_synchronize_core` before it jumps there.
    pub interrupt_others: Option<unsafe extern "C" fn(context: *mut c_void)>,
}

// SAFETY: nothing in it is ever changed, and whoever gives it says that all cores may call the functions.
unsafe impl Sync for ExecmemSetup {}

static SETUP: AtomicPtr<ExecmemSetup> = AtomicPtr::new(null_mut());

fn setup() -> Option<&'static ExecmemSetup> {
    // SAFETY: null, or what `init` was given, which stays as it is: its caller's promise.
    unsafe { SETUP.load(Ordering::Acquire).as_ref() }
}

/// Gives the library what it may work with. Until then there is no memory: every allocation fails. 0, or the
/// `RT_ERROR_*` why not: *invalid argument* for NULL, another size, a function that is missing, a range that is empty or
/// not page-aligned; *no memory* if there is too little for the library's own records, or what `map` said; *refused* if
/// it has worked before. One core calls it, at exception level 1, with the tables in use, floating point not trapped
/// (CPACR_EL1.FPEN) and nobody else in it. That core has entered then.
///
/// # Safety
/// The setup keeps what its comments say, and stays as it is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execmem_init(setup: *const ExecmemSetup) -> i32 {
    // SAFETY: the caller's promise, passed on.
    code(unsafe { init(setup) })
}

/// Lets this core take part: it will be interrupted, and has a last error of its own. 0, or `RT_ERROR_NO_MEMORY`: 64
/// cores have entered.
#[unsafe(no_mangle)]
pub extern "C" fn execmem_enter_core() -> i32 {
    code(cores::enter())
}

/// This core no longer runs code of anybody else, for example before it is switched off.
#[unsafe(no_mangle)]
pub extern "C" fn execmem_leave_core() {
    cores::leave();
}

/// Makes this core drop instructions that it has fetched, and tells cores that wait for it.
#[unsafe(no_mangle)]
pub extern "C" fn execmem_synchronize_core() {
    cores::synchronize_this_core();
}

/// The files of this archive are what `rt_mmap_file` and `rt_file_size_for_mmap` find from now on: a cpio archive as
/// `cpio -H newc` writes it, with names in UTF-8, which stays as it is. Replaces an earlier one, whose mappings stay. 0,
/// or *invalid argument*: it is NULL or damaged, and the earlier one stays. `damaged_at`, if it isn't NULL, then has
/// where the first entry begins that can't be read.
///
/// # Safety
/// So many bytes can be read there for ever, and nobody writes to them. `damaged_at` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn execmem_set_archive(archive: *const u8, length: i64, damaged_at: *mut i64) -> i32 {
    if archive.is_null() || length < 0 {
        return code(Err(Error::InvalidArgument));
    }
    // SAFETY: the caller says that the bytes can be read, for ever.
    let archive = unsafe { slice::from_raw_parts(archive, length as usize) };
    code(files::set_archive(archive).map_err(|damage| {
        // SAFETY: the caller says that it can be written.
        if let Some(damaged_at) = unsafe { damaged_at.as_mut() } {
            *damaged_at = damage.offset as i64;
        }
        Error::InvalidArgument
    }))
}

fn code(result: Result<(), Error>) -> i32 {
    result.map_or_else(|error| error as i32, |()| 0)
}

/// # Safety
/// As `execmem_init`.
unsafe fn init(given: *const ExecmemSetup) -> Result<(), Error> {
    // SAFETY: the caller says that it is NULL or a setup, which stays.
    let setup: &'static ExecmemSetup = unsafe { given.as_ref() }.ok_or(Error::InvalidArgument)?;
    if setup.size != size_of::<ExecmemSetup>() as i64 || !setup.tables.is_complete() {
        return Err(Error::InvalidArgument);
    }
    let memory = range(setup.memory_start, setup.memory_end)?;
    let addresses = range(setup.addresses_start, setup.addresses_end)?;
    SETUP
        .compare_exchange(null_mut(), given.cast_mut(), Ordering::AcqRel, Ordering::Relaxed)
        .map_err(|_| Error::Refused)?;
    let console = if setup.print.is_some() { Console::Writer(print) } else { Console::None };
    let interrupt_others = setup.interrupt_others.map(|_| interrupt_others as fn());
    // SAFETY: the caller's promise, passed on.
    unsafe { platform::init(Setup { tables: setup, memory, addresses, console, interrupt_others }) }
        .inspect_err(|_| SETUP.store(null_mut(), Ordering::Release))
}

fn range(start: i64, end: i64) -> Result<Range<usize>, Error> {
    // What is empty or not aligned, the callee refuses.
    if start < 0 || end < 0 { Err(Error::InvalidArgument) } else { Ok(start as usize..end as usize) }
}

/// Prints by the kernel's function, if there is one.
pub(crate) fn print(text: &[u8]) {
    if let Some(ExecmemSetup { context, print: Some(print), .. }) = setup() {
        // SAFETY: the kernel gave it for this.
        unsafe { print(*context, text.as_ptr(), text.len() as i64) };
    }
}

fn interrupt_others() {
    if let Some(ExecmemSetup { context, interrupt_others: Some(interrupt), .. }) = setup() {
        // SAFETY: the kernel gave it for this.
        unsafe { interrupt(*context) };
    }
}

impl ExecmemPageTables {
    fn is_complete(&self) -> bool {
        let Self { map, protect, unmap, frame, next } = self;
        map.is_some() && protect.is_some() && unmap.is_some() && frame.is_some() && next.is_some()
    }
}

/// What a function of the kernel answered. A number that is no error's stands for a failure, too.
fn answer(code: i32) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::from_code(code).unwrap_or(Error::Io)) }
}

/// Passes a frame on to the library.
unsafe extern "C" fn release(to: *mut c_void, frame: i64) {
    // SAFETY: `unmap` below lends this to the kernel, which gives it back before `unmap` returns.
    let released = unsafe { &mut *to.cast::<&mut dyn FnMut(usize)>() };
    released(frame as usize);
}

// SAFETY: the kernel's functions do what the comments of `ExecmemPageTables` say: the promise of who called
// `execmem_init`. `init` has seen that there are all of them.
unsafe impl PageTables for ExecmemSetup {
    unsafe fn map(&self, page: usize, frame: usize, protection: Protection) -> Result<(), Error> {
        let map = self.tables.map.ok_or(Error::Unsupported)?;
        // SAFETY: the caller's promise, passed on.
        answer(unsafe { map(self.context, page as i64, frame as i64, protection.bits() as i32) })
    }

    unsafe fn protect(&self, pages: Range<usize>, protection: Protection) -> Result<(), Error> {
        let protect = self.tables.protect.ok_or(Error::Unsupported)?;
        let (start, end) = (pages.start as i64, pages.end as i64);
        // SAFETY: the caller's promise, passed on.
        answer(unsafe { protect(self.context, start, end, protection.bits() as i32) })
    }

    unsafe fn unmap(&self, pages: Range<usize>, mut released: &mut dyn FnMut(usize)) -> Result<(), Error> {
        let unmap = self.tables.unmap.ok_or(Error::Unsupported)?;
        let (start, end) = (pages.start as i64, pages.end as i64);
        let to = (&raw mut released).cast();
        // SAFETY: the caller's promise, passed on; `to` is what `release` takes.
        answer(unsafe { unmap(self.context, start, end, Some(release), to) })
    }

    fn frame(&self, page: usize) -> Option<usize> {
        // SAFETY: it may be called at any time.
        let frame = unsafe { self.tables.frame?(self.context, page as i64) };
        usize::try_from(frame).ok()
    }

    fn next(&self, from: usize) -> Option<Mapping> {
        let mut found = ExecmemMapping { start: 0, end: 0, protection: 0 };
        // SAFETY: it may be called at any time, and writes to this alone.
        let is_found = unsafe { self.tables.next?(self.context, from as i64, &mut found) };
        let ExecmemMapping { start, end, protection } = found;
        let protection = Protection::from_bits_truncate(protection as _);
        is_found.then_some(Mapping { start: start as usize, end: end as usize, protection })
    }
}
