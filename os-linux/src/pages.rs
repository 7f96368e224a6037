//! Mapping pages, also twice and hardened, replacing them, and making them huge.

use crate::{copy, keys};
use core::ffi::{c_int, c_long, c_uint, c_ulong, c_void};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering};
use execmem_core::platform::{Memory, Views};
use execmem_core::unix::errno::{check, number, retried, translate};
use execmem_core::unix::pages::{native, page_size, pointer, protect, span, unmap, with_second_view};
use execmem_core::{Error, Hardening, Protection, Span};

pub(crate) fn map(length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
    let anonymous = |protection, flags| {
        let address = mmap(length, protection, flags | libc::MAP_ANONYMOUS, -1, at)?;
        Ok(Views { address, writable: 0 })
    };
    match memory {
        Memory::Private(protection) => anonymous(protection, libc::MAP_PRIVATE),
        Memory::Shared(protection) => anonymous(protection, libc::MAP_SHARED),
        Memory::Dual => map_dual(length, at),
        Memory::Jit => Err(Error::Unsupported),
    }
}

/// As [`Pages::map_hardened`](execmem_core::platform::Pages::map_hardened).
pub(crate) fn map_hardened(
    length: usize,
    memory: Memory,
    at: Option<usize>,
    hardening: Hardening,
) -> Result<Views, Error> {
    // SAFETY: mapped here, and nobody else knows of them. What can't be unmapped is lost.
    let give_up = |pages: Option<Span>| pages.into_iter().for_each(|pages| _ = unsafe { unmap(pages) });
    let has_guards = hardening.contains(Hardening::GUARDS);
    // First of all: what is mapped before it could lie where it has to be.
    let room = if has_guards { Some(room_for(length, at)?) } else { None };
    let give_room_up = || give_up(room.and_then(|room| whole(room, length).ok()));
    let views = map(length, memory, at.filter(|_| !has_guards)).inspect_err(|_| give_room_up())?;
    let (first, second) = (span(views.address, length)?, span(views.writable, length).ok());
    if let Some(view) = second.filter(|_| hardening.contains(Hardening::KEYS)) {
        // SAFETY: mapped above; who is given it knows of the key.
        let attached = unsafe { keys::attach(view) };
        attached.inspect_err(|_| {
            [Some(first), second].into_iter().for_each(give_up);
            give_room_up();
        })?;
    }
    let Some(room) = room else { return Ok(views) };
    // SAFETY: mapped above, and nobody else knows of them.
    unsafe {
        let address = guard(first, Ok(room)).inspect_err(|_| give_up(second))?;
        let writable = second.map_or(Ok(0), |view| guard(view, room_for(length, None)));
        let writable = writable.inspect_err(|_| give_up(whole(address, length).ok()))?;
        Ok(Views { address, writable })
    }
}

/// Addresses that nobody else has, for pages of so many bytes and a guard on each side. Where the pages go.
fn room_for(length: usize, at: Option<usize>) -> Result<usize, Error> {
    let (guard, flags) = (page_size(), libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    let start = mmap(length + 2 * guard, Protection::NONE, flags, -1, at.map(|at| at - guard))?;
    Ok(start + guard)
}

/// Moves pages into the middle of a [room](room_for). Of a mapping of its own, since a guard that is a part of shared
/// memory would keep all of that alive when other memory comes between the guards; and the middle keeps its place in
/// that memory, without which it could not be huge. If it fails, the pages and the room are unmapped. What can't be is lost.
///
/// # Safety
/// The pages and the room were mapped just now, and nobody else knows of them.
unsafe fn guard(pages: Span, room: Result<usize, Error>) -> Result<usize, Error> {
    let moved = room.and_then(|start| {
        // SAFETY: the caller gives both up.
        let moved = unsafe { move_onto(pages, start) }.map(|()| start);
        // SAFETY: the caller gives the room up.
        moved.inspect_err(|_| _ = whole(start, pages.length()).and_then(|whole| unsafe { unmap(whole) }))
    });
    // SAFETY: the caller gives the pages up.
    moved.inspect_err(|_| _ = unsafe { unmap(pages) })
}

/// A view with its guards.
fn whole(view: usize, length: usize) -> Result<Span, Error> {
    span(view - page_size(), length + 2 * page_size())
}

/// Where the main thread's stack ends, at most, and how many bytes below it may grow to; 0: not known.
static STACK: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// The kernel leaves as much room below the stack as its limit is when the program starts (`mmap_base`), and grows it
/// into that as long as nothing else is there. When the library is loaded the limit is still the same.
pub(crate) fn find_stack() {
    // SAFETY: has no preconditions (getauxval(3)). The bytes lie in the stack, above the program's own (binfmt_elf.c).
    let address = unsafe { libc::getauxval(libc::AT_RANDOM) } as usize;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is borrowed, and of the type that getrlimit(2) fills in. If it fails the limit is 0.
    unsafe { libc::getrlimit(libc::RLIMIT_STACK, &mut limit) };
    let room = usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX).min(MOST_STACK) + STACK_GAP;
    // What is loaded lies below that room, whatever became of the limit since the program's start.
    let here = (&raw const STACK).addr();
    let room = if here < address { room.min(address - here) } else { room };
    for (place, number) in STACK.iter().zip([address, room]) {
        place.store(number, Ordering::Relaxed);
    }
}

/// More than any stack takes: without a limit programs lie at the lower end of the addresses.
const MOST_STACK: usize = 64 << 30;
/// What the kernel keeps free below a stack (`stack_guard_gap`), where its pages have 4 KiB.
const STACK_GAP: usize = 1 << 20;

/// Whether the stack could not grow to its limit any more if something were here. The kernel would not say so: it ends
/// the process when the stack has to grow.
fn is_kept_for_stack(start: usize, length: usize) -> bool {
    let [end, room] = STACK.each_ref().map(|number| number.load(Ordering::Relaxed));
    start < end && end.saturating_sub(room) < start.saturating_add(length)
}

fn mmap(
    length: usize,
    protection: Protection,
    flags: c_int,
    file: c_int,
    at: Option<usize>,
) -> Result<usize, Error> {
    if at.is_some_and(|start| is_kept_for_stack(start, length)) {
        return Err(Error::NoMemory);
    }
    let (hint, fixed) = match at {
        // Kernels before 4.17 ignore the flag and take the address as a hint; the caller looks.
        Some(address) => (address, libc::MAP_FIXED_NOREPLACE),
        None => (0, 0),
    };
    match map_new(hint, length, protection, flags | fixed, file, 0) {
        // Somebody was faster: let the kernel choose, the caller looks and tries again.
        Err(libc::EEXIST) if at.is_some() => mmap(length, protection, flags, file, None),
        mapped => mapped.map_err(translate),
    }
}

/// `mmap(2)` itself, but never with MAP_FIXED: the address, or the kernel's own error number. The function of
/// musl calls the EPERM of an anonymous mapping ENOMEM, and a refusal is something else than a shortage.
pub(crate) fn map_new(
    hint: usize,
    length: usize,
    protection: Protection,
    flags: c_int,
    file: c_int,
    offset: u64,
) -> Result<usize, i32> {
    // All six as wide as a register: the function that makes the call reads them so.
    let [hint, length, offset] = [hint as i64, length as i64, offset as i64];
    let [protection, flags, file] = [native(protection), flags & !libc::MAP_FIXED, file].map(i64::from);
    // SAFETY: the kernel replaces no mapping with one that is not MAP_FIXED (mmap(2)).
    let call = || unsafe { libc::syscall(libc::SYS_mmap, hint, length, protection, flags, file, offset) };
    retried(|| call() as isize)
}

/// Two views of the same shared pages. Each is executable from its start or never, and no page is ever writable
/// and executable. Without a file if that can be: limits of file sizes and of descriptors, and systems where no
/// memory file may be executed (`vm.memfd_noexec`), are about files. Else of a memory file.
fn map_dual(length: usize, at: Option<usize>) -> Result<Views, Error> {
    // If neither works, the reason why the first doesn't is the one that says something of this system; but a shortage
    // passes.
    map_dual_without_file(length, at).or_else(|error| {
        map_dual_of_file(length, at).map_err(|other| if other == Error::NoMemory { other } else { error })
    })
}

/// An old size of 0 makes `mremap` map shared memory a second time (mremap(2)), with the same protection. That
/// view goes from read-execute to read-write before anybody has its address.
fn map_dual_without_file(length: usize, at: Option<usize>) -> Result<Views, Error> {
    let address = mmap(length, Protection::RX, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, at)?;
    let second = || {
        // SAFETY: the first view is shared memory, which this call has mapped.
        let writable = unsafe { map_again(span(address, length)?, None) }?;
        let view = span(writable, length)?;
        // SAFETY: the second view was mapped by this call too, and nobody else knows of it. If it can't be unmapped
        // it is lost.
        unsafe { protect(view, Protection::RW).map(|()| writable).inspect_err(|_| _ = unmap(view)) }
    };
    // SAFETY: the first view was mapped above, so long, and nobody else knows of it.
    unsafe { with_second_view(address, length, second) }
}

/// Where memory without a file may not be executed: SELinux asks for `execmem` then, and for `execute` on a file
/// (security/selinux/hooks.c, file_map_prot_check). And where `mremap` takes an old size of 0 for a mistake, as
/// qemu's user mode does.
fn map_dual_of_file(length: usize, at: Option<usize>) -> Result<Views, Error> {
    let file = memory_file(length)?;
    let views = mmap(length, Protection::RX, libc::MAP_SHARED, file, at).and_then(|address| {
        let second = || mmap(length, Protection::RW, libc::MAP_SHARED, file, None);
        // SAFETY: the first view was mapped just now, so long, and nobody else knows of it.
        unsafe { with_second_view(address, length, second) }
    });
    // SAFETY: `memory_file` opened the file, and nobody else has its number; the mappings keep the memory.
    unsafe { libc::close(file) };
    views
}

/// A memory file of this length that may be executed. `MFD_EXEC` says so to kernels that know it (6.3);
/// others need no saying and refuse the flag.
fn memory_file(length: usize) -> Result<c_int, Error> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is borrowed, and of the type that getrlimit(2) fills in.
    check(|| unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) })?;
    if limit.rlim_cur < length as libc::rlim_t {
        // Making the file so long would raise SIGXFSZ.
        return Err(Error::Refused);
    }
    let create = |flags: c_uint| {
        // SAFETY: a C string literal ends with its zero. (Called directly: old C libraries lack the function.)
        unsafe { libc::syscall(libc::SYS_memfd_create, c"execmem".as_ptr(), flags) as c_int }
    };
    let mut file = create(libc::MFD_CLOEXEC | libc::MFD_EXEC);
    if file < 0 && number() == libc::EINVAL {
        file = create(libc::MFD_CLOEXEC);
    }
    if file < 0 {
        return Err(translate(number()));
    }
    // SAFETY: this call has opened the file, and nobody has mapped it yet.
    check(|| unsafe { libc::ftruncate(file, length as libc::off_t) }).map(|()| file).inspect_err(|_| {
        // SAFETY: this call has opened the file, and nobody else has its number.
        unsafe { libc::close(file) };
    })
}

/// An old size of 0 makes `mremap` map shared memory a second time (mremap(2)).
///
/// # Safety
/// As [`Pages::map_again`](execmem_core::platform::Pages::map_again).
pub(crate) unsafe fn map_again(source: Span, onto: Option<usize>) -> Result<usize, Error> {
    let target: *mut c_void = ptr::with_exposed_provenance_mut(onto.unwrap_or(0));
    let flags = libc::MREMAP_MAYMOVE | if onto.is_some() { libc::MREMAP_FIXED } else { 0 };
    // SAFETY: the caller says that the source is shared memory of ours, and so are the pages at `onto`, which
    // the new mapping replaces.
    let call = || unsafe { libc::mremap(pointer(source), 0, source.length(), flags, target) };
    retried(|| call().expose_provenance() as isize).map_err(translate)
}

/// Of kernel 6.1 on; not every C library's header has it (linux/asm-generic/mman-common.h).
const MADV_COLLAPSE: c_int = 25;

/// A kernel that tells of it has the processor for it and knows PROT_BTI (Documentation/arch/arm64/elf_hwcaps.rst).
pub(crate) fn has_landing_pads() -> bool {
    const HWCAP2_BTI: c_ulong = 1 << 17;
    // SAFETY: has no preconditions (getauxval(3)).
    cfg!(target_arch = "aarch64") && unsafe { libc::getauxval(libc::AT_HWCAP2) } & HWCAP2_BTI != 0
}

/// `mseal(2)`, of kernel 6.10 on: the same number on every architecture.
const SYS_MSEAL: c_long = 462;

/// # Safety
/// As [`Pages::seal`](execmem_core::platform::Pages::seal).
pub(crate) unsafe fn seal(pages: Span) -> Result<(), Error> {
    // SAFETY: the caller says that nothing has to change the pages again; the call changes none.
    check(|| unsafe { libc::syscall(SYS_MSEAL, pointer(pages), pages.length(), 0) as c_int })
}

/// The kernel holds the address space's lock over all of it, so that threads which execute at `onto` wait, and it
/// checks its limits before it takes the old pages away (mm/mremap.c).
///
/// # Safety
/// As [`Pages::move_onto`](execmem_core::platform::Pages::move_onto).
pub(crate) unsafe fn move_onto(source: Span, onto: usize) -> Result<(), Error> {
    let target: *mut c_void = ptr::with_exposed_provenance_mut(onto);
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    let length = source.length();
    // SAFETY: the caller says that both are ours, and that what the target showed is not needed there any more.
    let call = || unsafe { libc::mremap(pointer(source), length, length, flags, target) };
    retried(|| call().expose_provenance() as isize).map(drop).map_err(translate)
}

/// Whether a forked child gets pages. The kernel notes it with a mapping, and passes it on to what `mremap` makes of that. To
/// be noted of pages alone, they may have to be parted from their neighbours, which it may refuse in the middle.
///
/// # Safety
/// The pages are ours, and stay so.
pub(crate) unsafe fn inherit(pages: Span, inherited: bool) -> Result<(), Error> {
    // SAFETY: the caller's promise; the advice leaves what the pages hold as it is (madvise(2)).
    let advise = |advice| check(|| unsafe { libc::madvise(pointer(pages), pages.length(), advice) });
    match inherited {
        true => advise(libc::MADV_DOFORK),
        false => advise(libc::MADV_DONTFORK).inspect_err(|_| _ = advise(libc::MADV_DOFORK)),
    }
}

/// What one table of the lowest level stands for: it is a page of eight-byte entries, on all our machines. `None` if the
/// kernel is older, was built without huge pages, or a filter keeps them from us.
pub(crate) fn huge_page() -> Option<usize> {
    const UNKNOWN: usize = 0;
    const NONE: usize = 1;
    static SIZE: AtomicUsize = AtomicUsize::new(UNKNOWN);
    let size = match SIZE.load(Ordering::Relaxed) {
        UNKNOWN => {
            // Of no bytes, the kernel says only whether it knows the advice.
            // SAFETY: it is about no pages.
            let known = retried(|| unsafe { libc::madvise(ptr::null_mut(), 0, MADV_COLLAPSE) } as isize);
            let size = known.map_or(NONE, |_| page_size() * (page_size() / size_of::<u64>()));
            SIZE.store(size, Ordering::Relaxed);
            size
        }
        size => size,
    };
    (size != NONE).then_some(size)
}

/// # Safety
/// As [`Pages::resident`](execmem_core::platform::Pages::resident).
pub(crate) unsafe fn resident(pages: Span) -> Result<usize, Error> {
    let mut present = [0u8; 1024];
    let (page_bits, mut count, mut start) = (page_size().ilog2(), 0, pages.start());
    while start < pages.end() {
        let length = (pages.end() - start).min(present.len() << page_bits);
        let address = ptr::with_exposed_provenance_mut(start);
        // SAFETY: the kernel stores a byte for each page, for which there is room, and looks at nothing else.
        check(|| unsafe { libc::mincore(address, length, present.as_mut_ptr().cast()) })?;
        count += present.iter().take(length >> page_bits).filter(|page| **page & 1 != 0).count();
        start += length;
    }
    Ok(count << page_bits)
}

/// # Safety
/// As [`Pages::make_huge`](execmem_core::platform::Pages::make_huge).
pub(crate) unsafe fn make_huge(pages: Span) -> Result<(), Error> {
    // Linux 6.12 makes shared memory huge, and says EINVAL all the same, where the process has no page table of its gibibyte
    // yet (`collapse_pte_mapped_thp` in mm/khugepaged.c; not seen on 6.18): code that was written by its other view, and has
    // not run. Bringing in the first page makes that table. If it fails, the advice tells why.
    // SAFETY: the caller says that the pages are mapped.
    let _ = unsafe { copy::populate(span(pages.start(), page_size())?, false) };
    // SAFETY: the caller says that the pages are ours and stay; the advice leaves their contents as they are.
    let collapse = || unsafe { libc::madvise(pointer(pages), pages.length(), MADV_COLLAPSE) };
    match retried(|| collapse() as isize) {
        Ok(_) => Ok(()),
        // The limit of the control group. (EAGAIN: the kernel is doing something else with one of the pages.)
        Err(libc::EBUSY) => Err(Error::NoMemory),
        // `prctl(PR_SET_THP_DISABLE)`, or how the pages lie.
        Err(libc::EINVAL) => Err(Error::Unsupported),
        Err(number) => Err(translate(number)),
    }
}
