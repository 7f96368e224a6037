//! Instruction caches of this core, and what other cores have fetched already.

use crate::mach::check;
use core::ffi::c_void;
use core::ptr;
use execmem_core::Error;
use mach2::mach_port::mach_port_deallocate;
use mach2::mach_types::thread_act_t;
use mach2::task::task_threads;
use mach2::thread_state::thread_get_register_pointer_values;
use mach2::traps::mach_task_self;
use mach2::vm::mach_vm_deallocate;

unsafe extern "C" {
    // libkern/OSCacheControl.h. The registers that the core's own code reads are closed to programs here.
    fn sys_icache_invalidate(start: *mut c_void, length: usize);
}

/// Makes instruction fetches at these addresses see what was stored, through whichever view: data caches
/// hold a line once for all its addresses (Arm ARM, D8.15), so only the executed address matters.
///
/// # Safety
/// The range is mapped and readable.
pub(crate) unsafe fn invalidate(executed: usize, length: usize) {
    // SAFETY: the caller says that the range is mapped and readable.
    unsafe { sys_icache_invalidate(ptr::with_exposed_provenance_mut(executed), length) };
}

/// More registers than any processor has: so many the kernel may tell us of.
const REGISTERS: usize = 128;

/// The kernel has no call for it. Asking for a thread's registers stops it for a moment, and a return from
/// the kernel makes its core fetch anew. .NET and OpenJDK make their process-wide barriers so.
pub(crate) fn synchronize() -> Result<(), Error> {
    let mut threads: *mut thread_act_t = ptr::null_mut();
    let mut count = 0;
    // SAFETY: the kernel writes to the two variables where it has allocated a list, and how long it is.
    check(unsafe { task_threads(mach_task_self(), &mut threads, &mut count) })?;
    let mut values = [0usize; REGISTERS];
    for index in 0..count as usize {
        let (mut stack, mut length) = (0, REGISTERS);
        // SAFETY: the kernel has made the list `count` threads long, and `values` has room for `length` of them. What
        // they are, and whether a thread has ended meanwhile, doesn't matter.
        unsafe {
            let thread = *threads.add(index);
            thread_get_register_pointer_values(thread, &mut stack, &mut length, values.as_mut_ptr());
            mach_port_deallocate(mach_task_self(), thread);
        }
    }
    // SAFETY: the kernel has allocated the list for this call, which doesn't use it any more.
    unsafe {
        let bytes = count as usize * size_of::<thread_act_t>();
        mach_vm_deallocate(mach_task_self(), threads.expose_provenance() as u64, bytes as u64);
    }
    Ok(())
}
