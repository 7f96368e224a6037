//! The set-up as a kernel in C does it, with page tables of this kernel's own behind C functions.

use crate::KERNEL_TABLES;
use crate::kernel_tables::KernelTables;
use crate::machine::{ADDRESSES, MEMORY};
use core::ffi::c_void;
use core::ops::Range;
use core::ptr::{null, null_mut};
use core::slice;
use execmem_core::abi::*;
use execmem_core::{Error, Protection};
use execmem_os_baremetal::aarch64::interrupt_others_by_gicv3;
use execmem_os_baremetal::c_setup::*;
use execmem_os_baremetal::{PAGE_SIZE, PageTables};

static SETUP: ExecmemSetup = ExecmemSetup {
    size: size_of::<ExecmemSetup>() as i64,
    context: (&raw const KERNEL_TABLES).cast_mut().cast(),
    tables: TABLES,
    memory_start: MEMORY.start as i64,
    memory_end: MEMORY.end as i64,
    addresses_start: ADDRESSES.start as i64,
    addresses_end: ADDRESSES.end as i64,
    print: Some(print),
    interrupt_others: Some(interrupt_others),
};

const TABLES: ExecmemPageTables = ExecmemPageTables {
    map: Some(map),
    protect: Some(protect),
    unmap: Some(unmap),
    frame: Some(frame),
    next: Some(next),
};

/// Sets the library up, after set-ups that can't be.
pub fn set_up() -> Result<(), Error> {
    expect(null(), RT_ERROR_INVALID_ARGUMENT);
    type Spoil = fn(&mut ExecmemSetup);
    let spoilt: [(Spoil, i32); 12] = [
        (|setup| setup.size -= 8, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.tables.map = None, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.tables.protect = None, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.tables.unmap = None, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.tables.frame = None, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.tables.next = None, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.memory_start = -(PAGE_SIZE as i64), RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.memory_end = setup.memory_start, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.addresses_end -= 1, RT_ERROR_INVALID_ARGUMENT),
        (|setup| setup.memory_end = setup.memory_start + PAGE_SIZE as i64, RT_ERROR_NO_MEMORY),
        (|setup| setup.tables.map = Some(map_nothing::<RT_ERROR_REFUSED>), RT_ERROR_REFUSED),
        // No error has this number.
        (|setup| setup.tables.map = Some(map_nothing::<1000>), RT_ERROR_IO),
    ];
    for (spoil, error) in spoilt {
        let mut setup = ExecmemSetup { ..SETUP };
        spoil(&mut setup);
        expect(&raw const setup, error);
    }
    // SAFETY: nobody else uses this memory or these addresses, and the functions do what they should.
    match unsafe { execmem_init(&SETUP) } {
        0 => Ok(()),
        error => Err(Error::from_code(error).expect("an error's number")),
    }
}

fn expect(setup: *const ExecmemSetup, error: i32) {
    // SAFETY: it fails.
    assert_eq!(unsafe { execmem_init(setup) }, error);
}

/// What a second set-up gives.
pub fn set_up_again() -> i32 {
    // SAFETY: the library refuses it, since it is set up.
    unsafe { execmem_init(&SETUP) }
}

/// Lets the library take files from an archive; where it is damaged, if it is.
pub fn set_archive(archive: &'static [u8]) -> Option<i64> {
    let mut damaged_at = -1;
    // SAFETY: a slice that stays, and a number of this function's.
    let results = unsafe {
        [
            execmem_set_archive(null(), 0, null_mut()),
            execmem_set_archive(archive.as_ptr(), -1, null_mut()),
            execmem_set_archive(archive.as_ptr(), archive.len() as i64, &mut damaged_at),
        ]
    };
    assert_eq!(results[..2], [RT_ERROR_INVALID_ARGUMENT; 2]);
    assert_eq!(results[2] == 0, damaged_at == -1);
    (results[2] != 0).then_some(damaged_at)
}

unsafe extern "C" fn map_nothing<const ERROR: i32>(_: *mut c_void, _: i64, _: i64, _: i32) -> i32 {
    ERROR
}

/// The tables that the context leads to.
unsafe fn tables<'a>(context: *mut c_void) -> &'a KernelTables {
    // SAFETY: the caller has it from the library, which has it from `SETUP`.
    unsafe { &*context.cast::<KernelTables>().cast_const() }
}

fn code(result: Result<(), Error>) -> i32 {
    result.map_or_else(|error| error as i32, |()| 0)
}

fn access(protection: i32) -> Protection {
    Protection::from_number(protection).expect("a protection")
}

fn range(start: i64, end: i64) -> Range<usize> {
    start as usize..end as usize
}

unsafe extern "C" fn map(context: *mut c_void, page: i64, frame: i64, protection: i32) -> i32 {
    // SAFETY: the library asks for what the trait allows it.
    code(unsafe { tables(context).map(page as usize, frame as usize, access(protection)) })
}

unsafe extern "C" fn protect(context: *mut c_void, start: i64, end: i64, protection: i32) -> i32 {
    // SAFETY: the library asks for what the trait allows it.
    code(unsafe { tables(context).protect(range(start, end), access(protection)) })
}

unsafe extern "C" fn unmap(
    context: *mut c_void,
    start: i64,
    end: i64,
    released: ExecmemReleased,
    to: *mut c_void,
) -> i32 {
    let released = released.expect("a function");
    // SAFETY: the library asks for what the trait allows it, and wants to be told of frames so.
    code(unsafe { tables(context).unmap(range(start, end), &mut |frame| released(to, frame as i64)) })
}

unsafe extern "C" fn frame(context: *mut c_void, page: i64) -> i64 {
    // SAFETY: the context is the setup's.
    unsafe { tables(context) }.frame(page as usize).map_or(-1, |frame| frame as i64)
}

unsafe extern "C" fn next(context: *mut c_void, from: i64, mapping: *mut ExecmemMapping) -> bool {
    // SAFETY: the context is the setup's.
    let Some(found) = unsafe { tables(context) }.next(from as usize) else { return false };
    let (start, end, protection) = (found.start as i64, found.end as i64, found.protection.bits().into());
    // SAFETY: the library gives a place for it.
    unsafe { *mapping = ExecmemMapping { start, end, protection } };
    true
}

unsafe extern "C" fn print(_: *mut c_void, text: *const u8, length: i64) {
    // SAFETY: the library lends so many bytes.
    crate::print(unsafe { slice::from_raw_parts(text, length as usize) });
}

unsafe extern "C" fn interrupt_others(_: *mut c_void) {
    interrupt_others_by_gicv3();
}
