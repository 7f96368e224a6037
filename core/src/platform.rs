//! The seam: what a system has to supply.
//!
//! [`Pages`] is memory: pages in, pages out, and caches. [`Process`] is the little that the core needs of the
//! process around it. An adapter does what it is told: rounding, checks, policy and bookkeeping are done by the
//! core, so that a port is two small `impl`s.

mod process;

use crate::error::Error;
use crate::icache;
use crate::protection::{Advice, Hardening, Protection};
use crate::span::Span;
use core::ffi::CStr;
use core::ops::ControlFlow;
use core::ptr;

pub use process::{About, Process, Turn};

/// What kind of memory [`Pages::map`] is asked for. All of it is zeroed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Private pages with this protection.
    Private(Protection),
    /// Pages with this protection that a forked child shares.
    Shared(Protection),
    /// The same pages seen twice: read-execute at [`Views::address`], read-write at [`Views::writable`].
    Dual,
    /// Pages behind a write switch of each thread (macOS `MAP_JIT`); see [`Pages::with_jit_writes`]. Their
    /// protection is never changed, and a forked child may have none of them.
    Jit,
}

/// Where the pages that were asked for are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views {
    /// The address that callers use.
    pub address: usize,
    /// The read-write view of [`Memory::Dual`]; 0 for other memory.
    pub writable: usize,
}

impl Views {
    /// Where each view starts with so many bytes before it.
    pub(crate) fn widened(self, bytes: usize) -> Self {
        let writable = if self.writable == 0 { 0 } else { self.writable - bytes };
        Self { address: self.address - bytes, writable }
    }

    /// Unmaps what was just mapped. What can't be unmapped is lost, and nothing else is.
    ///
    /// # Safety
    /// [`Pages::map`] gave the views for this length, and nobody uses them.
    pub(crate) unsafe fn unmap(self, length: usize, platform: impl Platform) {
        for view in [self.address, self.writable].into_iter().filter(|view| *view != 0) {
            // SAFETY: the caller's promise.
            let _ = unsafe { platform.unmap(Span::from_parts(view, length)) };
        }
    }
}

/// One range of mapped addresses and its protection, of whoever mapped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: usize,
    /// Address behind the last.
    pub end: usize,
    /// What the pages allow.
    pub protection: Protection,
}

/// Which part of a file to map, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// Page-aligned offset into the file, in bytes.
    pub offset: u64,
    /// Length in bytes, at least 1, inside the file.
    pub length: usize,
    /// The pages' protection.
    pub protection: Protection,
    /// Whether stores reach the file.
    pub shared: bool,
}

/// What to do with pages that are already mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRequest {
    /// Write changes back to the file, and wait for it unless asynchronous.
    Sync {
        /// Only start it.
        is_async: bool,
    },
    /// Keep the pages in memory.
    Lock,
    /// No longer keep them.
    Unlock,
    /// A hint. With [`Advice::DontFork`] no child that is forked from now on has the pages, which are a view of a region and
    /// its guards, nor what is [mapped again](Pages::map_again) of them or [moved](Pages::move_onto). If it fails, none is
    /// kept back.
    Advise(Advice),
    /// A forked child has these pages of [`Memory::Dual`] again: takes [`Advice::DontFork`] back.
    Fork,
    /// Bring file pages in, so that the access that follows can't fault; [`Error::Io`] where the file
    /// has become too short.
    Populate {
        /// For a store, not a load.
        for_write: bool,
    },
}

/// A system: its pages, and the process around them. Whoever implements both has this.
pub trait Platform: Pages + Process {}

impl<T: Pages + Process> Platform for T {}

/// Memory, and the caches in front of it. The value is a copyable handle, as the core keeps it in several places.
///
/// All lengths are in bytes and, unless a method says otherwise, multiples of
/// [`page_size`](Pages::page_size), as addresses are. Errors are translated to the contract's
/// [`Error`]; a method that fails has changed nothing, unless it says otherwise.
///
/// # Safety
/// The core hands out memory on this trait's word:
/// - [`page_size`](Pages::page_size) is a power of two, at least 4 KiB and at most 4 MiB, and never changes;
///   [`placement_granularity`](Pages::placement_granularity) is a power of two, no less than a page and at most 4 MiB;
/// - [`map`](Pages::map), [`map_file`](Pages::map_file) and [`map_descriptor`](Pages::map_descriptor) give pages that
///   nobody else uses, zeroed or with the file's bytes, readable and writable as asked for;
/// - [`protect`](Pages::protect) does to exactly the given pages what it says;
/// - with [`Hardening::GUARDS`], [`map_hardened`](Pages::map_hardened) gives views each between two pages of its own that
///   nobody else has or knows of;
/// - [`map_again`](Pages::map_again) and [`move_onto`](Pages::move_onto) leave other pages alone;
/// - [`copy_guarded`](Pages::copy_guarded) has copied everything where it says so;
/// - [`DROPS_PAGES`](Pages::DROPS_PAGES) is true only where that is so;
/// - [`with_jit_writes`](Pages::with_jit_writes) and [`with_view_writes`](Pages::with_view_writes) call `write` exactly once
///   before they return.
pub unsafe trait Pages: Copy + Send + Sync + 'static {
    /// Whether [`Advice::DontNeed`] gives the memory of private pages back to the system while other threads read
    /// there: at each moment they find what was there, or zeros. Then the core gives memory of its own records back.
    const DROPS_PAGES: bool = false;

    /// Whether there are systems on which [`seal`](Self::seal) works. Where there are none, nothing of what that takes is
    /// linked.
    const CAN_SEAL: bool = false;

    /// What [`try_hardening`](Self::try_hardening) may grant somewhere. Nothing of what the rest takes is linked.
    const HARDENING: Hardening = Hardening::empty();

    /// Whether there are systems that give [`Memory::Jit`].
    const HAS_WRITE_SWITCH: bool = false;

    /// Bytes in a page of the running system.
    fn page_size(self) -> usize;

    /// Where [`map`](Self::map) can place memory: at multiples of so many bytes. More than a page on systems whose
    /// address space is dealt out in larger pieces (64 KiB on Windows).
    fn placement_granularity(self) -> usize {
        self.page_size()
    }

    /// Bytes of physical memory: the default limit for a single allocation.
    fn physical_memory(self) -> usize;

    /// Maps fresh memory, at `at` if the system can place it there and something wishes it. The address may differ
    /// from `at`: the caller looks. The core keeps records of addresses below 2^48; pages elsewhere it unmaps again,
    /// and the allocation is *unsupported*.
    fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error>;

    /// Whether the system can do all of this: tried out, so that [`map_hardened`](Self::map_hardened) can be asked for it.
    fn try_hardening(self, wish: Hardening) -> Result<(), Error> {
        if wish.is_empty() { Ok(()) } else { Err(Error::Unsupported) }
    }

    /// As [`map`](Self::map), with what was granted. With [`Hardening::GUARDS`] a page lies before and behind each view on
    /// which nothing can be loaded, stored or executed; such views are unmapped together with these. With
    /// [`Hardening::KEYS`] nobody loads or stores by a [`writable`](Views::writable) view, wherever it is
    /// [moved](Self::move_onto), but in [`with_view_writes`](Self::with_view_writes) and by a request of populating.
    /// [`Hardening::BTI`] is not its matter: pages are asked for [`Protection::BTI`] where that was granted.
    fn map_hardened(
        self,
        length: usize,
        memory: Memory,
        at: Option<usize>,
        hardening: Hardening,
    ) -> Result<Views, Error> {
        if hardening.is_empty() { self.map(length, memory, at) } else { Err(Error::Unsupported) }
    }

    /// Unmaps pages.
    ///
    /// # Safety
    /// The pages came from this platform, and nothing uses them any more.
    unsafe fn unmap(self, pages: Span) -> Result<(), Error>;

    /// Changes the protection of pages. May fail half-way; the core then restores what it knows.
    ///
    /// # Safety
    /// The pages came from this platform, and nothing relies on the access that they lose.
    unsafe fn protect(self, pages: Span, protection: Protection) -> Result<(), Error>;

    /// Maps the memory of `source`, pages of [`Memory::Dual`], once more with the same protection: in place of
    /// the pages at `onto`, or at a free address. This is how pages become executable again where
    /// [`protect`](Self::protect) refuses to add EXEC to a mapping; other systems are never asked.
    ///
    /// # Safety
    /// `source` and the pages at `onto`, which are as long, came from this platform; what `onto` showed until now
    /// is not needed there any more.
    unsafe fn map_again(self, source: Span, onto: Option<usize>) -> Result<usize, Error> {
        let _ = (source, onto);
        Err(Error::Unsupported)
    }

    /// Moves pages of [`Memory::Dual`] with their protection in place of those at `onto`. This is how a copy of
    /// dual memory gets behind its views, in a process that shares it with another one after a fork. Threads may be
    /// executing at `onto`: they find the old pages or the new ones. If it fails both are where they were. Systems
    /// that can't fork are never asked.
    ///
    /// # Safety
    /// As for [`map_again`](Self::map_again), and nobody else knows of the source.
    unsafe fn move_onto(self, source: Span, onto: usize) -> Result<(), Error> {
        let _ = (source, onto);
        Err(Error::Unsupported)
    }

    /// Visits what is mapped in this process, in address order, from the mapping that contains `from`
    /// or else the next one, until `visit` breaks.
    fn mappings(self, from: usize, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error>;

    /// Opens a regular file, asks `choose` which part of its `size` bytes to map, maps that and closes
    /// the file. `for_write`: stores through the mapping reach the file.
    fn map_file(
        self,
        path: &CStr,
        for_write: bool,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error>;

    /// As [`map_file`](Self::map_file), for a file that the caller has open, as whatever it was opened for, and who
    /// keeps it: its position stays, too. A number that is no descriptor's is an *invalid argument*. The default is for
    /// systems that have no descriptors.
    fn map_descriptor(
        self,
        descriptor: i32,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        let _ = (descriptor, choose);
        Err(Error::Unsupported)
    }

    /// The size of a regular file in bytes.
    fn file_size(self, path: &CStr) -> Result<u64, Error>;

    /// Does something with mapped pages.
    ///
    /// # Safety
    /// The pages came from this platform; for [`Advice::DontNeed`], nothing relies on their contents.
    unsafe fn request(self, pages: Span, request: PageRequest) -> Result<(), Error>;

    /// From now on, as long as the process lives, nobody unmaps or replaces these pages, changes their protection or drops
    /// what they hold: the system refuses it. The default is for systems that can't.
    ///
    /// # Safety
    /// The pages came from this platform, and nothing has to change them again.
    unsafe fn seal(self, pages: Span) -> Result<(), Error> {
        let _ = pages;
        Err(Error::Unsupported)
    }

    /// Bytes of a huge page, for which one entry of a core's tables of addresses stands; a power of two and more than a
    /// page. `None`: [`make_huge`](Self::make_huge) is not for this system.
    fn huge_page(self) -> Option<usize> {
        None
    }

    /// How many bytes of mapped pages have memory now.
    ///
    /// # Safety
    /// The pages came from this platform, and stay mapped.
    unsafe fn resident(self, pages: Span) -> Result<usize, Error> {
        let _ = pages;
        Err(Error::Unsupported)
    }

    /// Puts huge pages behind pages, which are whole ones. They hold what they held; other threads may execute there, and
    /// store there, by another view too. [`Error::NoMemory`] if that can't be now; [`Error::Unsupported`] if it can't be with
    /// these pages.
    ///
    /// # Safety
    /// The pages came from this platform, and stay mapped.
    unsafe fn make_huge(self, pages: Span) -> Result<(), Error> {
        let _ = pages;
        Err(Error::Unsupported)
    }

    /// Copies `length` bytes, any number and anywhere, between memory of which either side may be pages of a
    /// mapped file. Where a file has become too short for them it is [`Error::Io`], never a signal, whatever
    /// others do to the file meanwhile. A copy that fails may have written a part of the target. The two
    /// ranges may overlap, as for `memmove`; two views of the same memory do so unnoticed.
    ///
    /// The default is for systems whose files can't become shorter while they are mapped.
    ///
    /// # Safety
    /// By their protection, `source` is mapped readable and `target` mapped writable for `length` bytes, and
    /// both stay so. Nobody else relies on what is in the target meanwhile.
    unsafe fn copy_guarded(self, source: usize, target: usize, length: usize) -> Result<(), Error> {
        let (source, target) =
            (ptr::with_exposed_provenance::<u8>(source), ptr::with_exposed_provenance_mut::<u8>(target));
        // SAFETY: the caller's promise; nothing takes pages away from a mapping here.
        unsafe { ptr::copy(source, target, length) };
        Ok(())
    }

    /// Makes this core execute what was written: `length` bytes, written at `written`, executed at
    /// `executed` (the same address unless there are two views). Need not be page-aligned.
    ///
    /// Another core executes it too, if it has not fetched from there before: the thread may go on there, or pass the
    /// address on, without a call of [`synchronize_cores`](Self::synchronize_cores). On x86-64 and aarch64 the default
    /// does that, on riscv64 not: its instruction is about one hart.
    ///
    /// # Safety
    /// Both ranges are mapped and readable.
    unsafe fn flush_icache(self, written: usize, executed: usize, length: usize) {
        // SAFETY: the caller promises readable ranges.
        unsafe { icache::make_coherent(written, executed, length) }
    }

    /// Makes every other core that runs this program drop instructions that it has fetched already (a
    /// context synchronisation event on each).
    fn synchronize_cores(self) -> Result<(), Error>;

    /// Whether other cores may be running this program now; if in doubt, they may.
    fn may_run_on_other_cores(self) -> bool {
        true
    }

    /// Runs `write` once, while this thread may load and store by the [`writable`](Views::writable) view of memory with
    /// [`Hardening::KEYS`]. Calls may lie in each other.
    #[inline]
    fn with_view_writes(self, write: &mut dyn FnMut()) {
        write();
    }

    /// Runs `write` once, while this thread may write [`Memory::Jit`] pages. Systems without such memory
    /// just run it.
    fn with_jit_writes(self, write: &mut dyn FnMut()) {
        write();
    }
}
