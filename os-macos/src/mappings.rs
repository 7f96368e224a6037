//! What is mapped in this process, asked of the kernel one region at a time.
//!
//! The recursive form of the query is used since most of the system's own code is mapped through a map
//! that all processes share, which `mach_vm_region` shows as one region of little protection.

use crate::mach::check;
use core::ops::ControlFlow;
use execmem_core::platform::Mapping;
use execmem_core::{Error, Protection};
use mach2::kern_return::KERN_INVALID_ADDRESS;
use mach2::traps::mach_task_self;
use mach2::vm::mach_vm_region_recurse;
use mach2::vm_inherit::{VM_INHERIT_COPY, VM_INHERIT_NONE};
use mach2::vm_region::vm_region_submap_short_info_64;

/// Deeper than maps are ever nested.
const ANY_DEPTH: u32 = 1000;

/// Visits the regions from the one at `from`, or the next one, in address order.
pub(crate) fn visit(from: usize, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error> {
    let mut from = from;
    while let Some(region) = region(from)? {
        from = region.mapping.end;
        if visit(region.mapping).is_break() {
            break;
        }
    }
    Ok(())
}

/// What the kernel says of a region.
pub(crate) struct Region {
    pub(crate) mapping: Mapping,
    /// Whether it is memory of this process alone: no file behind it, and a child will have a copy. (Whether what a child
    /// doesn't get is shared, the kernel no longer knows.)
    pub(crate) is_private_memory: bool,
    /// Whether no child gets it.
    pub(crate) is_withheld: bool,
}

/// The region at an address. For a hole the kernel answers with the next one, and behind the last one with
/// *invalid address*.
///
/// The short form of the answer is asked for. For the long one the kernel looks at every page, and stops to look
/// for a file where a page was copied already.
pub(crate) fn region(address: usize) -> Result<Option<Region>, Error> {
    let mut start = address as u64;
    let mut size = 0;
    let mut depth = ANY_DEPTH;
    let mut info = vm_region_submap_short_info_64::default();
    let mut count = vm_region_submap_short_info_64::count();
    // SAFETY: the kernel writes to these variables, and of `info` no more than `count` says that there is.
    let result = unsafe {
        let info = (&raw mut info).cast();
        mach_vm_region_recurse(mach_task_self(), &mut start, &mut size, &mut depth, info, &mut count)
    };
    if result == KERN_INVALID_ADDRESS {
        return Ok(None);
    }
    check(result)?;
    let mapping = Mapping {
        start: start as usize,
        end: (start + size) as usize,
        // The bits are the contract's own.
        protection: Protection::from_bits_truncate(info.protection as u8 & 7),
    };
    let is_private_memory = info.external_pager == 0 && info.inheritance == VM_INHERIT_COPY;
    Ok(Some(Region { mapping, is_private_memory, is_withheld: info.inheritance == VM_INHERIT_NONE }))
}
