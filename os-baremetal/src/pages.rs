//! Mapping, unmapping and protecting pages: frames shown at addresses, by the page tables.

use crate::arena::{self, Arena};
use crate::frames::Frames;
use crate::tables::{PAGE_SIZE, PageTables};
use core::cell::UnsafeCell;
use core::ops::Range;
use core::ptr;
use core::slice;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use execmem_core::platform::{Memory, PageRequest, Views};
use execmem_core::{Advice, Error, Protection, Span};
use spin::{Mutex, MutexGuard};

/// What the kernel gave, and what of it is in use.
struct Supply {
    frames: Frames,
    arena: Arena,
}

/// Page tables that are given once. `spin::Once` would be the same with a panic, which nothing here may have.
struct Given {
    is_there: AtomicBool,
    tables: UnsafeCell<Option<&'static dyn PageTables>>,
}

// SAFETY: `init` stores the tables once, under the lock of the supply, before `is_there` says so. Nobody looks before that,
// and nobody stores after it. Page tables may be used by several cores (`PageTables: Sync`).
unsafe impl Sync for Given {}

static TABLES: Given = Given { is_there: AtomicBool::new(false), tables: UnsafeCell::new(None) };
static SUPPLY: Mutex<Option<Supply>> = Mutex::new(None);
static PHYSICAL_MEMORY: AtomicUsize = AtomicUsize::new(0);

/// The page tables; before [`init`](crate::init) there is no memory.
pub(crate) fn tables() -> Result<&'static dyn PageTables, Error> {
    if !TABLES.is_there.load(Ordering::Acquire) {
        return Err(Error::NoMemory);
    }
    // SAFETY: they are there, so `init` has stored them, and nobody stores again.
    unsafe { *TABLES.tables.get() }.ok_or(Error::NoMemory)
}

/// Bytes of memory for allocations.
pub(crate) fn physical_memory() -> usize {
    PHYSICAL_MEMORY.load(Ordering::Relaxed)
}

/// Puts the counts of frames and the bitmap of addresses into the first frames, shown at the first
/// addresses.
///
/// # Safety
/// As [`init`](crate::init).
pub(crate) unsafe fn init(
    tables: &'static dyn PageTables,
    memory: Range<usize>,
    addresses: Range<usize>,
) -> Result<(), Error> {
    for Range { start, end } in [&memory, &addresses] {
        if start >= end || start % PAGE_SIZE != 0 || end % PAGE_SIZE != 0 {
            return Err(Error::InvalidArgument);
        }
    }
    let mut supply = SUPPLY.lock();
    if supply.is_some() {
        return Err(Error::Refused);
    }
    let pages = addresses.len() / PAGE_SIZE;
    let bitmap = arena::words(pages) * size_of::<u64>();
    let own = (bitmap + memory.len() / PAGE_SIZE).div_ceil(PAGE_SIZE);
    let rest = memory.start + own * PAGE_SIZE..memory.end;
    if rest.is_empty() || own > pages {
        return Err(Error::NoMemory);
    }
    for offset in (0..own * PAGE_SIZE).step_by(PAGE_SIZE) {
        // SAFETY: the caller says that these addresses and frames are the library's alone, and they are unmapped yet.
        unsafe { tables.map(addresses.start + offset, memory.start + offset, Protection::RW) }?;
    }
    // SAFETY: the pages were mapped just now, read-write and `own` of them: room for both. Nobody else knows of them.
    // The bitmap's words hold whatever was in memory, as any bits are a number; the counters are zeroed first.
    let (bitmap, counts) = unsafe {
        let start = ptr::with_exposed_provenance_mut::<u8>(addresses.start);
        let bitmap = slice::from_raw_parts_mut(start.cast::<u64>(), arena::words(pages));
        let counts = start.add(size_of_val(bitmap));
        counts.write_bytes(0, rest.len() / PAGE_SIZE);
        (bitmap, slice::from_raw_parts_mut(counts, rest.len() / PAGE_SIZE))
    };
    let frames = Frames::new(rest.start, counts);
    let mut arena = Arena::new(addresses.start, pages, bitmap);
    arena.take(own, None);
    PHYSICAL_MEMORY.store(frames.free() * PAGE_SIZE, Ordering::Relaxed);
    *supply = Some(Supply { frames, arena });
    // SAFETY: the lock is held, and the supply was not there before: this is the only store, and nobody has looked yet.
    unsafe { *TABLES.tables.get() = Some(tables) };
    TABLES.is_there.store(true, Ordering::Release);
    Ok(())
}

fn with_supply<R>(work: impl FnOnce(&mut Supply) -> Result<R, Error>) -> Result<R, Error> {
    work(lock().as_mut().ok_or(Error::NoMemory)?)
}

#[inline(never)]
fn lock() -> MutexGuard<'static, Option<Supply>> {
    SUPPLY.lock()
}

/// Maps fresh memory. Two views show the same frames.
pub(crate) fn map(length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
    let (protection, droppable) = match memory {
        Memory::Private(protection) => (protection, true),
        Memory::Shared(protection) => (protection, false),
        Memory::Dual => (Protection::RX, false),
        Memory::Jit => return Err(Error::Unsupported),
    };
    let address = map_filled(length, protection, at, droppable, &[])?;
    if memory != Memory::Dual {
        return Ok(Views { address, writable: 0 });
    }
    let pages = Span::new(address as i64, length as i64)?;
    // SAFETY: the pages were mapped just now, all of them.
    match unsafe { show_again(pages, Protection::RW, FAR_FROM_CODE) } {
        Ok(writable) => Ok(Views { address, writable }),
        Err(error) => {
            // SAFETY: this call has mapped the pages, and nobody else knows of them. What can't be unmapped is lost.
            let _ = unsafe { unmap(pages) };
            Err(error)
        }
    }
}

/// Maps pages with these contents, and zeroes behind them; only then they get their protection. `droppable`:
/// what [`Advice::DontNeed`] may make zero again.
pub(crate) fn map_filled(
    length: usize,
    protection: Protection,
    at: Option<usize>,
    droppable: bool,
    contents: &[u8],
) -> Result<usize, Error> {
    // Page tables are never asked for such pages.
    if protection.is_writable_code() {
        return Err(Error::Refused);
    }
    let address = with_supply(|supply| supply.map_fresh(length, at, droppable))?;
    let start = ptr::with_exposed_provenance_mut::<u8>(address);
    let filled = contents.len().min(length);
    // SAFETY: this call has mapped so many bytes here, read-write, and nobody else knows of them.
    unsafe {
        start.copy_from_nonoverlapping(contents.as_ptr(), filled);
        start.add(filled).write_bytes(0, length - filled);
    }
    let pages = Span::new(address as i64, length as i64)?;
    // SAFETY: this call has mapped the pages, and nobody else relies on what they lose.
    if let Err(error) = unsafe { protect(pages, protection) } {
        // SAFETY: this call has mapped the pages, and nobody else knows of them. What can't be unmapped is lost.
        let _ = unsafe { unmap(pages) };
        return Err(error);
    }
    Ok(address)
}

impl Supply {
    /// Maps frames that were free, read-write, with whatever is in them.
    fn map_fresh(&mut self, length: usize, at: Option<usize>, droppable: bool) -> Result<usize, Error> {
        let pages = length / PAGE_SIZE;
        if self.frames.free() < pages {
            return Err(Error::NoMemory);
        }
        self.map_each(pages, Protection::RW, at, Source::Fresh { droppable })
    }

    /// Maps pages in a row.
    fn map_each(
        &mut self,
        count: usize,
        protection: Protection,
        at: Option<usize>,
        source: Source,
    ) -> Result<usize, Error> {
        let tables = tables()?;
        let address = self.arena.take(count, at).ok_or(Error::NoMemory)?;
        for offset in (0..count * PAGE_SIZE).step_by(PAGE_SIZE) {
            let page = address + offset;
            let frame = match source {
                Source::Fresh { droppable } => self.frames.take(droppable),
                Source::Shown { from } => {
                    tables.frame(from + offset).filter(|frame| self.frames.share(*frame))
                }
            };
            let mapped = frame.ok_or(Error::NoMemory).and_then(|frame| {
                // SAFETY: `arena` has given the address to this mapping alone, and `frames` counts this page as one
                // that shows the frame.
                unsafe { tables.map(page, frame, protection) }.inspect_err(|_| self.frames.give_back(frame))
            });
            if let Err(error) = mapped {
                if page > address {
                    // SAFETY: this call has mapped the pages, and nobody else knows of them. What can't be unmapped
                    // is lost.
                    let _ = unsafe { tables.unmap(address..page, &mut |frame| self.frames.give_back(frame)) };
                }
                self.arena.give_back(address, count);
                return Err(error);
            }
        }
        Ok(address)
    }
}

/// Which frames pages are to show.
#[derive(Clone, Copy)]
enum Source {
    /// Free ones. Their contents may be dropped, or not.
    Fresh { droppable: bool },
    /// Those that the pages from an address on show.
    Shown { from: usize },
}

/// Writable views lie at the other end of the library's addresses, so that code is close to code.
const FAR_FROM_CODE: Option<usize> = Some(usize::MAX);

/// Maps the frames behind pages at another address.
///
/// # Safety
/// The pages are mapped.
unsafe fn show_again(source: Span, protection: Protection, at: Option<usize>) -> Result<usize, Error> {
    let shown = Source::Shown { from: source.start() };
    with_supply(|supply| supply.map_each(source.length() / PAGE_SIZE, protection, at, shown))
}

/// # Safety
/// As [`Pages::unmap`](execmem_core::platform::Pages::unmap).
pub(crate) unsafe fn unmap(pages: Span) -> Result<(), Error> {
    let tables = tables()?;
    with_supply(|supply| {
        // SAFETY: the caller says that the pages are ours and unused.
        unsafe { tables.unmap(pages.range(), &mut |frame| supply.frames.give_back(frame)) }?;
        supply.arena.give_back(pages.start(), pages.length() / PAGE_SIZE);
        Ok(())
    })
}

/// # Safety
/// As [`Pages::protect`](execmem_core::platform::Pages::protect).
pub(crate) unsafe fn protect(pages: Span, protection: Protection) -> Result<(), Error> {
    if protection.is_writable_code() {
        return Err(Error::Refused);
    }
    let tables = tables()?;
    // SAFETY: the caller says that the pages are ours and nothing relies on what they lose.
    with_supply(|_| unsafe { tables.protect(pages.range(), protection) })
}

/// Pages are always in memory and never written anywhere else, so little is left to do.
///
/// # Safety
/// As [`Pages::request`](execmem_core::platform::Pages::request).
pub(crate) unsafe fn request(pages: Span, request: PageRequest) -> Result<(), Error> {
    match request {
        // SAFETY: the caller says that the pages are ours, of one region, and that nothing relies on their contents.
        PageRequest::Advise(Advice::DontNeed) => unsafe { drop_contents(pages) },
        _ => Ok(()),
    }
}

/// Makes private memory zero again, through a view that only this function knows: the pages may not be
/// writable. Memory that was shared or came from a file keeps its contents.
///
/// # Safety
/// The pages are mapped, all of one kind, and nothing relies on their contents.
unsafe fn drop_contents(pages: Span) -> Result<(), Error> {
    let frame = tables()?.frame(pages.start()).ok_or(Error::NotFound)?;
    if !with_supply(|supply| Ok(supply.frames.is_droppable(frame)))? {
        return Ok(());
    }
    // SAFETY: the caller says that the pages are mapped. The view is as long, and this call's own.
    unsafe {
        let view = show_again(pages, Protection::RW, FAR_FROM_CODE)?;
        ptr::with_exposed_provenance_mut::<u8>(view).write_bytes(0, pages.length());
        unmap(Span::new(view as i64, pages.length() as i64)?)
    }
}
