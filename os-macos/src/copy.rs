//! Copying where pages of a mapped file may go: a file that somebody truncates takes them away from under a
//! load or a store, which then ends the process by SIGBUS.

use crate::mach::check;
use execmem_core::unix::pages::page_size;
use execmem_core::{Error, Span};
use mach2::traps::mach_task_self;
use mach2::vm::mach_vm_read_overwrite;

/// Lets the kernel copy: where a file has become too short for either side it is an error, not a signal.
///
/// # Safety
/// As [`Pages::copy_guarded`](execmem_core::platform::Pages::copy_guarded).
pub(crate) unsafe fn guarded(source: usize, target: usize, length: usize) -> Result<(), Error> {
    let (source, target, length) = (source as u64, target as u64, length as u64);
    let mut copied = 0;
    // SAFETY: the caller says that both ranges are mapped for so many bytes, and that nobody relies on the target. The
    // kernel takes its copy of the source before it stores to the target, so that the two may overlap.
    check(unsafe { mach_vm_read_overwrite(mach_task_self(), source, length, target, &mut copied) })
}

/// Lets the kernel read a byte of each page for us: an error, not a signal, where the file has shrunk. Pages
/// that can be read can also be stored to, as far as the file's length decides it.
pub(crate) fn populate(pages: Span) -> Result<(), Error> {
    let mut byte = 0u8;
    let target = (&raw mut byte).expose_provenance() as u64;
    for page in pages.range().step_by(page_size()) {
        let mut read = 0;
        // SAFETY: the kernel writes one byte to `byte`, or nothing, wherever it is to read.
        let result = unsafe { mach_vm_read_overwrite(mach_task_self(), page as u64, 1, target, &mut read) };
        check(result)?;
    }
    Ok(())
}
