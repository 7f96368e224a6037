//! Calls about this task to Mach, the part of the kernel below the C library.

use crate::mach::{self, INVALID_ARGUMENT, Kern, Remap, TASK};

fn kern(result: Result<(), Kern>) -> i32 {
    result.map_or_else(|error| error.0, |()| 0)
}

/// Calls about other tasks than this one are refused.
fn own(task: u32) -> Result<(), Kern> {
    if task == TASK { Ok(()) } else { Err(INVALID_ARGUMENT) }
}

pub(super) unsafe extern "C" fn mach_vm_remap(
    task: u32,
    target: *mut u64,
    size: u64,
    mask: u64,
    flags: i32,
    source_task: u32,
    source: u64,
    copy: i32,
    current: *mut i32,
    maximum: *mut i32,
    inheritance: u32,
) -> i32 {
    if mask != 0 || own(task).and(own(source_task)).is_err() {
        return INVALID_ARGUMENT.0;
    }
    let (size, source, copy) = (size as usize, source as usize, copy != 0);
    // SAFETY: the program gave room for the answers, and a wish in the first.
    kern(unsafe {
        let target_wish = target.read() as usize;
        let request = Remap { target: target_wish, size, flags, source, copy, inheritance };
        mach::remap(request).map(|(start, protection)| {
            target.write(start as u64);
            current.write(protection);
            maximum.write(7);
        })
    })
}

pub(super) extern "C" fn mach_vm_inherit(task: u32, address: u64, size: u64, inheritance: u32) -> i32 {
    kern(own(task).and_then(|()| mach::inherit(address as usize, size as usize, inheritance)))
}

/// `vm_region_submap_short_info_64` (`mach/vm_region.h`, packed to four bytes). The long form, for which the
/// kernel looks at every page, is not known here.
#[repr(C)]
pub(super) struct SubmapInfo {
    protection: i32,
    max_protection: i32,
    inheritance: u32,
    offset: [u32; 2],
    user_tag: u32,
    ref_count: u32,
    shadow_depth: u16,
    external_pager: u8,
    share_mode: u8,
    is_submap: i32,
    behavior: i32,
    object_id: u32,
    user_wired_count: u16,
    /// Only new kernels fill it in.
    flags: u16,
}

const _: () = assert!(size_of::<SubmapInfo>() == 48 && std::mem::offset_of!(SubmapInfo, share_mode) == 31);
const SUBMAP_INFO_COUNT: u32 = 12;
// The shortest count of the long form.
const LONG_SUBMAP_INFO_COUNT: u32 = 16;
// SM_PRIVATE and SM_TRUESHARED.
const PRIVATE: u8 = 2;
const TRUE_SHARED: u8 = 5;

pub(super) unsafe extern "C" fn mach_vm_region_recurse(
    task: u32,
    address: *mut u64,
    size: *mut u64,
    depth: *mut u32,
    info: *mut SubmapInfo,
    count: *mut u32,
) -> i32 {
    // SAFETY: the program gave room for the answers, and says how much for the last one.
    unsafe {
        if own(task).is_err() || !(SUBMAP_INFO_COUNT..LONG_SUBMAP_INFO_COUNT).contains(&count.read()) {
            return INVALID_ARGUMENT.0;
        }
        kern(mach::region(address.read() as usize).map(|found| {
            address.write(found.range.start as u64);
            size.write(found.range.len() as u64);
            depth.write(0);
            info.write(SubmapInfo {
                protection: found.protection,
                max_protection: 7,
                inheritance: found.inheritance,
                offset: [0; 2],
                user_tag: 0,
                ref_count: 1,
                shadow_depth: 0,
                external_pager: found.has_pager.into(),
                share_mode: if found.has_several_views { TRUE_SHARED } else { PRIVATE },
                is_submap: 0,
                behavior: 0,
                object_id: 0,
                user_wired_count: 0,
                flags: 0,
            });
        }))
    }
}

pub(super) unsafe extern "C" fn mach_vm_read_overwrite(
    task: u32,
    address: u64,
    size: u64,
    target: u64,
    read: *mut u64,
) -> i32 {
    kern(own(task).and_then(|()| {
        mach::read_overwrite(address as usize, size as usize, target as usize)?;
        // SAFETY: the program gave room for the answer.
        unsafe { read.write(size) };
        Ok(())
    }))
}

pub(super) extern "C" fn mach_vm_deallocate(task: u32, address: u64, size: u64) -> i32 {
    kern(own(task).and_then(|()| mach::give_back_list(address as usize, size as usize)))
}

pub(super) extern "C" fn mach_port_deallocate(task: u32, port: u32) -> i32 {
    kern(own(task).and_then(|()| mach::give_back_port(port)))
}

pub(super) unsafe extern "C" fn task_threads(task: u32, list: *mut usize, count: *mut u32) -> i32 {
    kern(own(task).and_then(|()| {
        let (threads, number) = mach::task_threads()?;
        // SAFETY: the program gave room for the answers.
        unsafe {
            list.write(threads);
            count.write(number);
        }
        Ok(())
    }))
}

pub(super) unsafe extern "C" fn thread_get_register_pointer_values(
    thread: u32,
    stack: *mut usize,
    length: *mut usize,
    values: *mut usize,
) -> i32 {
    // SAFETY: the program gave room for the answers, and says how much.
    unsafe {
        if length.read() < 32 {
            return 52; // KERN_INSUFFICIENT_BUFFER_SIZE
        }
        length.write(1);
        stack.write(0);
        values.write(0);
    }
    kern(mach::interrupt(thread))
}
